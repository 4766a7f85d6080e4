"""The StyleGAN2 generator: a mapping network `z → w` and a synthesis network `w → image` with skip outputs.

Parameters and buffers carry the names of the official state_dict, so that converted weights load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from goembed_stylegan_synth.layers import (
    LRELU_GAIN,
    LRELU_SLOPE,
    FullyConnected,
    autocast_dtype,
    binomial_filter,
    demodulation,
    modulated_pointwise,
    normalize_second_moment,
    styled_conv2d,
    upsample2d,
    without_overflow,
)

Noise = Literal["const", "none"] | Sequence[Tensor]  # a sequence: one (B, 1, R, R) per convolution


class MappingNetwork(nn.Module):
    """`w = f(z)`: fully connected layers on the normalised `z`, and the running mean of `w` for truncation."""

    def __init__(self, z_dim: int, w_dim: int, num_layers: int, lr_multiplier: float = 0.01):
        super().__init__()
        self.z_dim, self.w_dim, self.num_layers = z_dim, w_dim, num_layers
        for index in range(num_layers):
            layer = FullyConnected(z_dim if index == 0 else w_dim, w_dim, activate=True, lr_multiplier=lr_multiplier)
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Float[Tensor, "batch z_dim"]) -> Float[Tensor, "batch w_dim"]:
        with without_autocast(z.device):
            w = normalize_second_moment(z.to(self.w_avg.dtype))
            for index in range(self.num_layers):
                w = self.get_submodule(f"fc{index}")(w)
            return w

    def track_average(self, w: Float[Tensor, "batch w_dim"], decay: float = 0.995) -> None:
        """`w_avg ← decay · w_avg + (1 − decay) · mean(w)`."""
        self.w_avg.lerp_(w.detach().float().mean(dim=0), 1 - decay)


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution, noise, bias, leaky ReLU and clamp."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, *, up: bool, clamp: float | None
    ):
        super().__init__()
        self.resolution, self.up, self.clamp = resolution, up, clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", binomial_filter())
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(
        self,
        x: Float[Tensor, "batch in height width"],
        w: Float[Tensor, "batch w_dim"],
        noise: Float[Tensor, "#batch 1 new_height new_width"] | None,
    ) -> Float[Tensor, "batch out new_height new_width"]:
        weight, styles = self.weight, self.affine(w)
        if x.dtype == torch.float16:
            weight, styles = without_overflow(weight, styles)
        x = styled_conv2d(x, weight, styles, self.resample_filter if self.up else None)
        # Demodulation, bias and the gain of the activation in one pass over the pixels.
        scale = (demodulation(weight, styles) * LRELU_GAIN).to(x.dtype)[:, :, None, None]
        shift = (self.bias * LRELU_GAIN).to(x.dtype)[None, :, None, None]
        x = torch.addcmul(shift, x, scale)
        if noise is not None:
            x = x + (noise * (self.noise_strength * LRELU_GAIN)).to(x.dtype)
        x = leaky_relu(x, LRELU_SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution without demodulation: what a block adds to the image."""

    def __init__(self, in_channels: int, img_channels: int, w_dim: int, *, clamp: float | None):
        super().__init__()
        self.clamp = clamp
        self.style_gain = 1 / math.sqrt(in_channels)
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))

    def forward(
        self, x: Float[Tensor, "batch in height width"], w: Float[Tensor, "batch w_dim"]
    ) -> Float[Tensor, "batch img_channels height width"]:
        y = modulated_pointwise(x, self.weight[:, :, 0, 0], self.affine(w) * self.style_gain)
        y = y.to(self.bias.dtype) + self.bias[None, :, None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: two styled convolutions (one, on a learnt constant, at 4×4) and the image added so far."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, img_channels: int, clamp: float | None
    ):
        super().__init__()
        self.is_first = in_channels == 0
        self.num_convs = 1 if self.is_first else 2
        self.register_buffer("resample_filter", binomial_filter())
        if self.is_first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True, clamp=clamp)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, up=False, clamp=clamp)
        self.torgb = ToRGB(out_channels, img_channels, w_dim, clamp=clamp)

    def forward(
        self,
        x: Float[Tensor, "batch in height width"] | None,
        image: Float[Tensor, "batch img_channels height width"] | None,
        ws: Float[Tensor, "batch num w_dim"],
        noises: Sequence[Tensor | None],
        dtype: torch.dtype,
    ) -> tuple[
        Float[Tensor, "batch out new_height new_width"], Float[Tensor, "batch img_channels new_height new_width"]
    ]:
        """Consumes `num_convs + 1` rows of `ws`; the last one is shared with the next block's first convolution."""
        if x is None:
            x = self.const.to(dtype).expand(len(ws), *self.const.shape)
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(x.to(dtype), ws[:, 0], noises[0])
        x = self.conv1(x, ws[:, self.num_convs - 1], noises[-1])
        rgb = self.torgb(x, ws[:, self.num_convs])
        return x, rgb if image is None else upsample2d(image, self.resample_filter) + rgb


