"""Tomography: the scans, what the network sees, the figures, and a run from the command line."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from goembed_core import cli
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import named_leaves
from PIL import Image

from .conftest import require_example

require_example()
pytest.importorskip("goembed_dit", reason="needs goembed-deepinv[tomography]")

from goembed_deepinv import library  # noqa: E402
from goembed_deepinv.config import DeepinvConfig, ViewsConfig  # noqa: E402
from goembed_deepinv.evaluation import classical, context_error, correlation, reliability  # noqa: E402
from goembed_deepinv.forward import Angle, forward_model, half_ramp  # noqa: E402
from goembed_deepinv.problem import ProjectionDenoiser, roles, scan  # noqa: E402

SIDE, VIEWS = 16, ViewsConfig(context=2, target=3, novel=1)


@pytest.fixture(scope="module")
def model():
    return forward_model(DeepinvConfig(signal_shape=(1, SIDE, SIDE), scale=0.1))


@pytest.fixture(scope="module")
def images():
    """Bright discs, each with a smaller dark one, in [-1, 1]."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    discs = [((rows - 7.5 - i) ** 2 + (columns - 7.5) ** 2 < 30).float() for i in range(3)]
    holes = [((rows - 6 - i) ** 2 + (columns - 9) ** 2 < 5).float() for i in range(3)]
    return torch.stack([2 * (a - b).clamp(0, 1) - 1 for a, b in zip(discs, holes, strict=True)])[:, None]


def test_an_image_always_has_the_same_scan(model, images):
    whole = scan(model, images, 0, torch.tensor([5, 6, 7]), VIEWS.scanned)
    part = scan(model, images[1:2], 0, torch.tensor([6]), VIEWS.scanned)
    assert torch.equal(whole.params.angle_deg[1:2], part.params.angle_deg)
    torch.testing.assert_close(whole.values[1:2], part.values)
    parts = whole.params.angle_deg / (180 / VIEWS.scanned)
    assert torch.equal(parts.floor(), torch.arange(6.0).expand(3, -1))
    # The sum of a projection is that of the image, whatever the angle.
    mass = ((images + 1) / 2).sum((1, 2, 3)) * model.config.scale
    torch.testing.assert_close(whole.values.sum((2, 3)), mass[:, None].expand(-1, 6), rtol=0.02, atol=0)


def test_every_projection_has_one_role(model, images):
    scans = scan(model, images, 0, torch.arange(3), VIEWS.scanned)
    split = roles(scans, VIEWS, ItemRandom(0, range(3)))
    assert [part.values.shape[1] for part in split] == [2, 3, 1]
    together = torch.cat([part.params.angle_deg for part in split], 1)
    torch.testing.assert_close(together.sort(1).values, scans.params.angle_deg, rtol=0, atol=0)
    context = split.context.params.angle_deg
    assert (context.diff(dim=1) > 60).all() and (context.diff(dim=1) < 120).all()
    for part in split:  # values went with their angles
        torch.testing.assert_close(model((images + 1) / 2, part.params), part.values)
    starts = {roles(scans, VIEWS, ItemRandom(s, range(3))).context.params.angle_deg[0, 0].item() for s in range(20)}
    assert len(starts) == 3


def test_training_sees_no_image(model, images):
    split = roles(scan(model, images, 0, torch.arange(3), VIEWS.scanned), VIEWS, ItemRandom(0, range(3)))
    shapes = {tuple(leaf.shape[2:]) for leaf in named_leaves(split, "").values()}
    assert shapes == {(1, model.num_detectors), ()}


def test_the_network_sees_filtered_back_projections(model, images):
    filtered = forward_model(model.config.model_copy(update={"half_ramp": True}))
    scans = scan(filtered, images, 0, torch.arange(3), 30)
    seen = ProjectionDenoiser(torch.nn.Identity(), filtered).image(scans).values
    assert seen.shape == (3, 1, 1, SIDE, SIDE)
    physics = library.operators()["Tomography"](angles=scans.params.angle_deg[0], img_width=SIDE, normalize=False)
    sinogram = model((images[:1] + 1) / 2, Angle(scans.params.angle_deg[:1]))[0].permute(1, 2, 0)[None]
    # Two halves of a filter, each cut to the detectors, are not quite the whole.
    assert (seen[0] - physics.fbp(sinogram / model.config.scale)).square().mean().sqrt() < 0.01
    assert (seen[:, 0] - (images + 1) / 2).square().mean() < 0.02


