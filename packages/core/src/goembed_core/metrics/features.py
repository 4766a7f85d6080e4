"""From images to features, in batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from goembed_core.errors import UserError
from goembed_core.protocols import FeatureNetwork


@torch.no_grad()
def features_of(
    images: Float[Tensor, "n channels height width"] | Iterable[Tensor],
    network: FeatureNetwork,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> Float[Tensor, "n features"]:
    """The features of all images, on the CPU.

    **Arguments:**
    - `images`: in [-1, 1]; a tensor, which is cut into batches, or an iterable of batches, which are used as they come.
    - `device`: where each batch is moved first, which must be where `network` is; None leaves it where it is.
    """
    batches = images.split(batch_size) if isinstance(images, Tensor) else images
    features = [network(batch if device is None else batch.to(device)).float().cpu() for batch in batches]
    if not features:
        raise UserError(f"there are no images to take {network.name} features of")
    return torch.cat(features)


def as_rgb(images: Tensor, name: str) -> Float[Tensor, "n 3 height width"]:
    """Grey images repeated to three channels; anything but floating-point images is an error in `name`'s name."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise UserError(
            f"{name} was given {images.dtype} of shape {tuple(images.shape)}; "
            "expected floating-point images in [-1, 1] of shape (n, 1, H, W) or (n, 3, H, W)"
        )
    return images.float().expand(-1, 3, -1, -1)
