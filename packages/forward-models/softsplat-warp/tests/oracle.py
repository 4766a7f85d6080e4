"""Splatting and warping written the slow way: loops over pixels and targets, Python numbers, nothing shared."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bilinear(distance_x: float, distance_y: float) -> float:
    """The weight of a target at a distance."""
    return max(0.0, 1 - abs(distance_x)) * max(0.0, 1 - abs(distance_y))


def splat(image: Tensor, flow: Tensor, metric: Tensor | None, mode: str) -> tuple[Tensor, Tensor]:
    """Values and coverage, target by target from the definition."""
    batch, channels, height, width = image.shape
    values = torch.zeros(batch, channels, height, width, dtype=torch.float64)
    coverage = torch.zeros(batch, 1, height, width, dtype=torch.float64)
    for item in range(batch):
        reaching: dict[tuple[int, int], list[tuple[float, float, list[float]]]] = {}
        for row in range(height):
            for column in range(width):
                x, y = column + flow[item, 0, row, column].item(), row + flow[item, 1, row, column].item()
                if not (math.isfinite(x) and math.isfinite(y)):
                    continue
                colour = image[item, :, row, column].tolist()
                z = 0.0 if metric is None else metric[item, 0, row, column].item()
                for v in (math.floor(y), math.floor(y) + 1):
                    for u in (math.floor(x), math.floor(x) + 1):
                        if 0 <= u < width and 0 <= v < height and (weight := bilinear(x - u, y - v)) > 0:
                            reaching.setdefault((v, u), []).append((weight, z, colour))
        for (v, u), found in reaching.items():
            most = max(z for _, z, _ in found)
            count = {
                "sum": lambda z: 1.0,
                "average": lambda z: 1.0,
                "linear": lambda z: z,
                "softmax": lambda z, most=most: math.exp(z - most),
            }[mode]
            total = 1.0 if mode == "sum" else math.fsum(weight * count(z) for weight, z, _ in found)
            coverage[item, 0, v, u] = math.fsum(weight for weight, _, _ in found)
            if total:
                for channel in range(channels):
                    value = math.fsum(weight * count(z) * colour[channel] for weight, z, colour in found)
                    values[item, channel, v, u] = value / total
    return values, coverage


def backwarp(image: Tensor, flow: Tensor) -> Tensor:
    """`image(u + flow(u))`, bilinear, zero outside."""
    batch, _, height, width = image.shape
    values = torch.zeros_like(image)
    for item in range(batch):
        for row in range(height):
            for column in range(width):
                x, y = column + flow[item, 0, row, column].item(), row + flow[item, 1, row, column].item()
                for v in range(height):
                    for u in range(width):
                        values[item, :, row, column] += bilinear(x - u, y - v) * image[item, :, v, u]
    return values


def pull_push(premultiplied: Tensor, weight: Tensor) -> Tensor:
    """Fill one image `(channels, height, width)`, whose colours are multiplied by weights in [0, 1], by a pyramid.

    Halving adds up four pixels and divides by their weights where these are more than one; doubling is bilinear.
    """
    channels, height, width = premultiplied.shape
    if height == width == 1:
        return premultiplied
    rows, columns = (height + 1) // 2, (width + 1) // 2
    coarse = torch.zeros(channels, rows, columns, dtype=premultiplied.dtype)
    coarse_weight = torch.zeros(1, rows, columns, dtype=premultiplied.dtype)
    for row in range(height):
        for column in range(width):
            coarse[:, row // 2, column // 2] += premultiplied[:, row, column]
            coarse_weight[:, row // 2, column // 2] += weight[:, row, column]
    more = coarse_weight.clamp(min=1)
    filled = pull_push(coarse / more, coarse_weight / more)
    result = torch.zeros_like(premultiplied)
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) / 2 - 0.5, (column + 0.5) / 2 - 0.5  # pixel centres
            y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
            doubled = torch.zeros(channels, dtype=premultiplied.dtype)
            for v in range(rows):
                for u in range(columns):
                    doubled += bilinear(x - u, y - v) * filled[:, v, u]
            result[:, row, column] = premultiplied[:, row, column] + (1 - weight[:, row, column]) * doubled
    return result


def warp(
    colour: Tensor, motion: Tensor, metric: Tensor, time: Tensor, holes: str = "pull-push", full: float = 0.25
) -> Tensor:
    """The forward model, view by view."""
    views = []
    for view in range(time.shape[1]):
        values, coverage = splat(colour, motion * time[:, view, None, None, None], metric, "softmax")
        weight = (coverage / full).clamp(max=1)
        if holes == "pull-push":
            views.append(torch.stack([pull_push(w * c, w) for c, w in zip(values, weight, strict=True)]))
        else:
            views.append(weight * values + (1 - weight) * (colour if holes == "source" else 0))
    return torch.stack(views, 1)