def test_the_half_ramp_filter_is_its_sum():
    """Against a convolution with the filter's impulse response, term by term."""
    values = torch.randn(2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frequency = torch.arange(20, dtype=torch.float64)
    frequency = torch.minimum(frequency, 20 - frequency).clamp(min=0.25) / 20
    places = torch.arange(20, dtype=torch.float64)
    response = (
        frequency.sqrt() * torch.cos(2 * torch.pi * places[:, None] * frequency.new_tensor(range(20)) / 20)
    ).mean(1)
    expected = torch.zeros_like(values)
    for i in range(10):
        for j in range(10):
            expected[:, i] += response[abs(i - j)] * values[:, j]
    torch.testing.assert_close(half_ramp(values), expected)


def test_the_error_of_filtered_projections_is_about_that_of_the_image(model):
    filtered = forward_model(model.config.model_copy(update={"half_ramp": True}))
    rough = torch.randn(40, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(rough[..., ::4, ::4], (SIDE, SIDE))
    angles = Angle(torch.arange(12.0).mul(15).expand(40, -1))

    def ratio(operator):
        error = [operator(images, angles).square().mean() / images.square().mean() for images in (smooth, rough)]
        return (error[0] / error[1]).item()

    assert ratio(model) > 5 and ratio(filtered) < 2.5


def test_classical_reconstructions_of_many_projections_are_good(model, images):
    truth = (images + 1) / 2
    angles = Angle(torch.arange(40.0).mul(4.5).expand(3, -1))
    found = classical(model, Observations(model(truth, angles), angles))
    assert found.keys() == {"fbp", "least_squares"}
    for name, bound in {"fbp": 0.02, "least_squares": 0.01}.items():
        assert (found[name] - truth).square().mean() < bound
    context = Observations(model(truth, angles), angles)
    assert context_error(model, truth, context).max() < 1e-6
    assert context_error(model, torch.zeros_like(truth), context).sub(1).abs().max() < 1e-6


def test_spread_against_error():
    generator = torch.Generator().manual_seed(0)
    std = torch.rand(4, 1, 50, 50, generator=generator) + 0.1
    error = std * torch.randn(std.shape, generator=generator)  # as a perfect sampler's
    spread, measured = reliability(std, error)
    assert len(spread) == 10 and spread == sorted(spread)
    np.testing.assert_allclose(measured, spread, rtol=0.12)
    assert (correlation(std, 3 * std + 1) - 1).abs().max() < 1e-6
    assert (correlation(std, -std) + 1).abs().max() < 1e-6
    assert correlation(std, torch.randn(std.shape, generator=generator)).abs().max() < 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few pictures."""
    path = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(path / f"{number}.png")
    return path


def tiny(folder):
    """Settings that exercise every part."""
    data = [
        f"{key}.{setting}"
        for key in ("dataset", "held_out")
        for setting in (f"path={folder}", f"resolution={SIDE}", "split=train")
    ]
    return [
        *data, f"forward_model.signal_shape=[1,{SIDE},{SIDE}]", f"denoiser.height={SIDE}", f"denoiser.width={SIDE}",
        "denoiser.hidden_size=32", "denoiser.depth=1", "denoiser.num_heads=2", "views.context=2", "views.target=3",
        "views.novel=1", "train.images=32", "train.batch_size=8", "train.log_every_nimg=8", "train.mixed_precision=no",
        "sampler.num_steps=2", "evaluate.contexts=3", "evaluate.samples=3", "evaluate.pictures=2",
        "evaluate.batch_size=4",
    ]  # fmt: skip


def test_a_run_from_nothing_to_its_report(folder, tmp_path):
    run = tmp_path / "run"
    assert cli.main(["train", "task=tomography", f"run.dir={run}", *tiny(folder)]) == 0
    results = json.loads((run / "metrics.json").read_text())
    names = {"psnr_mean", "ssim_mean", "psnr_sample", "ssim_sample", "context_error_sample", "context_error_mean",
             "spread_error_correlation", "spread_over_error", "seconds_per_sample"}  # fmt: skip
    assert results["images_seen"] == 32 and results["metrics"].keys() == names
    assert all(math.isfinite(metric["value"]) for metric in results["metrics"].values())
    assert results["baselines"].keys() == {"deterministic", "fbp", "least_squares"}
    for baseline in results["baselines"].values():
        assert baseline.keys() == {"psnr_mean", "ssim_mean", "context_error_mean"}
    # Least squares explains what was measured; its residual is what the solver's tolerance leaves.
    assert results["baselines"]["least_squares"]["context_error_mean"] < 0.1
    page = (run / "report.html").read_text()
    for words in ("Samples", "Spread", "Projections", "Training", "psnr_mean"):
        assert words in page
    assert page.count("data:image") >= 5
    before = results["metrics"]["psnr_mean"]["value"]
    assert cli.main(["evaluate", str(run), "evaluate.batch_size=9"]) == 0
    again = json.loads((run / "metrics.json").read_text())["metrics"]["psnr_mean"]["value"]
    assert abs(again - before) < 1e-3  # a sample does not hang on its neighbours in the batch


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("denoiser.height=8", "denoiser.height=8: the images are 1 x 16 x 16, .*; say denoiser.height=16"),
        ("dataset.resolution=8", "dataset: its images are 1 x 8 x 8"),
        (
            'forward_model={"name":"deepinv","operator":"Inpainting","half_ramp":false}',
            "Called has no angles that vary",
        ),
        ("views.context=3", "context=3 does not divide the 7 projections"),
        ("views.contxt=4", "did you mean views.context"),
    ],
)
def test_bad_settings_are_refused_before_any_work(capsys, folder, tmp_path, setting, said):
    assert cli.main(["train", "task=tomography", f"run.dir={tmp_path / 'r'}", *tiny(folder), setting]) == 2
    text = capsys.readouterr().err.strip()
    assert re.search(said, text) and "\n" not in text, text
    assert not (tmp_path / "r").exists()
