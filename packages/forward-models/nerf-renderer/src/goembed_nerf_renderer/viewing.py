"""What `goembed view` shows of a run, and how a field is looked at while somebody moves: part by part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from goembed_core.errors import UserError
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from goembed_nerf_renderer.cameras import Camera, PosedPixels, camera_rays, make_intrinsics, whole_image
from goembed_nerf_renderer.fields import ProposedField, RadianceField
from goembed_nerf_renderer.renderer import VolumeRenderer

if TYPE_CHECKING:  # which takes a while to import
    import trimesh

VIEWS = 16  # whose pixels make a cloud
PART = 4096  # rays between two looks at whether anybody still wants them
SOLID = 0.5  # a pixel has a depth where so much of the light is stopped


class Viewable(NamedTuple):
    """A field with its renderer, and the cameras that are shown beside it.

    A plugin registers `viewables(run) -> list[Viewable]` as the component `viewable` of its task's name.
    """

    name: str
    signal: RadianceField | ProposedField  # of one scene
    renderer: VolumeRenderer
    views: Camera  # leaves (V, ...)
    size: tuple[int, int]  # of the views in pixels, width and height
    centre: Float[Tensor, " 3"]  # what the browser's camera turns about
    images: Float[Tensor, "views 3 height width"] | None = None  # in [0, 1]: what the cameras saw, if it is at hand
    mesh: Callable[[], trimesh.Trimesh] | None = None  # makes the field's surface, with coloured corners

    @property
    def up(self) -> Float[Tensor, " 3"]:
        """What is up in the views, on average."""
        return F.normalize(-self.views.camera_to_world[:, :3, 1].mean(0), dim=0)

    @property
    def distance(self) -> float:
        """From the cameras to what they turn about, in the middle."""
        return (self.views.camera_to_world[:, :3, 3] - self.centre).norm(dim=1).median().item()


class Picture(NamedTuple):
    """What one camera sees."""

    colour: Float[Tensor, "height width 3"]  # in [0, 1]
    depth: Float[Tensor, "height width"]  # along z, infinite where most of the light comes through


class Cloud(NamedTuple):
    """Where light is stopped, and the colour that is seen there."""

    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]


def browser_camera(
    rotation: Float[Tensor, "3 3"], position: Float[Tensor, " 3"], fov_rad: float, height: int, width: int
) -> Camera:
    """A camera by its vertical angle of view, leaves `(4, 4)` and `(3, 3)`; `rotation` is to the world."""
    pose = torch.eye(4).to(rotation)
    pose[:3, :3], pose[:3, 3] = rotation, position
    focal = rotation.new_tensor(0.5 * height / math.tan(0.5 * fov_rad))
    return Camera(pose, make_intrinsics(focal, focal, focal.new_tensor(width / 2), focal.new_tensor(height / 2)))


@torch.no_grad()
def look(
    viewable: Viewable, camera: Camera, height: int, width: int, unwanted: Callable[[], bool] = lambda: False
) -> Picture | None:
    """What a camera, leaves `(4, 4)` and `(3, 3)`, sees; None once it is `unwanted`, which is asked between parts."""
    params = whole_image(Camera(*(leaf[None, None] for leaf in camera)), height, width)
    pixels = params.pixels.reshape(1, 1, -1, 2)
    colours, depths = [], []
    for part in pixels.split(PART, 2):
        if unwanted():
            return None
        seen = viewable.renderer.render(viewable.signal, PosedPixels(params.camera, part, params.image_size))
        rays = camera_rays(params.camera, part)
        along = rays.directions[0, 0] @ camera.camera_to_world[:3, 2]
        mean = along * seen.depth[0, 0] / seen.opacity[0, 0].clamp(min=SOLID)
        depths.append(torch.where(seen.opacity[0, 0] > SOLID, mean, torch.inf))
        colours.append(seen.colour[0, 0].mT)
    return Picture(
        torch.cat(colours).clamp(0, 1).reshape(height, width, 3).cpu(), torch.cat(depths).reshape(height, width).cpu()
    )


@torch.no_grad()
def cloud(
    renderer: VolumeRenderer,
    signal: RadianceField | ProposedField,
    views: Camera,
    height: int,
    width: int,
    min_opacity: float,
) -> Cloud:
    """Where the light of the views' pixels is stopped on average, with the colour that is seen there.

    **Arguments:**
    - `views`: leaves `(V, ...)`; at most 16 of them are used.
    - `min_opacity`: pixels that stop less light make no point.

    **Raises:** UserError where there is no point.
    """
    places, colours, most = [], [], 0.0
    for params in _spread(views, height, width):
        seen = renderer.render(signal, params)
        rays = camera_rays(params.camera, params.pixels)
        opacity = seen.opacity[0, 0]
        most = max(most, opacity.max().item())
        solid = opacity > min_opacity
        distance = (seen.depth[0, 0] / opacity.clamp(min=1e-6))[..., None]
        places.append((rays.origins[0, 0] + distance * rays.directions[0, 0])[solid])
        colours.append(seen.colour[0, 0].movedim(0, -1)[solid])
    points, colour = torch.cat(places).cpu(), torch.cat(colours).cpu()
    if not len(points):
        raise UserError(
            f"no pixel of {len(places)} views stops min_opacity={min_opacity} of the light (the most is {most:.3g}): "
            f"no points; ask for a lower opacity"
        )
    return Cloud(points, colour.clamp(0, 1))


def _spread(views: Camera, height: int, width: int) -> Iterator[PosedPixels]:
    """Whole images of some of the views, spread evenly."""
    count = len(views.intrinsics)
    for row in torch.linspace(0, count - 1, min(VIEWS, count)).round().long():
        yield whole_image(Camera(*(leaf[row][None, None] for leaf in views)), height, width)
