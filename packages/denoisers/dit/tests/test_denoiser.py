"""Observations in, signal out."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.plugins import build, host
from goembed_core.protocols import Denoiser, Observations
from goembed_dit.config import DiTConfig
from goembed_dit.denoiser import DiTDenoiser


def views(count: int, channels: int) -> Observations:
    return Observations(torch.randn(2, count, channels, 8, 16), None)


def test_views_are_channels_context_first(tiny_config, shake):
    denoiser = shake(DiTDenoiser(tiny_config(in_channels=9)))
    assert isinstance(denoiser, Denoiser)
    context, target, timestep = views(2, 3), views(1, 3), torch.tensor([5, 6])
    channels = [context.values[:, 0], context.values[:, 1], target.values[:, 0]]
    expected = denoiser.network(torch.cat(channels, dim=1), timestep)
    assert torch.equal(denoiser(context, target, timestep), expected)


def test_works_without_a_context(tiny_config, shake):
    denoiser = shake(DiTDenoiser(tiny_config(in_channels=3)))
    target, timestep = views(1, 3), torch.tensor([5, 6])
    assert torch.equal(denoiser(None, target, timestep), denoiser.network(target.values[:, 0], timestep))


def test_passes_a_condition_on(tiny_config, shake):
    denoiser = shake(DiTDenoiser(tiny_config(in_channels=3, condition_dim=2)))
    target, timestep = views(1, 3), torch.tensor([5, 6])
    outputs = [denoiser(None, target, timestep, torch.full((2, 2), value)) for value in (0.0, 1.0)]
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize(
    ("context", "target", "message"),
    [
        (
            views(2, 4),
            views(1, 3),
            r"configured for in_channels=9, but was given 11 \(context: 2 views of 4 channels and noisy target: "
            r"1 views of 3 channels\): set in_channels=11",
        ),
        (None, views(1, 3), r"in_channels=9, but was given 3 \(noisy target: 1 views of 3 channels\)"),
        (
            views(1, 3),
            Observations(torch.zeros(2, 3, 8, 16), None),
            r"the noisy target has values of shape \(2, 3, 8, 16\)",
        ),
        (Observations(torch.zeros(2, 9, 4), None), views(1, 3), "the context has values of shape"),
        (views(2, 3), Observations(torch.zeros(3, 1, 3, 8, 16), None), r"context is \(2, 8, 16\) and noisy target is"),
    ],
)
def test_errors_name_the_part(tiny_config, context, target, message):
    denoiser = DiTDenoiser(tiny_config(in_channels=9))
    with pytest.raises(UserError, match=message):
        denoiser(context, target, torch.tensor([5, 6]))


def test_is_registered():
    assert "dit" in host().names("denoiser")
    component = host().get("denoiser", "dit")
    assert component.load() is DiTDenoiser
    assert component.load_config() is DiTConfig


def test_is_built_from_plain_settings():
    denoiser = build(
        "denoiser", "dit", {"in_channels": 3, "height": 16, "width": 16, "head": "vector", "vector_dim": 7}
    )
    assert isinstance(denoiser, DiTDenoiser)
    assert denoiser(None, Observations(torch.zeros(2, 1, 3, 16, 16), None), torch.tensor([1, 2])).shape == (2, 7)
