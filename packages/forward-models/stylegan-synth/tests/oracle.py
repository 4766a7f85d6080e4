"""StyleGAN2 written the slow way, from the papers: weights per sample, grouped convolutions, zeros inserted by hand.

Nothing here is shared with the package but the names of the parameters.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)


def fir(x: Tensor, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Correlation with `[1, 3, 3, 1]/8 ⊗ [1, 3, 3, 1]/8`, tap by tap."""
    before, after = pad
    x = F.pad(x, (before, after, before, after))
    height, width = x.shape[2] - 3, x.shape[3] - 3
    out = torch.zeros_like(x[:, :, :height, :width])
    for i, a in enumerate(TAPS):
        for j, b in enumerate(TAPS):
            out = out + gain * a * b / 64 * x[:, :, i : i + height, j : j + width]
    return out


def insert_zeros(x: Tensor) -> Tensor:
    """`x` at the even places of an image twice as large."""
    batch, channels, height, width = x.shape
    out = x.new_zeros(batch, channels, 2 * height, 2 * width)
    out[:, :, ::2, ::2] = x
    return out


def upsample(x: Tensor) -> Tensor:
    return fir(insert_zeros(x), (2, 1), gain=4)


def downsample(x: Tensor) -> Tensor:
    return fir(x, (1, 1))[:, :, ::2, ::2]


def per_sample_conv(x: Tensor, weights: Tensor, padding: int) -> Tensor:
    """`weights` is `(B, O, I, k, k)`: one group for each sample."""
    batch, out_channels, in_channels, *kernel = weights.shape
    x = x.reshape(1, batch * in_channels, *x.shape[2:])
    y = F.conv2d(x, weights.reshape(batch * out_channels, in_channels, *kernel), padding=padding, groups=batch)
    return y.reshape(batch, out_channels, *y.shape[2:])


def modulated_conv(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """StyleGAN2 eqs. 1 and 3 as written: modulate the weights, normalise them, convolve."""
    weights = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        weights = weights / (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if not up:
        return per_sample_conv(x, weights, weight.shape[-1] // 2)
    # A transposed convolution is a convolution of the image with zeros in between, with the kernel turned round.
    stuffed = insert_zeros(x)[:, :, :-1, :-1]
    y = per_sample_conv(stuffed, weights.flip(3, 4), weight.shape[-1] - 1)
    return fir(y, (1, 1), gain=4)


def lrelu(x: Tensor, clamp: float | None) -> Tensor:
    y = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    return y if clamp is None else y.clamp(-clamp, clamp)


def linear(state: dict[str, Tensor], name: str, x: Tensor, lr_multiplier: float = 1.0) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ weight.t() * (lr_multiplier / math.sqrt(weight.shape[1])) + bias * lr_multiplier


def mapping(state: dict[str, Tensor], z: Tensor) -> Tensor:
    w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    index = 0
    while f"mapping.fc{index}.weight" in state:
        w = lrelu(linear(state, f"mapping.fc{index}", w, 0.01), None)
        index += 1
    return w


def synthesis(state: dict[str, Tensor], ws: Tensor, noises: list[Tensor] | None, clamp: float | None = None) -> Tensor:
    """The image; `noises` are one for each convolution, or None for the constant ones."""
    x = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
    image, row, side = None, 0, 4
    while f"synthesis.b{side}.conv1.weight" in state:
        block = f"synthesis.b{side}"
        for conv in ("conv0", "conv1") if side > 4 else ("conv1",):
            name = f"{block}.{conv}"
            styles = linear(state, f"{name}.affine", ws[:, row])
            x = modulated_conv(x, state[f"{name}.weight"], styles, up=conv == "conv0")
            noise = state[f"{name}.noise_const"][None, None] if noises is None else noises[row]
            x = x + noise * state[f"{name}.noise_strength"]
            x = lrelu(x + state[f"{name}.bias"][:, None, None], clamp)
            row += 1
        styles = linear(state, f"{block}.torgb.affine", ws[:, row]) / math.sqrt(x.shape[1])
        rgb = modulated_conv(x, state[f"{block}.torgb.weight"], styles, demodulate=False)
        rgb = rgb + state[f"{block}.torgb.bias"][:, None, None]
        rgb = rgb if clamp is None else rgb.clamp(-clamp, clamp)
        image = rgb if image is None else upsample(image) + rgb
        side *= 2
    return image


def conv(
    state: dict[str, Tensor], name: str, x: Tensor, gain: float = 1.0, down: bool = False, act: bool = True
) -> Tensor:
    weight = state[f"{name}.weight"]
    size = weight.shape[-1]
    weight = weight / math.sqrt(weight[0].numel())
    if not down:
        y = F.conv2d(x, weight, padding=size // 2)
    elif size == 1:
        y = F.conv2d(downsample(x), weight)
    else:
        y = F.conv2d(fir(x, (2, 2)), weight)[:, :, ::2, ::2]
    if not act:
        return y * gain
    return lrelu(y + state[f"{name}.bias"][:, None, None], None) * gain


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    batch = len(x)
    group = max(g for g in range(1, group_size + 1) if batch % g == 0 and group_size % g == 0)
    stride = batch // group
    feature = x.new_zeros(batch, 1, *x.shape[2:])
    for start in range(stride):
        members = list(range(start, batch, stride))
        feature[members] = (x[members].var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, feature], dim=1)


def discriminator(state: dict[str, Tensor], x: Tensor, group_size: int) -> Tensor:
    side = x.shape[-1]
    x = conv(state, f"b{side}.fromrgb", x)
    half = math.sqrt(0.5)
    while side > 4:
        name = f"b{side}"
        skip = conv(state, f"{name}.skip", x, half, down=True, act=False)
        x = skip + conv(state, f"{name}.conv1", conv(state, f"{name}.conv0", x), half, down=True)
        side //= 2
    x = conv(state, "b4.conv", minibatch_std(x, group_size))
    x = lrelu(linear(state, "b4.fc", x.flatten(1)), None)
    return linear(state, "b4.out", x)[:, 0]
