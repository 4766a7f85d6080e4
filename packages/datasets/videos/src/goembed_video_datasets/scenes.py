"""Where the objects of procedural clips are, and which futures they have: drawn without knowing which one comes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.randomness import ItemRandom
from jaxtyping import Float, Int
from torch import Tensor

from goembed_video_datasets.config import REACH, Kind

KINDS: tuple[Kind, ...] = ("left-right", "pendulum", "two", "occlusion")
OBJECTS = {"left-right": 1, "pendulum": 1, "two": 2, "occlusion": 2}
# Which way each object goes in each mode, +1 being right or clockwise.  With two objects, the first is in front.
SIGNS = {
    "left-right": [[-1.0], [1.0]],
    "pendulum": [[-1.0], [1.0]],
    "two": [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]],
    "occlusion": [[-1.0, 1.0], [1.0, -1.0]],
}
HARMONICS = 3  # of an outline: 2, 3 and 4 to the turn
ROUGHNESS = 0.2  # of an outline about its circle, at most
RADIUS = (0.09, REACH / (1 + ROUGHNESS))  # of an object, in sides of the picture
ABSENT = -10.0  # radius in pixels of what is not there: its coverage is 0 everywhere


class Scene(NamedTuple):
    """What can be seen at time 0, and how far each of the K objects can go; lengths in pixels, y downwards."""

    anchor: Float[Tensor, "batch objects 2"]  # a rotation is about this point
    arm: Float[Tensor, "batch objects 2"]  # from the anchor to the middle of the object
    radius: Float[Tensor, "batch objects"]
    outline: Float[Tensor, "batch objects harmonics 2"]  # cosine and sine parts, of the radius
    rod: Float[Tensor, "batch objects"]  # half the width of the rod from the anchor to the object
    pivot: Float[Tensor, " batch"]  # radius of a disc that stays, at the first object's anchor
    shift: Float[Tensor, "batch objects"]  # to the right, in a mode of sign +1
    turn: Float[Tensor, "batch objects"]  # clockwise, in radians


class Room(NamedTuple):
    """The picture that objects have to stay in."""

    size: int
    step_px: float
    jitter_px: float


def modes(kind: Kind) -> int:
    """How many futures a clip of this kind has, each as probable as the others."""
    return len(SIGNS[kind])


def between(uniform: Float[Tensor, "..."], low: Tensor | float, high: Tensor | float) -> Float[Tensor, "..."]:
    """Uniform numbers of [0, 1) brought to [low, high), or to the middle where that is empty."""
    low, high = (torch.as_tensor(end, device=uniform.device, dtype=uniform.dtype) for end in (low, high))
    return torch.where(low < high, low + uniform * (high - low), (low + high) / 2)


def draw_scene(kind: Kind, objects: int, room: Room, random: ItemRandom) -> Scene:
    """The scenes of a batch, with room for `objects` objects each.

    What is seen at time 0 and how far an object goes come from streams of their own.
    """
    count = OBJECTS[kind]
    place = random.stream(f"place/{kind}").rand(count, 4)
    outline = random.stream("outline").rand(2, HARMONICS, 2)[:, :count] * 2 - 1
    outline = outline * (ROUGHNESS / outline.norm(dim=3).sum(2).clamp_min(1)[..., None, None])
    step = room.step_px + room.jitter_px * (random.stream("step").rand(2)[:, :count] * 2 - 1)
    drawn = PLACES[kind](place, outline, step, room)
    absent = objects - count
    if not absent:
        return drawn
    fill = Scene(*(torch.zeros_like(leaf[:, :1]) if leaf.dim() > 1 else leaf for leaf in drawn))
    fill = fill._replace(radius=torch.full_like(fill.radius, ABSENT), rod=torch.full_like(fill.rod, ABSENT))
    return Scene(
        *(
            torch.cat([leaf, *[more] * absent], 1) if leaf.dim() > 1 else leaf
            for leaf, more in zip(drawn, fill, strict=True)
        )
    )


def select_scene(scenes: list[Scene], which: Int[Tensor, " batch"]) -> Scene:
    """For every item its part of one of several scenes."""
    items = torch.arange(len(which), device=which.device)
    return Scene(*(torch.stack(leaves)[which, items] for leaves in zip(*scenes, strict=True)))


def cosine_and_sine(angle: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """By way of double, after which no item depends on how many others there are."""
    return angle.double().cos().to(angle.dtype), angle.double().sin().to(angle.dtype)


def _moving(centre: Tensor, radius: Tensor, outline: Tensor, step: Tensor) -> Scene:
    """Objects without a rod that go sideways."""
    none = torch.zeros_like(radius)
    absent = torch.full_like(radius, ABSENT)
    return Scene(centre, torch.zeros_like(centre), radius, outline, absent, absent[:, 0], step, none)


def _left_right(place: Tensor, outline: Tensor, step: Tensor, room: Room) -> Scene:
    """One object, anywhere that it can go to either side from."""
    size = room.size
    radius = between(place[..., 0], RADIUS[0] * size, RADIUS[1] * size)
    reach = radius * (1 + ROUGHNESS)
    aside = reach + room.step_px + room.jitter_px
    x = between(place[..., 1], aside, size - 1 - aside)
    y = between(place[..., 2], reach, size - 1 - reach)
    return _moving(torch.stack([x, y], 2), radius, outline, step)


def _two(place: Tensor, outline: Tensor, step: Tensor, room: Room) -> Scene:
    """Two objects, one in the upper half and one in the lower, that never meet; either may be the first."""
    size = room.size
    radius = between(place[..., 0], RADIUS[0] * size, RADIUS[1] * size)
    reach = radius * (1 + ROUGHNESS)
    aside = reach + room.step_px + room.jitter_px
    x = between(place[..., 1], aside, size - 1 - aside)
    y = between(place[..., 2], reach, (size - 1) / 2 - reach)
    below = (place[:, :1, 3] < 0.5) == torch.tensor([True, False], device=y.device)
    return _moving(torch.stack([x, torch.where(below, size - 1 - y, y)], 2), radius, outline, step)


def _occlusion(place: Tensor, outline: Tensor, step: Tensor, room: Room) -> Scene:
    """Two objects at nearly one height, up to a step apart, which go opposite ways."""
    size = room.size
    radius = between(place[..., 0], RADIUS[0] * size, 0.8 * RADIUS[1] * size)
    reach = (radius * (1 + ROUGHNESS)).amax(1)
    apart = (place[:, 0, 1] * 2 - 1) * room.step_px / 2  # half of it: to the middle between the two
    aside = reach + room.step_px + room.jitter_px + apart.abs()
    x = between(place[:, 0, 2], aside, size - 1 - aside)[:, None] + torch.stack([apart, -apart], 1)
    tilt = (place[:, 1, 1] * 2 - 1) * 0.05 * size
    y = between(place[:, 0, 3], reach + tilt.abs(), size - 1 - reach - tilt.abs())[:, None]
    return _moving(torch.stack([x, y + torch.stack([tilt, -tilt], 1)], 2), radius, outline, step)


def _pendulum(place: Tensor, outline: Tensor, step: Tensor, room: Room) -> Scene:
    """A bob on a rod that hangs from a pivot; the bob goes `step_px` along its arc."""
    size = room.size
    radius = between(place[..., 0], RADIUS[0] * size, 0.7 * RADIUS[1] * size)
    length = between(place[..., 1], 0.32 * size, 0.42 * size)
    hanging = (place[..., 2] * 2 - 1) * 0.3
    turn = step / length
    reach = radius * (1 + ROUGHNESS)
    aside = length * cosine_and_sine((0.3 + turn).clamp_max(math.pi / 2))[1] + reach
    pivot = between(place[..., 3], aside, size - 1 - aside)
    anchor = torch.stack([pivot, torch.full_like(pivot, 0.18 * size)], 2)
    cosine, sine = cosine_and_sine(hanging)
    arm = torch.stack([length * sine, length * cosine], 2)
    rod, disc = torch.full_like(radius, 0.03 * size), torch.full_like(radius[:, 0], 0.06 * size)
    return Scene(anchor, arm, radius, outline, rod, disc, torch.zeros_like(radius), turn)


PLACES = {"left-right": _left_right, "pendulum": _pendulum, "two": _two, "occlusion": _occlusion}
