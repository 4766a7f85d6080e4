"""Softmax splatting (Niklaus and Liu 2020): every pixel moves along its flow, and colours that meet are averaged."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError, did_you_mean
from goembed_core.precision import at_least_float32, without_autocast
from jaxtyping import Float, Int
from torch import Tensor

from goembed_softsplat_warp.kernels import Splat
from goembed_softsplat_warp.plain import MODES, Mode, plain_splat

__all__ = ["MODES", "Mode", "Splatted", "num_ignored", "splat", "splat_with_coverage"]


class Splatted(NamedTuple):
    """Moved images, and how much landed where."""

    values: Float[Tensor, "batch channels height width"]
    coverage: Float[Tensor, "batch 1 height width"]  # the sum of bilinear weights: 0 in holes, 1 where nothing moves
    ignored: Int[Tensor, " batch"]  # pixels whose flow is not finite


def splat(
    input: Float[Tensor, "batch channels height width"],
    flow: Float[Tensor, "batch 2 height width"],
    metric: Float[Tensor, "batch 1 height width"] | None = None,
    mode: Mode = "average",
) -> Float[Tensor, "batch channels height width"]:
    """Move every pixel along its flow; with bilinear weights `b` of pixel p at target u, which get nothing else but

    - sum: `Σ_p b I(p)`, which conserves the sum over the image;
    - average: `Σ_p b I(p) / Σ_p b`;
    - linear: `Σ_p b Z(p) I(p) / Σ_p b Z(p)`, for a metric `Z >= 0`;
    - softmax: `Σ_p b e^Z(p) I(p) / Σ_p b e^Z(p)`, whatever the metric, which is shifted by its maximum at each target.

    Zero where nothing lands.  Pixels whose flow is not finite are ignored.  Differentiable any number of times in
    input, flow and metric; where a pixel lands exactly on a row or column, the derivative in the flow is the one to the
    right and downwards.  Computed in float32 at least, also under autocast; the dtype is the input's.

    **Arguments:**
    - `flow`: in pixels, x (to the right) before y (downwards).
    - `metric`: for linear and softmax alone; where pixels meet, those of larger metric show.  -inf is no weight.

    **Raises:** UserError for shapes that do not fit, a mode that there is not, and a metric that is missing or unused.
    """
    _check(input, flow, metric, mode)
    return _splat(input, flow, metric, mode)


def splat_with_coverage(
    input: Float[Tensor, "batch channels height width"],
    flow: Float[Tensor, "batch 2 height width"],
    metric: Float[Tensor, "batch 1 height width"] | None = None,
    mode: Mode = "average",
) -> Splatted:
    """`splat`, with the coverage of each target, differentiable in the flow, and the number of ignored pixels."""
    values = splat(input, flow, metric, mode)
    return Splatted(values, coverage_of(flow), num_ignored(flow))


def coverage_of(flow: Float[Tensor, "batch 2 height width"]) -> Float[Tensor, "batch 1 height width"]:
    """The sum of bilinear weights at each target; of the flow's dtype."""
    return _splat(torch.ones_like(flow[:, :1]), flow, None, "sum")


def num_ignored(flow: Float[Tensor, "batch 2 height width"]) -> Int[Tensor, " batch"]:
    """How many pixels of each image have a flow that is not finite."""
    return (~flow.isfinite()).any(1).flatten(1).sum(1)


def _splat(image: Tensor, flow: Tensor, metric: Tensor | None, mode: Mode) -> Tensor:
    given = [image, flow] if metric is None else [image, flow, metric]
    dtype = torch.float64 if torch.float64 in {part.dtype for part in given} else torch.float32
    parts = [at_least_float32(part).to(dtype) for part in given]
    with without_autocast(image.device):
        if torch.compiler.is_compiling():  # which fuses these itself
            return plain_splat(mode, *parts).to(image.dtype)
        return Splat.apply(mode, *parts, *([] if len(parts) == 3 else [None]))[0].to(image.dtype)


def _check(image: Tensor, flow: Tensor, metric: Tensor | None, mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"mode={mode!r}{did_you_mean(str(mode), MODES)}; choose one of {', '.join(MODES)}")
    if image.dim() != 4:
        raise UserError(f"the input has shape {tuple(image.shape)}, expected (batch, channels, height, width)")
    batch, _, *size = image.shape
    require_shape("flow", flow, (batch, 2, *size))
    if (metric is None) == (mode in ("linear", "softmax")):
        what = "needs a metric" if metric is None else "takes no metric; choose linear or softmax"
        raise UserError(f"mode={mode!r} {what}")
    if metric is not None:
        require_shape("metric", metric, (batch, 1, *size))


def require_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise UserError unless a tensor has a shape."""
    if tuple(tensor.shape) != expected:
        raise UserError(f"the {name} has shape {tuple(tensor.shape)}, expected {expected}, as the image has it")
