"""A folder of small objects, rendered as the furniture is."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from goembed_core import cli

OBJECTS, VIEWS, SIZE = 12, 8, 12


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """Boxes of all proportions and colours, of which the first and the last but one are held out (every tenth)."""
    folder = tmp_path_factory.mktemp("meshes")
    generator = np.random.default_rng(0)
    (folder / "boxes").mkdir()
    for number in range(OBJECTS):
        box = trimesh.creation.box(extents=generator.uniform(0.3, 1.0, 3))
        box.visual = trimesh.visual.ColorVisuals(box, face_colors=[*generator.integers(0, 200, 3), 255])
        box.export(folder / "boxes" / f"box{number:02d}.glb")
    out = tmp_path_factory.mktemp("data") / "views"
    asked = [f"folder={folder}", f"out={out}", f"size={SIZE}", f"views={VIEWS}", "samples=1", "up=z"]
    assert cli.main(["render-meshes", *asked]) == 0
    return out
