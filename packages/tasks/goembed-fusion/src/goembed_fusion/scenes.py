"""Posed views of many objects in memory, and which of them training and evaluation look at."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from goembed_core.config import ComponentConfig, ConfigError
from goembed_core.errors import UserError
from goembed_core.progress import ProgressLine
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import Camera, random_pixels, whole_image
from jaxtyping import Int, UInt8
from torch import Tensor

from goembed_fusion.config import DrawConfig

LIST_SEED = 1  # of the views that every evaluation encodes and holds out
CHUNK = 16  # objects read together


class Scenes(NamedTuple):
    """Objects with equally many views of one size."""

    images: UInt8[Tensor, "objects views 3 height width"]
    camera: Camera  # leaves (objects, views, ...)
    names: list[str]

    def views(self, objects: Int[Tensor, " b"], views: Int[Tensor, "b v"], device: torch.device) -> Observations:
        """Whole images in [0, 1] of some objects' views, and their `φ`."""
        rows = objects[:, None].cpu()
        values, *camera = (leaf[rows, views.cpu()].to(device) for leaf in (self.images, *self.camera))
        return Observations(values.float() / 255, whole_image(Camera(*camera), *values.shape[-2:]))


class Drawn(NamedTuple):
    """What a step of training encodes, and what it compares."""

    sources: Observations  # whole images
    targets: Observations  # some pixels of other views


class HeldOut(NamedTuple):
    """The fixed list: held-out objects with views to encode, in order, and views to look from."""

    objects: Int[Tensor, " n"]
    sources: Int[Tensor, "n most"]
    targets: Int[Tensor, "n t"]


def load(section: ComponentConfig, split: str) -> Scenes:
    """The objects of a split of a dataset, as bytes.

    **Raises:** ConfigError where there are no such objects; UserError where they differ in the number of views.
    """
    if "split" not in type(section.settings).model_fields:
        raise ConfigError(
            f"dataset={section.name} holds no objects out: expected one with a split, such as omniobject3d"
        )
    section = section.resolved(section.settings.model_copy(update={"split": split}))
    try:
        dataset = section.build()
    except UserError as error:
        raise ConfigError(
            f"{error}; `goembed render-meshes folder=MESHES out=FOLDER` renders meshes, such as those of "
            f"GOEMBED_DATA, to a folder for dataset.path"
        ) from error
    images, cameras = [], []
    with ProgressLine(f"read {split}", len(dataset), unit="objects") as line:
        for part in torch.arange(len(dataset)).split(CHUNK):
            values, params = dataset.observations(part)
            if not images:
                _require_loadable(section, values, params, len(dataset))
            images.append((values * 255).round().to(torch.uint8))
            cameras.append(params.camera)
            line.advance_to(int(part[-1]) + 1, "")
    return Scenes(torch.cat(images), Camera(*map(torch.cat, zip(*cameras, strict=True))), list(dataset.names))


def _require_loadable(section: ComponentConfig, values: Tensor, params: Any, objects: int) -> None:
    """Raise ConfigError unless these are views with cameras, and bytes of all objects fit into memory."""
    if not isinstance(getattr(params, "camera", None), Camera):
        given = f"dataset={section.name}, whose φ is {type(params).__name__}"
        raise ConfigError(f"{given}: expected posed views of objects, whose φ has a camera")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = values[0].numel() * objects
    if size > memory:
        raise ConfigError(
            f"dataset={section.name}: the views of all {objects:,} objects are kept as bytes, {size / 2**30:,.0f} GiB, "
            f"and there are {memory / 2**30:,.0f} GiB of memory; ask for fewer or smaller ones"
        )


def require_views(scenes: Scenes, wanted: int, why: str) -> None:
    """Raise ConfigError unless objects have so many views."""
    there = scenes.images.shape[1]
    if there < wanted:
        raise ConfigError(f"{why} ask for {wanted} views of an object, and those of dataset have {there}: ask for less")


def draw(scenes: Scenes, config: DrawConfig, random: ItemRandom, shared: ItemRandom) -> Drawn:
    """Objects and views for the items of a batch; all have as many sources, which `shared`, of one item, draws."""
    low, high = config.sources
    count = int(shared.stream("sources").randint(low, high + 1, 1))
    if float(shared.stream("fewest").rand()) < config.fewest_share:
        count = low
    objects, views = scenes.images.shape[:2]
    chosen = random.stream("objects").randint(0, objects, 1)[:, 0]
    order = random.stream("views").rand(views).argsort(1)
    sources = scenes.views(chosen, order[:, :count], random.device)
    targets = scenes.views(chosen, order[:, high : high + config.targets], random.device)
    return Drawn(sources, random_pixels(targets, config.target_rays, random.stream("pixels")))


def fixed_list(scenes: Scenes, objects: int, sources: int, targets: int) -> HeldOut:
    """The same objects and views for every method and every run; more sources go on where fewer end."""
    count, views = scenes.images.shape[:2]
    chosen = torch.linspace(0, count - 1, min(objects, count)).round().long()
    generator = torch.Generator().manual_seed(LIST_SEED)
    order = torch.stack([torch.randperm(views, generator=generator) for _ in range(count)])[chosen]
    return HeldOut(chosen, order[:, targets : targets + sources], order[:, :targets])
