"""Training end to end on a handful of tiny images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.config import ConfigError, resolve
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_stylegan_synth.config import PRESETS, SampleConfig, StyleGAN2Config
from goembed_stylegan_synth.sampling import save_grid
from goembed_stylegan_synth.task import WEIGHTS, StyleGAN2Training
from goembed_stylegan_synth.weights import load_generator
from PIL import Image


@pytest.fixture
def settings(tmp_path) -> list[str]:
    """A run small enough for a test, with every phase and the adaptive augmentation in it."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(16):
        square = np.zeros((8, 8), np.uint8)
        square[2:6, 2:6] = random.integers(150, 256)
        Image.fromarray(square).save(folder / f"{index}.png")
    values = {
        "preset": "fashion32",
        "run.root": str(tmp_path / "runs"),
        "dataset.path": str(folder),
        "dataset.resolution": 8,
        "generator.resolution": 8,
        "generator.channel_base": 64,
        "generator.channel_max": 8,
        "generator.z_dim": 4,
        "generator.w_dim": 4,
        "generator.mapping_layers": 2,
        "discriminator.channel_base": 64,
        "discriminator.channel_max": 8,
        "losses.path_length_weight": 2,
        "losses.path_length_every": 2,
        "losses.r1_every": 2,
        "losses.style_mixing": 0.9,
        "losses.noise": "random",
        "augment.target": 0.6,
        "augment.speed_nimg": 1000,
        "train.images": 64,
        "train.batch_size": 8,
        "train.log_every_nimg": 16,
        "train.preview_every_nimg": 32,
        "train.mixed_precision": "no",
        "evaluate.images": 8,
        "evaluate.intervals": 0,
    }
    return [f"{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in values.items()]


def configure(settings: list[str], *more: str) -> StyleGAN2Config:
    return resolve("stylegan2", [*settings, *more]).config


def train(config: StyleGAN2Config) -> Run:
    task, run = StyleGAN2Training(config), Run.start(config)
    task.train(run)
    return run


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def log(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics_log.read_text().splitlines()]


def test_from_images_to_figures(settings):
    config = configure(settings)
    run = train(config)
    last = log(run)[-1]
    wanted = {"generator/loss", "path_length/length", "discriminator/loss", "discriminator/p", "r1/penalty"}
    assert wanted <= last.keys()
    assert len(list(run.samples.glob("preview-*.png"))) == 2

    results = StyleGAN2Training(config).evaluate(run)
    assert {name.split("_")[0] for name in results.metrics} == {"frechet", "kernel"}
    assert results.images_seen == 64
    assert "8 generated against 8 real images" in (run.dir / "report.html").read_text()

    folder = StyleGAN2Training.sample(run, SampleConfig(rows=2, columns=3, seed=5))
    assert size_of(folder / "grid-seed-5.png") == (3 * 64, 2 * 64)


def test_phases_move_their_own_player_in_their_own_steps(settings, monkeypatch):
    task = StyleGAN2Training(configure(settings, "losses.path_length_every=4"))
    calls = {}
    for name in ("_generator_terms", "_path_length_terms", "_discriminator_terms", "_r1_terms"):
        inner = getattr(task, name)

        def count(batch, random, name=name, inner=inner):
            calls.setdefault(name, []).append(
                (next(task.generator.parameters()).requires_grad, next(task.discriminator.parameters()).requires_grad)
            )
            return inner(batch, random)

        monkeypatch.setattr(task, name, count)
    task.train(Run.start(task.config))
    assert {name: len(moves) for name, moves in calls.items()} == {
        "_generator_terms": 8,
        "_path_length_terms": 2,
        "_discriminator_terms": 8,
        "_r1_terms": 4,
    }
    assert set(calls["_generator_terms"] + calls["_path_length_terms"]) == {(True, False)}
    assert set(calls["_discriminator_terms"] + calls["_r1_terms"]) == {(False, True)}


def test_augmentation_follows_what_the_discriminator_said(settings):
    task = StyleGAN2Training(configure(settings, "losses.share_fakes=false"))
    images, random = torch.randn(8, 1, 8, 8), ItemRandom(0, range(8))
    for _ in range(100):
        task._discriminator_terms(images, random)
    judged = task.discriminator(images).sign().mean()
    assert task.augment.real_sign.item() == pytest.approx(judged.item(), abs=0.5)
    task.augment.real_sign.fill_(1.0)
    assert task._prepare(images, random) is images
    assert task.augment.p.item() == pytest.approx(8 / 1000)


def test_every_term_is_weighted_as_published(settings, monkeypatch):
    task = StyleGAN2Training(configure(settings, "augment.target=null"))
    images, random = torch.randn(8, 1, 8, 8), ItemRandom(0, range(8))
    r1 = task._r1_terms(images, random)
    assert r1.losses["loss"].item() == pytest.approx(0.1 / 2 * 2 * r1.statistics["penalty"].item())
    monkeypatch.setattr(task.path_length, "forward", lambda images, ws, random: (torch.tensor(3.0), torch.ones(4)))
    assert task._path_length_terms(images, random).losses["loss"].item() == pytest.approx(2 * 2 * 3)


def test_the_mean_latent_follows_training(settings):
    task = StyleGAN2Training(configure(settings))
    task._generator_terms(torch.randn(8, 1, 8, 8), ItemRandom(0, range(8)))
    assert (task.generator.mapping.w_avg != 0).all()


def test_real_and_generated_images_are_augmented(settings, monkeypatch):
    task = StyleGAN2Training(configure(settings))
    seen = []
    monkeypatch.setattr(task.augment, "forward", lambda images, random: seen.append(images.requires_grad) or images)
    images, random = torch.randn(8, 1, 8, 8), ItemRandom(0, range(8))
    task._generator_terms(images, random)
    task._discriminator_terms(images, random)
    task._r1_terms(images, random)
    assert seen == [True, False, False, False]


@pytest.mark.parametrize("shared", [True, False])
def test_the_discriminator_judges_the_generators_images_or_fresh_ones(settings, monkeypatch, shared):
    task = StyleGAN2Training(configure(settings, f"losses.share_fakes={json.dumps(shared)}"))
    seen = []
    monkeypatch.setattr(task.augment, "forward", lambda images, random: seen.append(images) or images)
    images = torch.randn(8, 1, 8, 8)
    task._generator_terms(images, ItemRandom(0, range(8), "generator"))
    task._discriminator_terms(images, ItemRandom(0, range(8), "discriminator"))
    made, judged, real = seen
    assert torch.equal(made, judged) == shared
    assert not judged.requires_grad and torch.equal(real, images)


def test_a_resumed_run_is_the_same_run(settings):
    whole = train(configure(settings, "run.name=whole"))
    train(configure(settings, "run.name=parts", "train.images=32"))
    parts = train(configure(settings, "run.name=parts"))
    one, two = (load_generator(run.model / WEIGHTS).generator.state_dict() for run in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_discriminator_learns_to_tell(settings):
    run = train(configure(settings, "train.images=480", "augment.target=null"))
    first, last = log(run)[0], log(run)[-1]
    assert last["discriminator/loss"] < first["discriminator/loss"]


def test_lazy_regularisers_scale_adam(settings):
    task = StyleGAN2Training(configure(settings, "losses.r1_every=16"))
    lazy = task._lazy("discriminator", 1.0)
    assert lazy.lr == pytest.approx(0.0025 * 16 / 17)
    assert lazy.betas == pytest.approx((0.0, 0.99 ** (16 / 17)))
    assert task._lazy("discriminator", 0.0) == task.config.discriminator_optimizer
    assert task._lazy("generator", 2.0).lr == pytest.approx(0.0025 * 2 / 3)


def test_images_that_do_not_fit_are_refused(settings):
    with pytest.raises(ConfigError, match=r"images are \(1, 16, 16\), the generator makes \(1, 8, 8\); set dataset"):
        StyleGAN2Training(configure(settings, "dataset.resolution=16"))


def test_the_embedded_generator_can_be_sampled(tmp_path):
    folder = StyleGAN2Training.sample(None, SampleConfig(rows=1, columns=2, out=tmp_path / "out"))
    assert size_of(folder / "grid-seed-0.png") == (128, 64)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert resolve("stylegan2", [f"preset={preset}"]).config.preset == preset


def test_the_published_settings():
    config = resolve("stylegan2", ["preset=paper256"]).config
    assert (config.train.images, config.train.batch_size, config.train.ema_halflife_nimg) == (25_000_000, 64, 20_000)
    assert (config.losses.r1_gamma, config.augment.target, config.augment.speed_nimg) == (1.0, 0.6, 500_000)
    assert config.generator.channel_base == 16384 and config.discriminator.mbstd_group_size == 8
    assert isinstance(config.run.root, Path)


def test_a_grid_has_its_images_in_rows(tmp_path):
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 32, 32)
    save_grid(images, 3, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        levels = np.asarray(picture)[32::64, 32::64, 0]
    assert levels.tolist() == [[0, 64, 128], [191, 255, 0]]
