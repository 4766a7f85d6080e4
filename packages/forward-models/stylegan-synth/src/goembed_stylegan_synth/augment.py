"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

Every transform happens to an item with probability `p`, real or generated; as long as `p` is below about 0.8, the
generator cannot learn the transforms themselves.  All of geometry is one resampling, all of colour one affine map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from jaxtyping import Float
from torch import Tensor, nn

from goembed_stylegan_synth.config import AugmentConfig

TRANSLATION_MAX = 0.125  # of the side, in whole pixels
TRANSLATION_STD = 0.125  # of the side
SCALE_STD = 0.2  # of log2
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # of log2
SATURATION_STD = 1.0  # of log2
SIGN_HALFLIFE_NIMG = 256


class AdaptiveAugment(nn.Module):
    """The transforms, and the probability `p` that follows how well the discriminator tells its training images."""

    def __init__(self, config: AugmentConfig):
        super().__init__()
        self.config = config
        self.register_buffer("p", torch.tensor(float(config.p)))
        self.register_buffer("real_sign", torch.tensor(float(config.target or 0.0)))  # running E[sign D(real)]

    def forward(
        self, images: Float[Tensor, "batch channels side side"], random: ItemRandom
    ) -> Float[Tensor, "batch channels side side"]:
        """The images, each transformed by its own numbers; differentiable in the images, once."""
        if self.config.target is None and self.config.p == 0:
            return images
        with without_autocast(images.device):  # which would round the matrices' products
            dice = _Dice(random, self.p.to(images.device))
            inverse = self._geometry(dice, images.shape[-1]).to(images.dtype)
            matrix, offset = (part.to(images.dtype) for part in self._colour(dice, images.shape[1]))
            grid = F.affine_grid(inverse[:, :2], list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
            return torch.einsum("bij,bjhw->bihw", matrix, images) + offset[:, None, None, None]

    @torch.no_grad()
    def observe(self, real_logits: Float[Tensor, " batch"], num_images: int) -> None:
        """Follow `E[sign D(real)]`; `num_images` were judged, over all processes."""
        weight = 1 - 0.5 ** (num_images / SIGN_HALFLIFE_NIMG)
        self.real_sign.lerp_(real_logits.sign().mean(), weight)

    @torch.no_grad()
    def adapt(self, num_images: int) -> None:
        """Move `p` towards the target by the images seen; without a target it stays."""
        if self.config.target is not None:
            step = num_images / self.config.speed_nimg
            self.p.add_(step * (self.real_sign - self.config.target).sign()).clamp_(0, 1)

    def _geometry(self, dice: _Dice, side_px: int) -> Float[Tensor, "batch 3 3"]:
        """From output to input coordinates, both in [-1, 1]."""
        config = self.config
        transform = torch.eye(3, device=dice.device).expand(dice.batch, 3, 3)
        if config.flip:
            sign = 1 - 2 * dice.happens(0.5)
            transform = transform @ _scale(sign, torch.ones_like(sign))
        if config.rotate90:
            transform = transform @ _rotate(dice.happens() * math.pi / 2 * dice.integer(0, 4))
        if config.translate:
            shift = [(dice.uniform(-1, 1) * TRANSLATION_MAX * side_px).round() * 2 / side_px for _ in range(2)]
            happens = dice.happens()
            transform = transform @ _translate(happens * shift[0], happens * shift[1])
        if config.geometry:
            scale = torch.exp2(dice.happens() * dice.normal() * SCALE_STD)
            transform = transform @ _scale(scale, scale)
            # Either of the two rotations happens with probability p, so that together they do.
            rotation = 1 - (1 - dice.p).sqrt()
            transform = transform @ _rotate(dice.happens(rotation) * dice.uniform(-math.pi, math.pi))
            stretch = torch.exp2(dice.happens() * dice.normal() * SCALE_STD)
            transform = transform @ _scale(stretch, 1 / stretch)
            transform = transform @ _rotate(dice.happens(rotation) * dice.uniform(-math.pi, math.pi))
            happens = dice.happens()
            shift = [happens * dice.normal() * TRANSLATION_STD * 2 for _ in range(2)]
            transform = transform @ _translate(*shift)
        return transform

    def _colour(
        self, dice: _Dice, channels: int
    ) -> tuple[Float[Tensor, "batch channels channels"], Float[Tensor, " batch"]]:
        """Matrix and offset of the colours; grey images know brightness, contrast and inversion only."""
        identity = torch.eye(channels, device=dice.device)
        if not self.config.colour:
            return identity.expand(dice.batch, -1, -1), torch.zeros(dice.batch, device=dice.device)
        luma = torch.full_like(identity, 1 / channels)  # projection onto the grey axis
        chroma = identity - luma
        offset = dice.happens() * dice.normal() * BRIGHTNESS_STD
        contrast = torch.exp2(dice.happens() * dice.normal() * CONTRAST_STD)
        inversion = 1 - 2 * dice.happens(0.5)
        angle = dice.happens() * dice.uniform(-math.pi, math.pi)
        saturation = torch.exp2(dice.happens() * dice.normal() * SATURATION_STD)
        turned = _each(angle.cos()) * chroma
        if channels == 3:
            quarter_turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=dice.device) / math.sqrt(3)
            turned = turned + _each(angle.sin()) * quarter_turn
        matrix = _each(inversion) * luma + _each(saturation) * turned
        return _each(contrast) * matrix, offset * contrast * inversion


class _Dice:
    """Random numbers of each item, and whether a transform happens to it."""

    def __init__(self, random: ItemRandom, p: Tensor):
        self.random, self.p = random, p
        self.batch, self.device = len(random), p.device

    def happens(self, probability: float | Tensor = 1.0) -> Float[Tensor, " batch"]:
        """1 with probability `p · probability`, else 0; a probability given as a tensor stands for itself."""
        threshold = probability if isinstance(probability, Tensor) else self.p * probability
        return (self.uniform(0, 1) < threshold).float()

    def uniform(self, low: float, high: float) -> Float[Tensor, " batch"]:
        return low + (high - low) * self.random.rand().to(self.device)

    def normal(self) -> Float[Tensor, " batch"]:
        return self.random.randn().to(self.device)

    def integer(self, low: int, high: int) -> Float[Tensor, " batch"]:
        return self.random.randint(low, high).float().to(self.device)


def _each(values: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1"]:
    return values[:, None, None]


def _rows(*rows: list[Tensor]) -> Float[Tensor, "batch 3 3"]:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _scale(x: Float[Tensor, " batch"], y: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _rows([x, zero, zero], [zero, y, zero], [zero, zero, one])


def _rotate(angle_rad: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    zero, one = torch.zeros_like(angle_rad), torch.ones_like(angle_rad)
    cos, sin = angle_rad.cos(), angle_rad.sin()
    return _rows([cos, -sin, zero], [sin, cos, zero], [zero, zero, one])


def _translate(x: Float[Tensor, " batch"], y: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _rows([one, zero, x], [zero, one, y], [zero, zero, one])
