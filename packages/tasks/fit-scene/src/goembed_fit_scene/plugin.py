"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the task and its fields."""
    register(
        "radiance-field",
        "voxel-grid",
        "goembed_fit_scene.voxels:VoxelField",
        config="goembed_fit_scene.config:VoxelFieldConfig",
        summary="a dense grid of densities and spherical harmonics, empty cells left out",
    )
    register(
        "radiance-field",
        "nerf-mlp",
        "goembed_fit_scene.networks:MLPField",
        config="goembed_fit_scene.config:MLPFieldConfig",
        summary="NeRF's network",
    )
    register(
        "task",
        "fit_scene",
        "goembed_fit_scene.task:FitScene",
        config="goembed_fit_scene.config:FitSceneConfig",
        presets="goembed_fit_scene.config:PRESETS",
        sample_config="goembed_fit_scene.config:SampleConfig",
        summary="one posed scene as a radiance field, judged by views that are held out",
    )
    register("viewable", "fit_scene", "goembed_fit_scene.viewing:viewables", summary="the fields of a run")
