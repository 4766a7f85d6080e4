"""The scene that is fitted: its views, where it is, and the pixels that training draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from goembed_core.config import ComponentConfig, ConfigError
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_multiview_datasets.scenes import PosedImages
from goembed_nerf_renderer.cameras import Camera, PosedPixels, camera_rays, frustum, whole_image
from goembed_nerf_renderer.config import RendererConfig, SceneBox
from goembed_nerf_renderer.sampling import Segment, box_segment
from jaxtyping import Float, Int
from torch import Tensor

from goembed_fit_scene.config import FitSceneConfig

MARGIN = 0.01  # of the sides of a box around what cameras see


class Scene(NamedTuple):
    """Views to fit and views that are held out, over one background."""

    name: str
    train: PosedImages
    test: PosedImages
    background: Float[Tensor, " 3"]


class Place(NamedTuple):
    """Where a scene is, for the field and for the renderer."""

    near: float
    far: float
    box: SceneBox  # of the field: in the world, or in the frame's perspective
    frame: tuple[float, ...] | None


class Drawn(NamedTuple):
    """Rays of training, and what is seen along them; an item is a ray."""

    params: PosedPixels
    colour: Float[Tensor, "batch 3"]
    background: Float[Tensor, "batch 3"]


class PixelTable(NamedTuple):
    """Pixels that may be drawn: those whose ray meets the box, as no other can teach the field anything."""

    camera: Camera  # leaves (V, ...)
    size: Float[Tensor, " 2"]
    view: Int[Tensor, " n"]
    pixels: Float[Tensor, "n 2"]
    colour: Float[Tensor, "n 3"]
    clear: Float[Tensor, "n 1"]  # the share of the background
    background: Float[Tensor, " 3"]

    def draw(self, random: ItemRandom, any_background: bool) -> Drawn:
        """A pixel for each item, of any view."""
        row = random.randint(0, len(self.view), 1)[:, 0]
        view, pixels = self.view[row], self.pixels[row]
        camera = Camera(*(leaf[view][:, None] for leaf in self.camera))
        params = PosedPixels(camera, pixels[:, None, None], self.size.expand(len(row), 1, 2))
        behind = random.rand(3).to(self.colour) if any_background else self.background.expand(len(row), 3)
        return Drawn(params, self.colour[row] + self.clear[row] * (behind - self.background), behind)

    def to(self, device: torch.device) -> PixelTable:
        """The same on a device."""
        camera = Camera(*(leaf.to(device) for leaf in self.camera))
        return PixelTable(camera, *(leaf.to(device) for leaf in self[1:]))


def load_scene(config: FitSceneConfig) -> Scene:
    """Both splits of the scene that the settings name.

    **Raises:** UserError where there is no such scene, or the dataset has no views to hold out.
    """
    settings: Any = config.dataset.settings
    if "background" not in type(settings).model_fields:
        raise ConfigError(
            f"dataset.name={config.dataset.name}: expected posed views of scenes on a background, as blender has them"
        )
    if "split" not in type(settings).model_fields or settings.split != "train":
        raise ConfigError(
            f"dataset.name={config.dataset.name}: expected a dataset with splits, and dataset.split=train; the split "
            f"test is held out"
        )
    whole = settings.model_copy(update={"views": None, "draws": 1, "window": None})
    if whole != settings:
        raise ConfigError("dataset.views: all views of a scene are fitted; leave views, draws and window out")
    splits = []
    for split in ("train", "test"):
        dataset = config.dataset.resolved(settings.model_copy(update={"split": split})).build()
        if config.scene >= len(dataset):
            raise ConfigError(f"scene={config.scene}: there are {len(dataset)} scenes, {', '.join(dataset.names[:8])}")
        splits.append(dataset[config.scene])
    level = float(settings.background == "white")
    return Scene(dataset.names[config.scene], *splits, torch.full((3,), level))


def find_place(config: FitSceneConfig, scene: Scene) -> Place:
    """The box around the scene: the one that is given, else around all that cameras see between near and far."""
    near, far = scene.train.near_far[:, 0].amin().item(), scene.train.near_far[:, 1].amax().item()
    if config.space == "world" and config.box is not None:
        return Place(near, far, config.box, None)
    if config.box is not None:
        raise ConfigError("box is in the world, and space=perspective finds its own; leave box out, or say space=world")
    height, width = scene.train.images.shape[2:]
    camera = Camera(*(leaf[None] for leaf in scene.train.camera))
    size = torch.tensor([float(width), float(height)]).expand(1, len(scene.train.images), 2)
    corners = torch.cat([frustum(camera, size, depth)[:, :, 1:] for depth in (near, far)], 2).reshape(-1, 3)
    frame = None
    if config.space == "perspective":
        frame = _mean_frame(scene.train.camera)
        local = corners @ frame[:3, :3].mT + frame[:3, 3]
        if (local[:, 2] <= 0).any():
            raise UserError(
                f"space=perspective: some of the {len(scene.train.images)} cameras of {scene.name} see what is behind "
                f"their mean; say space=world and a box"
            )
        corners = torch.cat([local[:, :2] / local[:, 2:], -1 / local[:, 2:]], 1)
    low, high = corners.amin(0), corners.amax(0)
    margin = MARGIN * (high - low)
    box = SceneBox(low=tuple((low - margin).tolist()), high=tuple((high + margin).tolist()))
    return Place(near, far, box, None if frame is None else tuple(frame.flatten().tolist()))


def placed_field(config: FitSceneConfig, place: Place) -> ComponentConfig:
    """The field's section with the scene's box."""
    settings: Any = config.field.settings
    if not {"box", "frame"} <= set(type(settings).model_fields):
        raise ConfigError(f"field.name={config.field.name}: expected a field with settings box and frame")
    if settings.box is not None or settings.frame is not None:
        raise ConfigError("field.box: the field is in the scene's box; give box (and space) instead")
    return config.field.resolved(settings.model_copy(update={"box": place.box, "frame": place.frame}))


def placed_renderer(config: FitSceneConfig, place: Place, scene: Scene) -> ComponentConfig:
    """The renderer's section with the scene's distances, box and background."""
    settings: Any = config.forward_model.settings
    if not isinstance(settings, RendererConfig):
        raise ConfigError(f"forward_model.name={config.forward_model.name}: expected nerf-renderer")
    for key in ("near", "far", "box", "background"):
        given, default = getattr(settings, key), RendererConfig.model_fields[key].default
        if given != default:
            where = {"box": "box", "background": "dataset.background"}.get(key, "dataset.near_far")
            raise ConfigError(f"forward_model.{key}={given}: it is the scene's; give {where} instead")
    placed = {
        "near": place.near,
        "far": place.far,
        "box": place.box if place.frame is None else None,
        "background": "white" if scene.background[0] == 1 else "black",
    }
    return config.forward_model.resolved(settings.model_copy(update=placed))


def pixel_table(scene: Scene, renderer: RendererConfig) -> PixelTable:
    """Every pixel of the views to fit whose ray meets the renderer's box."""
    images, alpha, camera, _ = scene.train
    height, width = images.shape[2:]
    params = whole_image(Camera(*(leaf[:, None] for leaf in camera)), height, width)
    rays = camera_rays(params.camera, params.pixels)
    segment = Segment(*(torch.full_like(rays.origins[..., 0], end) for end in (renderer.near, renderer.far)))
    if renderer.box is not None:
        low, high = torch.tensor(renderer.box.low), torch.tensor(renderer.box.high)
        segment = box_segment(rays.origins, rays.directions, low, high, segment)
    met = (segment.far > segment.near).flatten().nonzero()[:, 0]
    if not len(met):
        raise UserError(f"box={renderer.box}: no camera of {scene.name} sees any of it; is it in the cameras' world?")
    return PixelTable(
        camera,
        torch.tensor([float(width), float(height)]),
        met // (height * width),
        params.pixels.reshape(-1, 2)[met],
        images.movedim(1, -1).reshape(-1, 3)[met],
        1 - alpha.reshape(-1, 1)[met],
        scene.background,
    )


def _mean_frame(camera: Camera) -> Float[Tensor, "4 4"]:
    """World to a camera at the mean position, with the rotation that is nearest to the mean of all."""
    u, _, v = torch.linalg.svd(camera.camera_to_world[:, :3, :3].mean(0))
    rotation = u @ torch.diag(torch.tensor([1.0, 1.0, torch.linalg.det(u @ v).sign().item()])) @ v
    frame = torch.eye(4)
    frame[:3, :3] = rotation.mT
    frame[:3, 3] = -(rotation.mT @ camera.camera_to_world[:, :3, 3].mean(0))
    return frame
