"""Features of views, pixel by pixel, and where points of the world are seen in them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.precision import at_least_float32, without_autocast
from goembed_nerf_renderer.cameras import Camera
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

NEAREST = 1e-3  # depth along z: what is nearer, or behind the camera, is not seen


class Features(NamedTuple):
    """A map of features for each view, over the whole of its image."""

    maps: Float[Tensor, "batch views c height width"]
    camera: Camera
    image_size: Float[Tensor, "batch views 2"]  # width and height, in the camera's pixels


class Sight(NamedTuple):
    """Points of the world as the views have them."""

    local: Float[Tensor, "batch views n 3"]  # in each camera's frame
    place: Float[Tensor, "batch views n 2"]  # (x, y) in the image, from -1 to 1 across it
    valid: Bool[Tensor, "batch views n"]  # before the camera and within the image


def look_up(camera: Camera, image_size: Float[Tensor, "batch views 2"], points: Float[Tensor, "batch n 3"]) -> Sight:
    """Project points into every view.  In float32 or better; differentiable in points and cameras."""
    with without_autocast(points.device):
        pose = camera.camera_to_world.to(points)
        local = (points[:, None] - pose[:, :, None, :3, 3]) @ pose[..., :3, :3]
        seen = local @ camera.intrinsics.to(points).mT
        depth = local[..., 2]
        pixels = seen[..., :2] / depth.clamp(min=NEAREST)[..., None]
        place = 2 * pixels / image_size[:, :, None].to(points) - 1
        return Sight(local, place, (depth > NEAREST) & (place.abs() <= 1).all(-1))


def sample_maps(
    maps: Float[Tensor, "batch views c height width"], place: Float[Tensor, "batch views n 2"]
) -> Float[Tensor, "batch views n c"]:
    """Bilinear interpolation between the centres of pixels, in float32 or better; the outermost ones go on outside.

    The weights of the four pixels add up to 1, so that any linear layer may be applied to the map before it:
    `W Σ w_i F_i + b = Σ w_i (W F_i + b)`.
    """
    with without_autocast(maps.device):
        flat = at_least_float32(maps).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        grid = place.flatten(0, 1)[:, :, None].to(flat)
        found = F.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return found[..., 0].mT.unflatten(0, maps.shape[:2])


def view_weights(
    logits: Float[Tensor, "batch views n"], valid: Bool[Tensor, "batch views n"]
) -> Float[Tensor, "batch views n"]:
    """How much each view counts at a point: a softmax over those that see it, in float32 or better; 0 for the rest."""
    logits = at_least_float32(logits)
    return torch.where(valid, logits, torch.finfo(logits.dtype).min).softmax(1) * valid


def mean_over_views(
    values: Float[Tensor, "batch views n c"], weights: Float[Tensor, "batch views n"]
) -> Float[Tensor, "batch n c"]:
    """The mean over the views by weights, which need not add up to 1; zeros where all of them are 0."""
    weights = (weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny))[..., None].unbind(1)
    each = values.unbind(1)
    total = each[0] * weights[0]
    for value, weight in zip(each[1:], weights[1:], strict=True):
        total = torch.addcmul(total, value, weight)
    return total
