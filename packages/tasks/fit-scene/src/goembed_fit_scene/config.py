"""The settings of fitting a scene, and of its fields; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_nerf_renderer.config import FieldConfig, SceneBox
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Cells = Annotated[int, Field(ge=1, le=512)]


class VoxelFieldConfig(FieldConfig):
    """A dense grid of densities and of colours in spherical harmonics, with trilinear interpolation."""

    cells: Cells = Field(default=96, description="cells along the box's longest side; about cubes in the world")
    harmonics: Literal[0, 1, 2] = Field(default=1, description="degree of the spherical harmonics of the colour")
    initial_depth: PositiveFloat = Field(default=1e-2, description="optical depth across a cell before the training")


class MLPFieldConfig(FieldConfig):
    """NeRF's network: positions and directions as sines, one skip connection."""

    occupancy_cells: Cells = Field(default=64, description="cells along the box's longest side that may be empty")
    frequencies: PositiveInt = Field(default=7, description="octaves of sines of the position in the box")
    direction_frequencies: NonNegativeInt = Field(default=2, description="octaves of sines of the direction")
    hidden_size: PositiveInt = Field(default=96, description="width")
    depth: PositiveInt = Field(default=4, description="layers before the density")
    initial_depth: PositiveFloat = Field(default=0.5, description="optical depth across the box before the training")


class EvaluateConfig(Config):
    """What is measured and shown."""

    views: PositiveInt | None = Field(default=None, description="held-out views that are measured; null for all")
    lpips: bool = Field(default=True, description="measure LPIPS too")
    pictures: PositiveInt = Field(default=4, description="held-out views that the report shows")
    turntable_frames: PositiveInt = Field(default=60, description="frames of the turntable")
    chunk_points: PositiveInt = Field(default=2**19, description="samples of rays held at a time")


class FitSceneConfig(TaskConfig):
    """Fit a radiance field to the posed images of one scene, through the renderer."""

    task: str = Field(default="fit_scene", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training; an observation is a ray")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=0.1, betas=(0.9, 0.99), decay="cosine"), description="optimiser of the field"
    )
    dataset: ComponentConfig = component(
        "dataset", "blender", params={"size": 100}, description="the scenes that are fitted and held out"
    )
    scene: NonNegativeInt = Field(default=0, description="which of the dataset's scenes")
    space: Literal["world", "perspective"] = Field(
        default="world", description="what the field's box is in: the world, or the cameras' mean perspective"
    )
    box: SceneBox | None = Field(
        default=None, description="a box in the world that holds the scene; null for one around all that cameras see"
    )
    forward_model: ComponentConfig = component(
        "forward-model",
        "nerf-renderer",
        params={"samples": 32, "proposal_samples": [64]},
        description="the renderer; near and far are the dataset's",
    )
    field: ComponentConfig = component("radiance-field", "voxel-grid")
    background: Literal["dataset", "random"] = Field(
        default="dataset", description="what training has behind images with alpha; random is drawn for each ray"
    )
    warmup_nimg: NonNegativeInt = Field(default=100_000, description="rays before empty space is looked for")
    occupancy_every_nimg: PositiveInt = Field(default=50_000, description="rays between searches for empty space")
    smoothness: NonNegativeFloat = Field(default=1e-4, description="weight of the total variation of voxel grids")
    distortion: NonNegativeFloat = Field(default=0.0, description="weight of the distortion loss")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


class SampleConfig(Config):
    """What `goembed sample` of a fitted scene can be told."""

    task: str = Field(default="fit_scene", description="name of the task")
    frames: PositiveInt = Field(default=60, description="frames of the turntable")
    scale: PositiveFloat = Field(default=2.0, le=16, description="size of the turntable, in that of the views")
    export: Literal["none", "ply", "glb", "all"] = Field(
        default="none", description="points.ply, a cloud of coloured points, or mesh.glb, a mesh by marching cubes"
    )
    mesh_cells: Cells = Field(default=192, description="cells along the box's longest side that the mesh is made in")
    mesh_opacity: PositiveFloat = Field(
        default=0.2, lt=1, description="a cell of the field is within the mesh where it stops this share of the light"
    )
    min_opacity: PositiveFloat = Field(
        default=0.5, lt=1, description="a pixel makes a point where this share of the light is stopped along its ray"
    )
    out: Path | None = Field(default=None, description="folder of the files; null for RUN/samples")


_LEGO = {"box": {"low": [-0.72, -1.22, -0.62], "high": [0.72, 1.22, 1.12]}}
_FERN = {
    "dataset": {"name": "llff", "factor": 8},
    "space": "perspective",
    "forward_model": {"spacing": "disparity", "samples": 48, "proposal_samples": [96]},
}
_MLP = {
    "field": {"name": "nerf-mlp"},
    "optimizer": {"lr": 2e-3, "warmup_nimg": 50_000},
}


def _train(images: int, batch_size: int) -> dict[str, Any]:
    return {"train": {"images": images, "batch_size": batch_size, "ema_halflife_nimg": 0, "clip_norm": None,
                      "log_every_nimg": 20 * batch_size, "checkpoint_every_nimg": 400 * batch_size,
                      "mixed_precision": "no"}}  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "quick": _train(4_096_000, 4096) | _LEGO,
    "mlp": _train(614_400, 1024) | _LEGO | _MLP,
    "fern": _train(4_096_000, 4096) | _FERN | {"field": {"cells": 128, "harmonics": 0}},
    "fern-mlp": _train(614_400, 1024) | _FERN | _MLP,
}
