"""The Inception-v3 of the FID (Szegedy et al. 2015; the weights that Heusel et al. 2017 measured with).

It differs from torchvision's in its weights, in average pools that do not count the padding, and in one maximum pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_core.errors import UserError
from goembed_core.metrics.config import InceptionConfig
from goembed_core.metrics.features import as_rgb
from goembed_core.metrics.frozen_norm import FrozenBatchNorm
from goembed_core.metrics.weights import fill, read_weights

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
RESOLUTION = 299
Steps = Sequence["str | tuple[str, ...] | Callable[[Tensor], Tensor]"]

_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_halve = partial(F.max_pool2d, kernel_size=3, stride=2)


class Inception(nn.Module):
    """2048 pooled features: the Fréchet distance in them is the FID.

    Parameters are frozen and batch norms always use their stored statistics; differentiable in the images.
    """

    name = "inception"
    num_features = 2048

    def __init__(self, config: InceptionConfig | None = None):
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _mixed_a(192, 32), _mixed_a(256, 64), _mixed_a(288, 64)
        self.Mixed_6a = _mixed_b(288)
        self.Mixed_6b, self.Mixed_6c = _mixed_c(128), _mixed_c(160)
        self.Mixed_6d, self.Mixed_6e = _mixed_c(160), _mixed_c(192)
        self.Mixed_7a = _mixed_d()
        self.Mixed_7b, self.Mixed_7c = _mixed_e(1280, _average), _mixed_e(2048, _maximum)
        self.fc = nn.Linear(2048, 1008)
        self._load(config or InceptionConfig())
        self.requires_grad_(False)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 2048"]:
        """Features of images in [-1, 1], grey or RGB, resized to 299x299 (bilinear, not antialiased, as published)."""
        x = F.interpolate(as_rgb(images, self.name), (RESOLUTION, RESOLUTION), mode="bilinear", align_corners=False)
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    def _load(self, config: InceptionConfig) -> None:
        path = config.weights or os.environ.get("GOEMBED_INCEPTION_WEIGHTS")
        if path is None:
            raise UserError(
                "feature network 'inception' needs the FID's own weights, which do not come with goembed: fetch "
                f"{URL} and name the file in GOEMBED_INCEPTION_WEIGHTS or in the network's setting `weights`"
            )
        fill(self, read_weights(path), self.name, path)


class Convolution(nn.Module):
    """Convolution, batch norm, rectifier."""

    def __init__(self, channels: int, out: int, kernel, stride: int = 1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = FrozenBatchNorm(out, eps=1e-3)

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n out height2 width2"]:
        """Features to features."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side.

    **Arguments:**
    - `convolutions`: by name.
    - `branches`: the steps of each: the name of a convolution, a tuple of names (both applied, joined), or a pool.
    """

    def __init__(self, convolutions: Mapping[str, Convolution], branches: Sequence[Steps]):
        super().__init__()
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)
        self.branches = branches

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n out height2 width2"]:
        """Features to features."""
        return torch.cat([self._branch(x, steps) for steps in self.branches], 1)

    def _branch(self, x: Tensor, steps: Steps) -> Tensor:
        for step in steps:
            if isinstance(step, tuple):
                x = torch.cat([self.get_submodule(name)(x) for name in step], 1)
            else:
                x = self.get_submodule(step)(x) if isinstance(step, str) else step(x)
        return x


def _chain(name: str, channels: int, *layers: tuple) -> dict[str, Convolution]:
    """`name_1`, `name_2`, …: each layer is (channels out, kernel, stride); padded to keep the size unless strided."""
    chain = {}
    for index, (out, kernel, stride) in enumerate(layers, 1):
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if stride == 1 else 0
        chain[f"{name}_{index}"] = Convolution(channels, out, (height, width), stride, padding)
        channels = out
    return chain


def _mixed_a(channels: int, pooled: int) -> Mixed:
    five = _chain("branch5x5", channels, (48, 1, 1), (64, 5, 1))
    three = _chain("branch3x3dbl", channels, (64, 1, 1), (96, 3, 1), (96, 3, 1))
    ends = {"branch1x1": Convolution(channels, 64, 1), "branch_pool": Convolution(channels, pooled, 1)}
    return Mixed(ends | five | three, [["branch1x1"], [*five], [*three], [_average, "branch_pool"]])


def _mixed_b(channels: int) -> Mixed:
    three = _chain("branch3x3dbl", channels, (64, 1, 1), (96, 3, 1), (96, 3, 2))
    return Mixed({"branch3x3": Convolution(channels, 384, 3, 2)} | three, [["branch3x3"], [*three], [_halve]])


def _mixed_c(inner: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    seven = _chain("branch7x7", 768, (inner, 1, 1), (inner, row, 1), (192, column, 1))
    layers = [(inner, 1, 1), (inner, column, 1), (inner, row, 1), (inner, column, 1), (192, row, 1)]
    double = _chain("branch7x7dbl", 768, *layers)
    ends = {"branch1x1": Convolution(768, 192, 1), "branch_pool": Convolution(768, 192, 1)}
    return Mixed(ends | seven | double, [["branch1x1"], [*seven], [*double], [_average, "branch_pool"]])


def _mixed_d() -> Mixed:
    three = _chain("branch3x3", 768, (192, 1, 1), (320, 3, 2))
    seven = _chain("branch7x7x3", 768, (192, 1, 1), (192, (1, 7), 1), (192, (7, 1), 1), (192, 3, 2))
    return Mixed(three | seven, [[*three], [*seven], [_halve]])


def _mixed_e(channels: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    row, column = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    convolutions = {
        "branch1x1": Convolution(channels, 320, 1),
        "branch3x3_1": Convolution(channels, 384, 1),
        "branch3x3_2a": Convolution(384, 384, *row),
        "branch3x3_2b": Convolution(384, 384, *column),
        **_chain("branch3x3dbl", channels, (448, 1, 1), (384, 3, 1)),
        "branch3x3dbl_3a": Convolution(384, 384, *row),
        "branch3x3dbl_3b": Convolution(384, 384, *column),
        "branch_pool": Convolution(channels, 192, 1),
    }
    three = ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")]
    double = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return Mixed(convolutions, [["branch1x1"], three, double, [pool, "branch_pool"]])
