"""The layers of StyleGAN2 (Karras et al. 2020) with equalised learning rates, in plain PyTorch.

Convolutions run in channels_last and, where asked, in bfloat16; styles and demodulation always stay in the parameters'
own precision.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)  # keeps the second moment of a normal input
EPSILON = 1e-8


def normalize_second_moment(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
    """`x / sqrt(mean(x²))` of each row."""
    return x * (x.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


def binomial_filter() -> Float[Tensor, "4 4"]:
    """The 4×4 low-pass filter `[1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64`."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / taps.sum().square()


def filter2d(
    x: Float[Tensor, "batch channels height width"],
    kernel: Float[Tensor, "kh kw"],
    *,
    padding: int,
    stride: int = 1,
    gain: float = 1.0,
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Every channel filtered by the same symmetric kernel: one depthwise convolution, fast in channels_last."""
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, padding=padding, stride=stride, groups=channels)


def upsample2d(
    x: Float[Tensor, "batch channels height width"], kernel: Float[Tensor, "4 4"]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Twice the side: zeros in between, then the low-pass filter with gain 4, as a transposed convolution."""
    channels = x.shape[1]
    weight = (kernel * 4).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def downsample2d(
    x: Float[Tensor, "batch channels height width"], kernel: Float[Tensor, "4 4"]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Half the side: the low-pass filter, then every second pixel."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:  # oneDNN's strided depthwise bfloat16 is 5x slower
        return filter2d(x, kernel, padding=1)[:, :, ::2, ::2]
    return filter2d(x, kernel, padding=1, stride=2)


def demodulation(
    weight: Float[Tensor, "out in kh kw"], styles: Float[Tensor, "batch in"]
) -> Float[Tensor, "batch out"]:
    """`d_o = 1 / sqrt(Σ_{i,k} (w_{oik} s_i)²)` (StyleGAN2 eq. 3) as one matrix product, without weights per sample."""
    energy = weight.square().sum(dim=(2, 3))
    return (styles.square() @ energy.t() + EPSILON).rsqrt()


def autocast_dtype(device: torch.device, given: torch.dtype | None) -> torch.dtype | None:
    """The dtype of an enclosing autocast, else the given one; the networks choose what may lose precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.get_autocast_dtype(device.type) if available and torch.is_autocast_enabled(device.type) else given


def without_overflow(
    weight: Float[Tensor, "out in kh kw"], styles: Float[Tensor, "batch in"]
) -> tuple[Float[Tensor, "out in kh kw"], Float[Tensor, "batch in"]]:
    """Both scaled so that a convolution stays in float16's range; the demodulation that follows undoes the scaling."""
    fan_in = weight[0].numel()
    weight = weight / (weight.abs().amax(dim=(1, 2, 3), keepdim=True) * math.sqrt(fan_in))
    return weight, styles / styles.abs().amax(dim=1, keepdim=True)


def styled_conv2d(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in kh kw"],
    styles: Float[Tensor, "batch in"],
    up_filter: Float[Tensor, "4 4"] | None = None,
) -> Float[Tensor, "batch out new_height new_width"]:
    """`conv(x · s, w)`, with `up_filter` onto twice the side; demodulation is the caller's, to fuse with the bias.

    The scaled form: scaling the input instead of the weight gives the same result, needs no weights per sample
    and no grouped convolution.
    """
    x = x * styles.to(x.dtype)[:, :, None, None]
    # Weights in channels_last too, or oneDNN reorders both operands.
    weight = weight.to(x.dtype, memory_format=torch.channels_last)
    if up_filter is None:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return filter2d(x, up_filter, padding=1, gain=4)


def modulated_conv2d(
    x: Float[Tensor, "batch in height width"],
    weight: Float[Tensor, "out in kh kw"],
    styles: Float[Tensor, "batch in"],
    *,
    demodulate: bool = True,
    up_filter: Float[Tensor, "4 4"] | None = None,
) -> Float[Tensor, "batch out new_height new_width"]:
    """Modulated and demodulated convolution (StyleGAN2 eqs. 1 and 3), `d · conv(x · s, w)`."""
    y = styled_conv2d(x, weight, styles, up_filter)
    return y * demodulation(weight, styles).to(y.dtype)[:, :, None, None] if demodulate else y


def modulated_pointwise(
    x: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in"], styles: Float[Tensor, "batch in"]
) -> Float[Tensor, "batch out height width"]:
    """Modulated 1×1 convolution without demodulation: a small matrix per sample, no scaled copy of `x`."""
    height, width = x.shape[2:]
    per_sample = (weight * styles[:, None, :]).to(x.dtype)
    y = x.permute(0, 2, 3, 1).flatten(1, 2) @ per_sample.transpose(1, 2)
    return y.unflatten(1, (height, width)).permute(0, 3, 1, 2)


class FullyConnected(nn.Module):
    """`act(W x + b)` with equalised learning rate: the stored weight is `N(0, 1) / lr_multiplier`, scaled when used."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activate: bool = False,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.activate = activate
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(y, LRELU_SLOPE) * LRELU_GAIN if self.activate else y


class Conv(nn.Module):
    """`act(conv(x, w) + b)` with equalised learning rate, optionally onto half the side, after the low-pass filter."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
        clamp: float | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        self.down, self.activate = down, activate
        self.padding = kernel_size // 2
        self.gain = gain * (LRELU_GAIN if activate else 1.0)
        self.clamp = None if clamp is None else clamp * gain
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("resample_filter", binomial_filter())

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out new_height new_width"]:
        # lrelu is positively homogeneous, so its gain goes into weight and bias: one pass over the pixels less.
        weight = self.weight * (self.weight_gain * self.gain)
        weight = weight.to(x.dtype, memory_format=torch.channels_last)
        bias = None if self.bias is None else (self.bias * self.gain).to(x.dtype)
        if not self.down:
            y = F.conv2d(x, weight, bias, padding=self.padding)
        elif self.padding == 0:
            y = F.conv2d(downsample2d(x, self.resample_filter), weight, bias)
        else:
            y = F.conv2d(filter2d(x, self.resample_filter, padding=2), weight, bias, stride=2)
        if self.activate:
            y = F.leaky_relu(y, LRELU_SLOPE)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)
