"""pixelNeRF's radiance field as a tree of tensors: features of views, and the weights of what reads them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.trees import tree_map
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.fields import FieldSamples, RadianceField
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from goembed_pixel_aligned.embedding import encode_position
from goembed_pixel_aligned.features import Features, look_up, mean_over_views, sample_maps, view_weights


class Block(NamedTuple):
    """`h + relu(relu(h) W₁ + b) W₂`; `W₁` and `b` have the timestep's scale and shift in them."""

    first: Float[Tensor, "batch views c c"]  # views = 1 behind the mean over them
    bias: Float[Tensor, "batch views 1 c"]
    second: Float[Tensor, "batch views c c"]

    def __call__(self, h: Float[Tensor, "m n c"]) -> Float[Tensor, "m n c"]:
        """Views beside signals in the first dimension."""
        x = torch.baddbmm(self.bias.flatten(0, 1), F.relu(h), self.first.flatten(0, 1))
        return torch.baddbmm(h, F.relu(x), self.second.flatten(0, 1))


class Units(NamedTuple):
    """What the numbers of a field mean."""

    middle: Float[Tensor, " batch"]  # depth from which depths are counted
    first_frequency: Float[Tensor, " batch"]
    surface_frequency: Float[Tensor, " batch"]
    density_scale: Float[Tensor, " batch"]
    density_bias: Float[Tensor, " batch"]  # of empty space, before the softplus


class Reading(NamedTuple):
    """What a network says of points."""

    raw: Float[Tensor, "batch n out"]  # in float32 or better, before they become density and colour
    seen: Bool[Tensor, "batch n"]  # by any view
    hidden: Float[Tensor, "batch n c"]  # of the last layer


