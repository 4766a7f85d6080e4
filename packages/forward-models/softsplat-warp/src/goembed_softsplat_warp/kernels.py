"""Splatting with its gradient written by hand: each corner's work is done while it lies in the cache.

`Splat` and `SplatGradient` are functions of whole batches, so that `torch.func.vmap` over them is a larger batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from goembed_softsplat_warp.cells import Cells, Frame, corners, locate
from goembed_softsplat_warp.plain import Mode, importance, inverse, plain_splat


class Splat(Function):
    """`splat(image, flow, metric)`; what it leaves beside its result is for the gradient.

    With weights `w` of the corners, `values = Σ w image / Σ w`, and in mode sum `values = Σ w image`.
    """

    @staticmethod
    def forward(mode: Mode, image: Tensor, flow: Tensor, metric: Tensor | None) -> tuple[Tensor, ...]:
        """The values; then the inverse of the sum of weights, and cells and importances of the pixels."""
        frame, cells = Frame(*image.shape[2:]), locate(flow)
        counts = importance(mode, metric, cells, frame)
        pixels = image.flatten(2)
        batch, channels = pixels.shape[:2]
        total = pixels.new_zeros(batch, channels + (mode != "sum"), frame.numbers)
        index = cells.base[:, None].expand_as(pixels)
        part, weight = torch.empty_like(pixels), torch.empty_like(cells.right)
        for number, corner in enumerate(corners(cells, frame)):
            torch.mul(corner.across, corner.along, out=weight)
            if counts is not None:
                weight *= counts[number]
            torch.mul(pixels, weight[:, None], out=part)
            reached = total[..., corner.offset :]
            reached[:, :channels].scatter_add_(2, index, part)
            if mode != "sum":
                reached[:, channels].scatter_add_(1, cells.base, weight)
        found = frame.inner(total)
        scale = image.new_ones(1).expand(batch, 1, *image.shape[2:]) if mode == "sum" else inverse(found[:, channels:])
        values = found.contiguous() if mode == "sum" else found[:, :channels] * scale
        return values, scale, *cells, *(counts or ())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        mode, image, flow, metric = inputs
        values, *rest = output
        ctx.mode = mode
        ctx.mark_non_differentiable(*rest)
        ctx.save_for_backward(image, flow, metric, values, *rest)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None
        image, flow, metric, *rest = ctx.saved_tensors
        inputs = (image, flow) if metric is None else (image, flow, metric)
        if torch.is_grad_enabled():  # The gradient is to be differentiated itself.
            # Views, as one input may have been computed from another, which is not for this function to count.
            inputs = tuple(part.view_as(part) for part in inputs)
            wanted = [part for part in inputs if part.requires_grad]
            found = iter(torch.autograd.grad(plain_splat(ctx.mode, *inputs), wanted, gradient, create_graph=True))
            found = tuple(next(found) if part.requires_grad else None for part in inputs)
        else:
            wanted = (ctx.needs_input_grad[1], any(ctx.needs_input_grad[2:]))
            found = SplatGradient.apply(ctx.mode, wanted, gradient, image, flow, metric, *rest)
        return None, *found[: len(inputs)], *([None] if metric is None else [])

    @staticmethod
    def vmap(info: Any, in_dims: Any, mode: Mode, *tensors: Tensor | None) -> tuple[tuple[Tensor, ...], Any]:
        found = Splat.apply(mode, *_folded(info.batch_size, in_dims[1:], tensors))
        return _unfolded(info.batch_size, found)


class SplatGradient(Function):
    """The gradients of `Splat` in image, flow and metric; not differentiable, which `plain_splat` is."""

    @staticmethod
    def forward(
        mode: Mode,
        wanted: tuple[bool, bool],
        gradient: Tensor,
        image: Tensor,
        flow: Tensor,
        metric: Tensor | None,
        values: Tensor,
        scale: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """Of the image if the first is wanted, of flow and metric if the second is; zeros otherwise."""
        frame, cells, counts = Frame(*image.shape[2:]), Cells(*rest[:4]), rest[4:]
        pixels = image.flatten(2)
        batch, channels = pixels.shape[:2]
        # In one buffer for the corners to be gathered from: dL/d(Σ w image), and dL/d(Σ w).
        upstream = pixels.new_zeros(batch, channels + (mode != "sum"), frame.numbers)
        inner = frame.inner(upstream)
        torch.mul(gradient, scale, out=inner[:, :channels])
        if mode != "sum":
            torch.sum(inner[:, :channels] * values, 1, out=inner[:, channels])
            inner[:, channels].neg_()
        index = cells.base[:, None].expand_as(pixels)
        found, product, to_pixels = (torch.empty_like(pixels) for _ in range(3))
        weight, slope, of_sum = (torch.empty_like(cells.right) for _ in range(3))
        to_right, to_down, to_metric = (torch.zeros_like(cells.right) for _ in range(3))
        for number, corner in enumerate(corners(cells, frame)):
            reached = upstream[..., corner.offset :]
            torch.gather(reached[:, :channels], 2, index, out=found)
            torch.mul(corner.across, corner.along, out=weight)
            if wanted[1]:  # slope = dL/d(across * along)
                torch.mul(found, pixels, out=product)
                torch.sum(product, 1, out=slope)
                if mode != "sum":
                    slope += torch.gather(reached[:, channels], 1, cells.base, out=of_sum)
                if mode == "linear":
                    to_metric.addcmul_(slope, weight)
                if counts:
                    slope *= counts[number]
                if mode == "softmax":
                    to_metric.addcmul_(slope, weight)
                to_right.addcmul_(slope, corner.along, value=corner.signs[0])
                to_down.addcmul_(slope, corner.across, value=corner.signs[1])
            if wanted[0]:
                if counts:
                    weight *= counts[number]
                if number:
                    to_pixels.addcmul_(found, weight[:, None])
                else:
                    torch.mul(found, weight[:, None], out=to_pixels)
        to_flow = torch.stack([to_right, to_down], 1).masked_fill_(cells.nowhere[:, None], 0).view(flow.shape)
        to_metric.masked_fill_(cells.nowhere, 0)
        if not wanted[0]:
            to_pixels.zero_()
        return to_pixels.view(image.shape), to_flow, to_metric.view(batch, 1, *image.shape[2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, mode: Mode, wanted: tuple[bool, bool], *tensors: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Any]:
        found = SplatGradient.apply(mode, wanted, *_folded(info.batch_size, in_dims[2:], tensors))
        return _unfolded(info.batch_size, found)


def _folded(size: int, in_dims: Any, tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Tensors whose vmapped dimension, present or not, has become part of the batch."""
    found: list[Tensor | None] = []
    for tensor, dim in zip(tensors, in_dims, strict=True):
        if tensor is not None:
            tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            tensor = tensor.flatten(0, 1)
        found.append(tensor)
    return found


def _unfolded(size: int, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
    """The reverse of `_folded`, and the places of the vmapped dimension."""
    return tuple(tensor.unflatten(0, (size, -1)) for tensor in tensors), tuple(0 for _ in tensors)
