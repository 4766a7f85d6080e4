"""The average against its definition."""

from __future__ import annotations

import pytest
import torch
from goembed_core.ema import EMA
from torch import nn


def make() -> nn.Module:
    module = nn.BatchNorm1d(1)
    nn.init.zeros_(module.weight)
    return module


def test_halflife_is_in_images_whatever_the_batch():
    for batch in (1, 10, 50):
        module = make()
        ema = EMA({"m": module}, halflife_nimg=100, rampup=None)
        nn.init.ones_(module.weight)
        for step in range(100 // batch):
            ema.update((step + 1) * batch, batch)
        assert ema.modules["m"].weight.item() == pytest.approx(0.5, abs=1e-5)


def test_rampup_shortens_the_halflife_at_first():
    ema = EMA({"m": make()}, halflife_nimg=1000, rampup=0.05)
    assert ema.decay(images_seen=200, batch_size=10) == pytest.approx(0.5)
    assert ema.decay(images_seen=1_000_000, batch_size=1000) == pytest.approx(0.5)


def test_no_halflife_is_a_copy_and_buffers_are_copied():
    module = make()
    ema = EMA({"m": module}, halflife_nimg=0, rampup=0.05)
    nn.init.constant_(module.weight, 3)
    module.running_mean.fill_(7)
    ema.update(10, 10)
    assert ema.modules["m"].weight.item() == 3 and ema.modules["m"].running_mean.item() == 7


def test_averages_are_frozen_and_in_eval_mode():
    average = EMA({"m": make().train()}, 10).modules["m"]
    assert not average.training and not any(p.requires_grad for p in average.parameters())
    assert torch.equal(average.weight, torch.zeros(1))
