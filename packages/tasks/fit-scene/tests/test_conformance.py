"""What every radiance field has to hold to."""

from goembed_core import cli
from goembed_core.testing import parametrize_radiance_field
from goembed_fit_scene.config import MLPFieldConfig, VoxelFieldConfig
from goembed_fit_scene.networks import MLPField
from goembed_fit_scene.voxels import VoxelField
from goembed_nerf_renderer.config import SceneBox

WORLD = {"box": SceneBox(low=(-1.0, -2.0, -0.5), high=(1.0, 2.0, 0.5))}
# A camera at (0, 0, -1) that looks along z.
FRAME = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PERSPECTIVE = {"box": SceneBox(low=(-0.5, -0.4, -0.5), high=(0.5, 0.4, -0.1)), "frame": FRAME}
SMALL = {"hidden_size": 12, "occupancy_cells": 4, "frequencies": 2, "direction_frequencies": 1, "depth": 3}


@parametrize_radiance_field(lambda: VoxelField(VoxelFieldConfig(cells=5, harmonics=2, **WORLD)))
def test_a_voxel_grid_conforms(check):
    check()


@parametrize_radiance_field(lambda: VoxelField(VoxelFieldConfig(cells=4, **PERSPECTIVE)))
def test_a_voxel_grid_in_perspective_conforms(check):
    check()


@parametrize_radiance_field(lambda: MLPField(MLPFieldConfig(**SMALL, **WORLD)))
def test_nerf_s_network_conforms(check):
    check()


@parametrize_radiance_field(lambda: MLPField(MLPFieldConfig(**SMALL, **PERSPECTIVE)))
def test_nerf_s_network_in_perspective_conforms(check):
    check()


def test_the_command_checks_fields(capsys):
    assert cli.main(["check", "radiance-field", "voxel-grid", "box={}", "cells=4"]) == 0
    assert "point_gradient" in capsys.readouterr().out
    assert cli.main(["check", "radiance-field", "voxel-grid", "cells=4"]) == 2
    assert "a field without a box: give box=" in capsys.readouterr().err