class PixelAlignedField(NamedTuple):
    """A batch of fields, every leaf `(B, ...)`: a point has the features of the pixels that it is seen at.

    The weights are leaves like all others, so that a field needs nothing but itself: it can be cut into its items,
    repeated, moved and stored.  Differentiable in everything but where views begin and end.
    """

    features: Features  # projected to the network's width, and behind that the depths of its surfaces
    frame: Float[Tensor, "batch views 3 4"]  # from the world to where positions are encoded, for each view
    position: Float[Tensor, "batch views encoded c"]
    behind: Float[Tensor, "batch views surfaces encoded_distance c"]  # for each surface of a pixel; may be none
    view_blocks: tuple[Block, ...]
    gate: Float[Tensor, "batch views c gates"]  # gates = 0: all views that see a point count alike
    gate_bias: Float[Tensor, "batch views 1 gates"]
    beside: Float[Tensor, "batch other c"]  # reads another field's last layer; other = 0: there is none
    blocks: tuple[Block, ...]
    out: Float[Tensor, "batch c out"]
    out_bias: Float[Tensor, "batch 1 out"]
    units: Units

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Density, colour in [0, 1] and features; the same from all directions.  Zero density where no view sees."""
        found = self.read(points)
        return self.shown(found.raw, found.seen)

    def shown(self, raw: Float[Tensor, "batch n out"], seen: Bool[Tensor, "batch n"]) -> FieldSamples:
        """What the network's numbers mean."""
        density = self.units.density_scale[:, None] * F.softplus(raw[..., 0]) * seen
        return FieldSamples(density, raw[..., 1:4].sigmoid(), raw[..., 4:] if raw.shape[-1] > 4 else None)

    def read(self, points: Float[Tensor, "batch n 3"], other: Float[Tensor, "batch n other"] | None = None) -> Reading:
        """The network at some points, with another field's last layer there if it reads one."""
        maps, camera, image_size = self.features
        if points.dim() != 3 or len(points) != len(maps):
            raise UserError(
                f"points of shape {tuple(points.shape)} for {len(maps)} fields: expected ({len(maps)}, n, 3)"
            )
        sight = look_up(camera, image_size, points)
        found = sample_maps(maps, sight.place)
        surfaces, width = self.behind.shape[2], self.position.shape[-1]
        encoded, weights = self._encode(points), self.position
        if surfaces:
            encoded = torch.cat([encoded, self._behind(sight.local, found[..., width:])], -1)
            weights = torch.cat([weights, self.behind.flatten(2, 3)], 2)
            found = found[..., :width]
        h = torch.baddbmm(found.flatten(0, 1), encoded, weights.flatten(0, 1))
        for block in self.view_blocks:
            h = block(h)
        weights = sight.valid.to(h.dtype)
        if self.gate.shape[-1]:
            logits = torch.baddbmm(self.gate_bias.flatten(0, 1), F.relu(h), self.gate.flatten(0, 1))
            weights = view_weights(logits[..., 0].unflatten(0, maps.shape[:2]), sight.valid).to(h.dtype)
        h = mean_over_views(h.unflatten(0, maps.shape[:2]), weights)
        if other is not None:
            h = torch.baddbmm(h, F.relu(other), self.beside)
        for block in self.blocks:
            h = block(h)
        return Reading(at_least_float32(torch.baddbmm(self.out_bias, F.relu(h), self.out)), sight.valid.any(1), h)

    def _encode(self, points: Float[Tensor, "batch n 3"]) -> Float[Tensor, "m n encoded"]:
        """Positions in each view's frame."""
        octaves = (self.position.shape[2] // 3 - 1) // 2
        first = self.units.first_frequency[:, None, None, None, None].to(points)
        with without_autocast(points.device):
            frame = self.frame.to(points)
            encoded = encode_position(points[:, None] @ frame[..., :3].mT + frame[..., None, :, 3], octaves, first)
        return encoded.flatten(0, 1).to(self.position.dtype)

    def _behind(
        self, local: Float[Tensor, "batch views n 3"], surfaces: Float[Tensor, "batch views n k"]
    ) -> Float[Tensor, "m n k_encoded"]:
        """How far behind its pixel's surfaces a point is, each encoded by itself."""
        octaves = (self.behind.shape[3] - 1) // 2
        first = self.units.surface_frequency[:, None, None, None, None, None].to(local)
        depth = local[..., 2:] - self.units.middle[:, None, None, None].to(local)
        encoded = encode_position((depth - surfaces.to(local))[..., None], octaves, first)
        return encoded.flatten(-2).flatten(0, 1).to(self.position.dtype)


class CorrectedField(NamedTuple):
    """An estimate, and what is added to its numbers before they become density and colour.

    The correction reads further views, and what the estimate knows of a point: its last layer.  No gradient passes into
    the estimate, which learns by a loss of its own.  Where the correction is 0 this is the estimate without its
    features; what only further views see begins empty.
    """

    estimate: PixelAlignedField
    correction: PixelAlignedField  # of views that the estimate has not

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Density and colour."""
        return self.correct(points, self.estimate.read(points))

    def correct(self, points: Float[Tensor, "batch n 3"], first: Reading) -> FieldSamples:
        """Density and colour where the estimate has been read."""
        first = tree_map(Tensor.detach, first)
        added = self.correction.read(points, first.hidden)
        empty = F.pad(self.estimate.units.density_bias.to(first.raw)[:, None, None], (0, 3))
        raw = torch.where(first.seen[..., None], first.raw[..., :4], empty) + added.raw
        return self.estimate.shown(raw, first.seen | added.seen)


def camera_frame(camera: Camera, middle: float) -> Float[Tensor, "*views 3 4"]:
    """That of each camera, its depths from the middle."""
    pose = camera.camera_to_world
    turn = pose[..., :3, :3].mT
    place = -(turn @ pose[..., :3, 3:]) - middle * pose.new_tensor([[0.0], [0.0], [1.0]])
    return torch.cat([turn, place], -1)


def upright_frame(camera: Camera) -> Float[Tensor, "*views 3 4"]:
    """The world's, turned about its z until x is the camera's right, as seen from above."""
    pose = camera.camera_to_world
    right = F.normalize(pose[..., :2, 0], dim=-1)
    x, y = right.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [[x, y, zero, zero], [-y, x, zero, zero], [zero, zero, one, zero]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


class GuidedField(NamedTuple):
    """Classifier-free guidance of what is rendered: density and light of two fields, extrapolated at every point.

    With the light `e = σ c` that a point gives off, `σ = [σ_u + w (σ_c − σ_u)]₊`, and `c = [e_u + w (e_c − e_u)] / σ`
    in [0, 1]: where one of them is empty its colour does not count, and `w = 1` is the conditional field.
    """

    conditional: RadianceField
    unconditional: RadianceField
    scale: Float[Tensor, " batch"]  # w

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Density and colour."""
        c, u = self.conditional(points, directions), self.unconditional(points, directions)
        w = self.scale[:, None].to(c.density)
        density = torch.lerp(u.density, c.density, w).clamp(min=0)
        light = torch.lerp(u.density[..., None] * u.colour, c.density[..., None] * c.colour, w[..., None])
        empty = density <= 0
        colour = light / density.masked_fill(empty, 1.0)[..., None]
        return FieldSamples(density, torch.where(empty[..., None], c.colour, colour.clamp(0, 1)))
