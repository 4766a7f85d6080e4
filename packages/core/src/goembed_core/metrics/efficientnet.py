"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of 2020) as a feature network."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_core.errors import UserError
from goembed_core.metrics.config import EfficientNetLite0Config
from goembed_core.metrics.features import as_rgb
from goembed_core.metrics.frozen_norm import FrozenBatchNorm
from goembed_core.metrics.weights import data_file, fill, read_weights

DATA_FILE = "efficientnet_lite0/efficientnet_lite0_imagenet_fp16.npz"
RESOLUTION = 224
STAGES = (  # blocks, kernel, stride of the first, expansion, channels out (EfficientNet table 1)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """1280 pooled ImageNet features.  A distance measured in them is no FID and compares with none.

    The Lite variant has ReLU6 for swish and no squeeze-and-excitation.  Parameters are frozen and batch norms always
    use their stored statistics; differentiable in the images.
    """

    name = "efficientnet-lite0"
    num_features = 1280

    def __init__(self, config: EfficientNetLite0Config | None = None):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn0 = _norm(32)
        blocks, channels = [], 32
        for count, kernel, stride, expansion, out in STAGES:
            for index in range(count):
                blocks.append(Block(channels, out, kernel, stride if index == 0 else 1, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(channels, self.num_features, 1, bias=False)
        self.bn1 = _norm(self.num_features)
        self.fc = nn.Linear(self.num_features, 1000)
        self._load(config or EfficientNetLite0Config())
        self.requires_grad_(False)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 1280"]:
        """Features of images in [-1, 1], grey or RGB, resized to 224x224 (bilinear, antialiased)."""
        x = as_rgb(images, self.name)
        if x.shape[2:] != (RESOLUTION, RESOLUTION):
            x = F.interpolate(x, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True, align_corners=False)
        x = (x * 127.5 + 0.5) / 128  # the network wants (level − 127) / 128 of levels 0…255
        x = F.relu6(self.bn0(self.conv_stem(same_padding(x, self.conv_stem))))
        x = F.relu6(self.bn1(self.conv_head(self.blocks(x))))
        return x.mean((2, 3))

    def logits(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 1000"]:
        """The unnormalised log-probability of each ImageNet class."""
        return self.fc(self(images))

    def _load(self, config: EfficientNetLite0Config) -> None:
        path = config.weights or data_file(DATA_FILE)
        if path is None:
            raise UserError(
                f"feature network {self.name!r} needs its ImageNet weights: set GOEMBED_DATA to a folder with "
                f"{DATA_FILE}, or give their file as the network's setting `weights`"
            )
        # the file's names have underscores in front: _blocks.0._bn1.weight
        state = {".".join(p.lstrip("_") for p in key.split(".")): value for key, value in read_weights(path).items()}
        fill(self, state, self.name, path)


class Block(nn.Module):
    """An inverted bottleneck: expand, convolve each channel by itself, project (MobileNetV2)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self.expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self.bn0 = _norm(wide)
        self.depthwise_conv = nn.Conv2d(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self.bn1 = _norm(wide)
        self.project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self.bn2 = _norm(out)
        self.expands, self.skips = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n out height2 width2"]:
        """Features to features."""
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise_conv(same_padding(y, self.depthwise_conv))))
        y = self.bn2(self.project_conv(y))
        return x + y if self.skips else y


def _norm(channels: int) -> FrozenBatchNorm:
    return FrozenBatchNorm(channels, eps=1e-3)


def same_padding(x: Float[Tensor, "n channels height width"], conv: nn.Conv2d) -> Tensor:
    """Zeros as TensorFlow's SAME puts them: `⌈size / stride⌉` outputs, the odd zero at the right and the bottom."""
    pads = []
    for size, kernel, stride in zip(
        reversed(x.shape[2:]), reversed(conv.kernel_size), reversed(conv.stride), strict=True
    ):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)
