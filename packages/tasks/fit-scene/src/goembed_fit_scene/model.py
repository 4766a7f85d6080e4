"""A fitted field with its renderer: how it is asked, kept and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from goembed_core.config import ComponentConfig
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera, whole_image
from goembed_nerf_renderer.fields import FieldSamples, ProposedField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.rendering import Rendering
from jaxtyping import Float
from torch import Tensor, nn


class SceneField(Protocol):
    """What a radiance field needs beside its protocol to be fitted to a scene; it is an `nn.Module`."""

    box: FieldBox

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Density, and colour where directions are given."""
        ...

    def proposal(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """A density without gradient, which says where to look."""
        ...

    def find_empty(self, random: ItemRandom) -> None:
        """Look which cells of the box are empty."""
        ...

    def variation(self, random: ItemRandom) -> Float[Tensor, ""]:
        """How much the field varies at places that each item draws; what `smoothness` weighs."""
        ...


class Model(NamedTuple):
    """A field that can be looked at."""

    field: SceneField
    renderer: VolumeRenderer
    facts: dict[str, Any]

    @property
    def views(self) -> Camera:
        """The cameras that the field was fitted to, leaves `(V, ...)`."""
        device = self.field.box.low.device
        pose, intrinsics = (torch.tensor(self.facts[key], device=device) for key in ("camera_to_world", "intrinsics"))
        return Camera(pose.unflatten(1, (4, 4)), intrinsics.unflatten(1, (3, 3)))

    @property
    def signal(self) -> ProposedField:
        """What the renderer renders."""
        return propose(self.field, self.renderer)

    @torch.no_grad()
    def view(self, camera: Camera, height: int, width: int) -> Rendering:
        """Everything that one camera, leaves `(4, 4)` and `(3, 3)`, sees; leaves `(1, 1, ...)`."""
        return self.renderer.render(self.signal, whole_image(Camera(*(x[None, None] for x in camera)), height, width))


def propose(field: SceneField, renderer: VolumeRenderer) -> ProposedField:
    """The field with its own proposal at each of the renderer's levels."""
    return ProposedField(field, (field.proposal,) * len(renderer.config.proposal_samples))


def save(directory: Path, field: ComponentConfig, renderer: ComponentConfig, module: nn.Module, facts: dict) -> None:
    """Write the field and the settings of its renderer as a model directory."""
    parts = {
        "field": Part(field.kind, field.name, field.settings, module),
        "renderer": Part(renderer.kind, renderer.name, renderer.settings, None),
    }
    save_pretrained(directory, parts, facts)


def load(directory: Path, chunk_points: int, device: torch.device | str = "cpu") -> Model:
    """The model of a directory, which holds `chunk_points` samples of rays at a time."""
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "fit_scene":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'fit_scene'")
    renderer = VolumeRenderer(parts["renderer"].config.model_copy(update={"chunk_points": chunk_points}))
    return Model(parts["field"], renderer.to(device), facts)
