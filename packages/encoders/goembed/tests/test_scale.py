"""The scale: measured on the first batch of training, stored, and the same everywhere."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from goembed_core.ema import EMA
from goembed_core.errors import UserError
from goembed_core.trees import named_leaves, select_items, select_views, tree_map
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed
from safetensors.torch import load_file, save_file


@pytest.fixture
def new(worlds):
    """An encoder through a network, as often as it is wanted."""
    return lambda **settings: GOEmbed(worlds.Network(), EncodingConfig(steps=2, **settings))


@pytest.fixture
def seen(worlds):
    return worlds.observed(worlds.Network(), 6, dtype=torch.float32)


def test_the_first_batch_of_training_is_scaled_to_one(new, seen):
    raw = new(scale="none").eval()(seen)
    assert raw.shape.square().mean().sqrt() < 0.1  # which is why there is a scale
    for steps in (1, 2):
        encoder = GOEmbed(new().forward_model, EncodingConfig(gain=2.0, steps=steps))
        found = encoder(seen)
        if steps == 1:
            assert torch.allclose(found.shape.square().mean((0, 2, 3)).sqrt(), torch.full((4,), 2.0))
            assert torch.allclose(found.tone.square().mean().sqrt(), torch.tensor(2.0))
        assert encoder.scale.measured.all()


def test_leaves_may_begin_with_gains_of_their_own(new, seen):
    encoder = GOEmbed(new().forward_model, EncodingConfig(gain=2.0, leaf_gain={"tone": 0.5}))
    found = encoder(seen)
    assert torch.allclose(found.shape.square().mean((0, 2, 3)).sqrt(), torch.full((4,), 2.0))
    assert torch.allclose(found.tone.square().mean().sqrt(), torch.tensor(0.5))
    with pytest.raises(UserError, match="leaf_gain of colour: the leaves of the signal are shape, tone"):
        new(leaf_gain={"colour": 1.0})
    with pytest.raises(ValueError, match="with scale=none: there is no gain, take scale=learned"):
        EncodingConfig(scale="none", leaf_gain={"tone": 0.5})


def test_before_that_it_is_one_and_evaluation_measures_nothing(new, seen):
    encoder = new().eval()
    raw = new(scale="none").eval()(seen)
    found = encoder(seen)
    assert not encoder.scale.measured.any() and torch.allclose(found.shape, raw.shape, atol=1e-7)


def test_later_batches_change_nothing(new, seen):
    encoder = new()
    encoder(seen)
    before = encoder.scale.rms.clone()
    encoder(tree_map(lambda leaf: 3 * leaf, seen))
    assert torch.equal(encoder.scale.rms, before)


def test_a_batch_that_shows_nothing_is_not_measured(new, seen):
    encoder = new()
    encoder(select_views(seen, slice(0)))
    encoder(seen, mask=torch.zeros(seen.values.shape[:2]))
    assert not encoder.scale.measured.any()
    mask = torch.zeros(seen.values.shape[:2])
    mask[:3] = 1
    encoder(seen, mask=mask)  # half of the signals show nothing, and do not count
    other = new()
    other(select_items(seen, slice(3)))
    assert encoder.scale.measured.all() and torch.allclose(encoder.scale.rms, other.scale.rms)


def test_dead_channels_are_not_blown_up(worlds):
    model = worlds.Linear(dim=6)
    seen = worlds.observed(model, 5, dtype=torch.float32)
    seen.params.matrix[..., 2] = 0
    encoder = GOEmbed(model, EncodingConfig())
    found = encoder(seen)
    assert not found[:, 2].any() and found.isfinite().all()
    ratio = encoder.scale.rms[0, 2] / encoder.scale.rms[0].max()
    assert 0 < ratio < 0.01


def test_scales_along_several_dimensions(worlds, voxels):
    model = voxels.Voxels(side=3, channels=2)
    seen = worlds.observed(model, 4, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig(scale_dims=(1, 4)))
    assert encoder.scale.gain.shape == (1, 6)
    found = encoder(seen).square().mean((0, 2, 3))
    assert torch.allclose(found, torch.ones(2, 3), rtol=1e-4)


def test_it_survives_saving_loading_and_copies(new, seen, tmp_path):
    encoder = new()
    expected = encoder(seen)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    loaded = new()
    loaded(tree_map(lambda leaf: 5 * leaf, seen))  # measured on something else before
    fresh = new()
    for other in (loaded, fresh):
        other.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
        assert other.scale.measured.all()
        other(tree_map(lambda leaf: 7 * leaf, seen))  # in training mode, and no longer the first
        _same(other(seen), expected)
        _same(other.eval()(seen), expected)
    _same(copy.deepcopy(encoder)(seen), expected)
    blank = new()
    state = {key: value.clone() for key, value in blank.state_dict().items()}
    encoder.load_state_dict(state)  # what was not measured when it was saved is measured after
    encoder(tree_map(lambda leaf: 2 * leaf, seen))
    assert encoder.scale.measured.all()


def test_an_average_of_weights_has_it(new, seen):
    encoder = new()
    average = EMA({"encoder": encoder}, halflife_nimg=1)
    encoder(seen)
    average.update(6, 6)
    copied = average.modules["encoder"]
    assert copied.scale.measured.all() and torch.equal(copied.scale.rms, encoder.scale.rms)
    _same(copied(seen), encoder(seen))


def test_sums_are_those_of_all_processes(new, seen, monkeypatch):
    network = new().forward_model
    encoder, whole = (GOEmbed(network, EncodingConfig()) for _ in range(2))
    rest = GOEmbed(network, EncodingConfig(scale="none"))(select_items(seen, slice(2, 6)))
    others = [leaf.square().sum([d for d in range(leaf.dim()) if d != 1]).flatten() for leaf in rest]

    def add_the_other_process(sums):
        sums[0] += torch.cat(others)
        sums[1] += torch.tensor([16.0] * 4 + [4.0])

    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "all_reduce", add_the_other_process)
        encoder(select_items(seen, slice(2)))
    whole(seen)
    assert torch.allclose(encoder.scale.rms[0], whole.scale.rms[0], rtol=1e-5)


@pytest.mark.slow
def test_two_processes_measure_what_one_would(new, seen, tmp_path):
    encoder = new()
    encoder(seen)
    program = Path(__file__).with_name("two_processes.py")
    place = (tmp_path / "store").as_uri()
    ranks = [
        subprocess.Popen([sys.executable, program, str(rank), place, tmp_path / f"{rank}.safetensors"])
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    found = [load_file(tmp_path / f"{rank}.safetensors")["rms"] for rank in (0, 1)]
    assert torch.equal(found[0], found[1])
    assert torch.allclose(found[0][0], encoder.scale.rms[0], rtol=1e-5)
    # The second step begins where the first came to, whose scale was measured on all processes.
    assert torch.allclose(found[0][1], encoder.scale.rms[1], rtol=1e-4)


def _same(found, expected):
    for name, leaf in named_leaves(expected, "").items():
        assert torch.allclose(named_leaves(found, "")[name], leaf, atol=1e-6), name
