"""Image-by-image errors: PSNR and SSIM."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from goembed_core.errors import UserError

SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5


def psnr(
    a: Float[Tensor, "batch channels height width"],
    b: Float[Tensor, "batch channels height width"],
    mask: Num[Tensor, "batch maskchannels height width"] | None = None,
    data_range: float = 2.0,
) -> Float[Tensor, " batch"]:
    """`10 log₁₀(range² / MSE)` of each image, in dB; infinite for equal images.

    **Arguments:**
    - `mask`: weights of the pixels, of one channel or as many as the images; the error is averaged over the weights.
    - `data_range`: greatest minus least possible value; 2 for images in [-1, 1].
    """
    check_images(a, b)
    error = (a.double() - b.double()).square()
    if mask is None:
        mse = error.mean((1, 2, 3))
    else:
        if mask.shape not in (a.shape, (len(a), 1, *a.shape[2:])):
            raise UserError(
                f"mask must have the images' shape {tuple(a.shape)}, or one channel of it; got {tuple(mask.shape)}"
            )
        weight = mask.double().expand_as(error)
        if (weight.sum((1, 2, 3)) <= 0).any():
            raise UserError("a mask that is zero everywhere leaves nothing to measure; drop that image")
        mse = (weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return (10 * torch.log10(data_range**2 / mse)).to(a.dtype)


def ssim(
    a: Float[Tensor, "batch channels height width"],
    b: Float[Tensor, "batch channels height width"],
    data_range: float = 2.0,
) -> Float[Tensor, " batch"]:
    """Structural similarity of each image (Wang et al. 2004, eq. 13), averaged over channels; 1 for equal images.

    Gaussian window 11×11 of σ = 1.5, K₁ = 0.01, K₂ = 0.03, population (not sample) covariances, averaged over the
    places where the window lies wholly inside the image ("valid"), as in the authors' program; colour channels are
    compared one by one.  It equals scikit-image's with `gaussian_weights=True, use_sample_covariance=False`.
    """
    check_images(a, b)
    if min(a.shape[2:]) < SSIM_WINDOW_PX:
        raise UserError(
            f"SSIM looks through windows of {SSIM_WINDOW_PX}x{SSIM_WINDOW_PX} pixels; "
            f"images of {a.shape[2]}x{a.shape[3]} are too small: enlarge them first"
        )
    x, y = a.double(), b.double()
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return similarity.mean((1, 2, 3)).to(a.dtype)


def check_images(a: Tensor, b: Tensor) -> None:
    """Both `(B, C, H, W)`, alike."""
    if a.ndim != 4 or a.shape != b.shape:
        raise UserError(
            "two batches of images (batch, channels, height, width) of one shape are expected; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def _window_mean(images: Float[Tensor, "batch channels height width"]) -> Tensor:
    """The Gaussian-weighted mean around every pixel that has a whole window: separable, so rows, then columns."""
    offset = torch.arange(SSIM_WINDOW_PX, dtype=images.dtype, device=images.device) - SSIM_WINDOW_PX // 2
    weight = torch.exp(-0.5 * (offset / SSIM_SIGMA_PX) ** 2)
    weight = (weight / weight.sum()).reshape(1, 1, 1, -1)
    batch, channels, height, width = images.shape
    planes = images.reshape(batch * channels, 1, height, width)
    planes = F.conv2d(F.conv2d(planes, weight), weight.transpose(2, 3))
    return planes.reshape(batch, channels, *planes.shape[2:])
