"""The StyleGAN2 discriminator: residual blocks onto half the side each, minibatch standard deviation, one logit."""

from __future__ import annotations

import math

import torch
from goembed_core.precision import without_autocast
from jaxtyping import Float
from torch import Tensor, nn

from goembed_stylegan_synth.layers import EPSILON, Conv, FullyConnected, autocast_dtype, binomial_filter
from goembed_stylegan_synth.networks import channels_by_resolution


def minibatch_std(
    x: Float[Tensor, "batch channels height width"], group_size: int
) -> Float[Tensor, "batch channels_plus_one height width"]:
    """Appends a channel with the mean standard deviation within groups of items: the batch's own diversity.

    The groups are strided (items `m, m + B/G, m + 2B/G, …`) and as large as divides the batch, at most `group_size`.
    """
    batch, channels, height, width = x.shape
    group = math.gcd(batch, group_size)
    y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, -1, channels, height, width)
    y = (y - y.mean(dim=0)).square().mean(dim=0)  # faster than var along the first dimension
    y = (y + EPSILON).sqrt().mean(dim=(1, 2, 3))
    y = y.to(x.dtype).repeat(group)[:, None, None, None].expand(-1, -1, height, width)
    return torch.cat([x, y], dim=1)


class DiscriminatorBlock(nn.Module):
    """`(skip(x) + conv1(conv0(x))) / sqrt 2`, onto half the side; the first block also reads the image."""

    def __init__(self, in_channels: int, out_channels: int, img_channels: int | None, clamp: float | None):
        super().__init__()
        self.register_buffer("resample_filter", binomial_filter())
        self.fromrgb = None if img_channels is None else Conv(img_channels, in_channels, 1, clamp=clamp)
        self.conv0 = Conv(in_channels, in_channels, 3, clamp=clamp)
        self.conv1 = Conv(in_channels, out_channels, 3, down=True, clamp=clamp, gain=math.sqrt(0.5))
        self.skip = Conv(in_channels, out_channels, 1, down=True, bias=False, activate=False, gain=math.sqrt(0.5))

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out new_height new_width"]:
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        return self.skip(x) + self.conv1(self.conv0(x))


class DiscriminatorEpilogue(nn.Module):
    """From 4×4 features to one logit."""

    def __init__(self, channels: int, group_size: int, clamp: float | None):
        super().__init__()
        self.group_size = group_size
        self.conv = Conv(channels + (group_size > 1), channels, 3, clamp=clamp)
        self.fc = FullyConnected(channels * 16, channels, activate=True)
        self.out = FullyConnected(channels, 1)

    def forward(self, x: Float[Tensor, "batch channels 4 4"]) -> Float[Tensor, " batch"]:
        x = minibatch_std(x, self.group_size) if self.group_size > 1 else x
        # The official weights expect the flattening in NCHW order; in the parameters' precision from here on.
        x = self.conv(x).to(self.out.weight.dtype).contiguous().flatten(start_dim=1)
        return self.out(self.fc(x)).squeeze(1)


class Discriminator(nn.Module):
    """`D(image)`: one logit per image, positive for real ones."""

    def __init__(
        self,
        *,
        resolution: int,
        img_channels: int,
        channel_base: int,
        channel_max: int,
        conv_clamp: float | None,
        mbstd_group_size: int = 4,
        num_low_precision: int = 4,
    ):
        super().__init__()
        channels = channels_by_resolution(resolution, channel_base, channel_max)
        self.num_low_precision = num_low_precision
        self.resolutions = tuple(reversed(channels))[:-1]
        for index, side in enumerate(self.resolutions):
            reads = img_channels if index == 0 else None
            self.add_module(f"b{side}", DiscriminatorBlock(channels[side], channels[side // 2], reads, conv_clamp))
        self.b4 = DiscriminatorEpilogue(channels[4], mbstd_group_size, conv_clamp)

    def forward(
        self,
        images: Float[Tensor, "batch img_channels resolution resolution"],
        low_precision: torch.dtype | None = None,
    ) -> Float[Tensor, " batch"]:
        """Logits of images; `low_precision` as in the synthesis network."""
        dtype = self.b4.out.weight.dtype
        low_precision = autocast_dtype(images.device, low_precision) or dtype
        x = images.contiguous(memory_format=torch.channels_last)
        with without_autocast(images.device):
            for index, side in enumerate(self.resolutions):
                is_low = index < self.num_low_precision
                x = self.get_submodule(f"b{side}")(x.to(low_precision if is_low else dtype))
            return self.b4(x.to(dtype))
