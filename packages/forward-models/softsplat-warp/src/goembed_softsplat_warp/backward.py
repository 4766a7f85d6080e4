"""The other direction: images sampled where pixels go, and what two flows or two images say about each other."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from jaxtyping import Bool, Float
from torch import Tensor

from goembed_softsplat_warp.cells import Frame, corners, locate
from goembed_softsplat_warp.splatting import require_shape


def backwarp(
    image: Float[Tensor, "batch channels height width"], flow: Float[Tensor, "batch 2 height width"]
) -> Float[Tensor, "batch channels height width"]:
    """`image(u + flow(u))`, bilinearly; zero outside of the image and where the flow is not finite.

    It is the adjoint of `splat(..., mode="sum")`, exact at whole flows, and differentiable any number of times.
    """
    _require_image("image", image)
    batch, _, *size = image.shape
    require_shape("flow", flow, (batch, 2, *size))
    with without_autocast(image.device):
        frame, cells = Frame(*size), locate(at_least_float32(flow))
        framed = torch.nn.functional.pad(at_least_float32(image), (1, 1, 1, 1)).flatten(2)
        framed = torch.nn.functional.pad(framed, (0, frame.numbers - frame.framed))
        found = 0
        for corner in corners(cells, frame):
            index = (cells.base + corner.offset)[:, None].expand(-1, image.shape[1], -1)
            found = found + framed.gather(2, index) * (corner.across * corner.along)[:, None]
        return found.unflatten(2, tuple(size)).to(image.dtype)


def inside(flow: Float[Tensor, "batch 2 height width"]) -> Bool[Tensor, "batch 1 height width"]:
    """True where a pixel goes to a place between the centres of the image's pixels, by a flow that is finite."""
    height, width = flow.shape[2:]
    x = at_least_float32(flow[:, :1]) + torch.arange(width, device=flow.device)
    y = at_least_float32(flow[:, 1:]) + torch.arange(height, device=flow.device)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def consistent(
    forward: Float[Tensor, "batch 2 height width"],
    backward: Float[Tensor, "batch 2 height width"],
    relative: float = 0.01,
    absolute_px2: float = 0.5,
) -> Bool[Tensor, "batch 1 height width"]:
    """True where the backward flow leads back, and so a pixel is probably not occluded (Sundaram et al. 2010).

    `|F + B(u + F)|² < relative (|F|² + |B(u + F)|²) + absolute_px2`; false where a pixel leaves the image.

    **Arguments:**
    - `forward`, `backward`: flows in pixels, from the first image to the second and from the second to the first.
    """
    _require_flow("forward flow", forward)
    require_shape("backward flow", backward, tuple(forward.shape))
    forward, backward = at_least_float32(forward), at_least_float32(backward)
    back = backwarp(backward, forward)
    gap = (forward + back).square().sum(1, keepdim=True)
    length = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return inside(forward) & (gap < relative * length + absolute_px2)


def brightness_constancy(
    first: Float[Tensor, "batch channels height width"],
    second: Float[Tensor, "batch channels height width"],
    flow: Float[Tensor, "batch 2 height width"],
    alpha: float | Tensor = -10.0,
) -> Float[Tensor, "batch 1 height width"]:
    """The metric `Z = alpha · mean |first - backwarp(second, flow)|` (Niklaus and Liu 2020).

    Pixels that have changed colour on their way are probably occluded, and show less.  The default is the paper's -20
    for colours in [0, 1], here in [-1, 1].  Differentiable in everything, `alpha` too.
    """
    _require_image("first image", first)
    require_shape("second image", second, tuple(first.shape))
    change = (at_least_float32(first) - backwarp(at_least_float32(second), flow)).abs().mean(1, keepdim=True)
    return alpha * change


def _require_image(name: str, image: Tensor) -> None:
    if image.dim() != 4:
        raise UserError(f"the {name} has shape {tuple(image.shape)}, expected (batch, channels, height, width)")


def _require_flow(name: str, flow: Tensor) -> None:
    if flow.dim() != 4 or flow.shape[1] != 2:
        raise UserError(f"the {name} has shape {tuple(flow.shape)}, expected (batch, 2, height, width)")
