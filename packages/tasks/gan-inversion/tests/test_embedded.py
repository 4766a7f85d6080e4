"""The model that the package carries."""

from __future__ import annotations

import json

import torch
from goembed_core import cli
from goembed_core.config.solvers import SamplerConfig
from goembed_gan_inversion import model as models
from goembed_gan_inversion.config import RefineConfig
from goembed_gan_inversion.refine import patch_error
from goembed_gan_inversion.solve import Solver


def test_it_samples_from_the_command_line(tmp_path):
    assert cli.main(["sample", "task=gan_inversion", "num_images=2", "num_samples=3", f"out={tmp_path}"]) == 0
    assert len(list(tmp_path.glob("image*.png"))) == 6 and (tmp_path / "grid.png").exists()


def test_it_was_trained():
    """Its samples agree with the patch far better than the mean image does, and differ from each other."""
    solver = Solver(models.load(None), seed=3, batch_size=64)
    scenes = solver.scenes(16, "test")
    found = solver.samples(scenes.context, 4, SamplerConfig())
    repeated = scenes.context._replace(values=scenes.context.values.repeat_interleave(4, 0))
    error = patch_error(found.images[:, None], repeated).mean()
    mean_image = scenes.target.values.mean(0, keepdim=True).expand(16, -1, -1, -1, -1)
    without = patch_error(mean_image, scenes.context).mean()
    assert error < 0.5 * without
    refined = solver.refine(found, repeated, RefineConfig(steps=60))
    assert patch_error(refined.images[:, None], repeated).mean() < 0.1 * without
    assert found.images.unflatten(0, (16, 4)).std(1).mean() > 0.02


def test_it_is_small_and_says_where_it_comes_from():
    directory = models.embedded()
    assert sum(path.stat().st_size for path in directory.iterdir()) < 16e6
    manifest = json.loads((directory / "model.json").read_text())
    assert manifest["facts"]["task"] == "gan_inversion" and manifest["facts"]["images_seen"] >= 100_000
    assert manifest["components"]["generator"]["config"]["weights"] == "fashion32"
    assert "images" in (directory / "README.md").read_text()


def test_stored_halves_are_read_as_single_precision():
    network = models.load(None).dfm.denoiser
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