class SynthesisNetwork(nn.Module):
    """`image = g(w)`: blocks from 4×4 to the resolution, whose images are summed (the skip architecture)."""

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        img_channels: int,
        channels: dict[int, int],
        clamp: float | None,
        num_low_precision: int = 4,
    ):
        super().__init__()
        self.w_dim, self.resolution, self.img_channels = w_dim, resolution, img_channels
        self.num_low_precision = num_low_precision
        self.resolutions = tuple(channels)
        for index, side in enumerate(self.resolutions):
            in_channels = 0 if index == 0 else channels[self.resolutions[index - 1]]
            block = SynthesisBlock(in_channels, channels[side], w_dim, side, img_channels, clamp)
            self.add_module(f"b{side}", block)
        self.num_ws = 2 * len(self.resolutions)

    def noise_sides(self) -> list[int]:
        """The side in pixels of the noise of each convolution, in order."""
        return [side for side in self.resolutions for _ in range(self.get_submodule(f"b{side}").num_convs)]

    def draw_noise(self, random: ItemRandom) -> list[Float[Tensor, "batch 1 side side"]]:
        """Standard normal noise for every convolution, one draw per item."""
        sides = self.noise_sides()
        flat = random.randn(sum(side**2 for side in sides)).split([side**2 for side in sides], dim=1)
        return [noise.reshape(-1, 1, side, side) for noise, side in zip(flat, sides, strict=True)]

    def forward(
        self,
        ws: Float[Tensor, "batch num_ws w_dim"],
        noise: Noise = "const",
        low_precision: torch.dtype | None = None,
    ) -> Float[Tensor, "batch img_channels resolution resolution"]:
        """The image, about in [-1, 1] and not clamped.

        **Arguments:**
        - `low_precision`: dtype of the `num_low_precision` highest resolutions; autocast's if that is on.
        """
        dtype = self.b4.const.dtype
        low_precision = autocast_dtype(ws.device, low_precision) or dtype
        x = image = None
        done = 0  # convolutions
        with without_autocast(ws.device):
            for index, side in enumerate(self.resolutions):
                block = self.get_submodule(f"b{side}")
                is_low = index >= len(self.resolutions) - self.num_low_precision
                rows = ws[:, done : done + block.num_convs + 1].to(dtype)
                noises = self._block_noises(block, noise, done)
                x, image = block(x, image, rows, noises, low_precision if is_low else dtype)
                done += block.num_convs
        return image

    def _block_noises(self, block: SynthesisBlock, noise: Noise, first: int) -> list[Tensor | None]:
        if noise == "none":
            return [None] * block.num_convs
        if noise == "const":
            layers = [block.conv1] if block.is_first else [block.conv0, block.conv1]
            return [layer.noise_const[None, None] for layer in layers]
        return list(noise[first : first + block.num_convs])


def channels_by_resolution(resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Channels at 4×4, 8×8, … `resolution`: `min(channel_base / side, channel_max)`."""
    sides = [2**k for k in range(2, int(math.log2(resolution)) + 1)]
    return {side: min(channel_base // side, channel_max) for side in sides}


class Generator(nn.Module):
    """`mapping` and `synthesis` together: `z → w → image`, with truncation towards the mean `w`."""

    def __init__(
        self,
        *,
        resolution: int,
        img_channels: int,
        z_dim: int,
        w_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_max: int,
        conv_clamp: float | None,
        num_low_precision: int = 4,
    ):
        super().__init__()
        channels = channels_by_resolution(resolution, channel_base, channel_max)
        self.synthesis = SynthesisNetwork(w_dim, resolution, img_channels, channels, conv_clamp, num_low_precision)
        self.mapping = MappingNetwork(z_dim, w_dim, mapping_layers)

    @property
    def num_ws(self) -> int:
        return self.synthesis.num_ws

    def broadcast(
        self,
        w: Float[Tensor, "batch w_dim"],
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "batch num_ws w_dim"]:
        """`w` for every layer; the first `truncation_cutoff` of them (all, if None) as `w_avg + ψ (w − w_avg)`."""
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        truncated = self.mapping.w_avg.lerp(ws, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], ws[:, truncation_cutoff:]], dim=1)

    def forward(
        self,
        z: Float[Tensor, "batch z_dim"],
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: Noise = "const",
        low_precision: torch.dtype | None = None,
    ) -> Float[Tensor, "batch img_channels resolution resolution"]:
        ws = self.broadcast(self.mapping(z), truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise, low_precision)
