"""Three ways to one gradient: at once, in parts that are not all held, and by the forward model's shortcut."""

from __future__ import annotations

import pytest
import torch
from goembed_core.protocols import Observations, OriginPullback
from goembed_core.trees import named_leaves, tree_map
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed


def derivatives(encoder, seen, **options):
    """An encoding, and the derivatives of a function of it in all that is learned and seen."""
    seen = seen._replace(values=seen.values.clone().requires_grad_())
    encoding = encoder(seen, **options)
    score = sum((leaf**3 + leaf).sum() for leaf in named_leaves(encoding, "").values())
    weights = dict(encoder.named_parameters())
    slopes = torch.autograd.grad(score, [seen.values, *weights.values()])
    return {
        "encoding": named_leaves(encoding, "signal"),
        "slopes": dict(zip(["values", *weights], slopes, strict=True)),
    }


def close(found, expected, tolerance):
    for kind, leaves in expected.items():
        for name, leaf in leaves.items():
            error = (found[kind][name] - leaf).abs().max() / leaf.abs().max()
            assert error <= tolerance, (kind, name, error.item())


def rows(observations: Observations) -> list[Observations]:
    """Whole images, a row of pixels at a time."""
    values, params = observations
    return [
        Observations(values[..., row, :], params._replace(pixels=params.pixels[:, :, row]))
        for row in range(values.shape[3])
    ]


@pytest.mark.parametrize("steps", [1, 3])
def test_parts_give_what_all_at_once_gives(worlds, new_world, steps):
    model = new_world()
    seen = worlds.observed(model)
    whole = GOEmbed(model, EncodingConfig(steps=steps, views="mean")).double()
    whole(seen)
    parts = GOEmbed(model, EncodingConfig(steps=steps, views="mean", chunk_views=1)).double()
    parts.load_state_dict(whole.state_dict())
    mask = torch.rand(seen.values.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    expected = derivatives(whole, seen, mask=mask)
    close(derivatives(parts, seen, mask=mask), expected, 1e-10)
    if seen.values.dim() == 5 and not isinstance(model, worlds.Network):
        close(derivatives(whole, seen, mask=mask, split=rows), expected, 1e-10)
    with torch.no_grad():
        close({"encoding": named_leaves(parts(seen, mask=mask), "signal")}, {"encoding": expected["encoding"]}, 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortcut_is_autograd(worlds, voxels, dtype, tolerance, steps):
    short, long = (voxels.Voxels(shortcut=shortcut).to(dtype) for shortcut in (True, False))
    seen = worlds.observed(short, dtype=dtype)
    encoders = [GOEmbed(model, EncodingConfig(steps=steps)).to(dtype) for model in (short, long)]
    encoders[1](seen)
    encoders[0].load_state_dict(encoders[1].state_dict())
    mask = torch.rand(seen.values.shape[:2], generator=torch.Generator().manual_seed(1)).to(dtype)
    found, expected = (derivatives(encoder, seen, mask=mask) for encoder in encoders)
    close({"encoding": found["encoding"]}, {"encoding": expected["encoding"]}, tolerance)
    close(found, expected, 20 * tolerance)  # second derivatives, of larger sums
    with torch.no_grad():
        close({"encoding": {"signal": encoders[0](seen, mask=mask)}}, {"encoding": expected["encoding"]}, tolerance)


def test_the_shortcut_is_taken_when_it_holds_and_only_then(worlds, voxels):
    calls = []

    class Told(voxels.Voxels):
        def forward(self, signal, params):
            calls.append("forward")
            return super().forward(signal, params)

        def origin_pullback(self, origin, params):
            view = super().origin_pullback(origin, params)
            calls.append("refused" if view is None else "shortcut")
            return view

    for settings, expected in {
        (False, 1): ["shortcut"],
        (False, 3): ["shortcut", "forward", "forward"],
        (True, 1): ["refused", "forward"],
    }.items():
        positioned, steps = settings
        model = Told(positioned=positioned)
        seen = worlds.observed(model, dtype=torch.float32)
        calls.clear()
        GOEmbed(model, EncodingConfig(steps=steps))(seen)
        assert calls == expected, settings
    assert isinstance(voxels.Voxels(), OriginPullback) and not isinstance(worlds.Linear(), OriginPullback)


def peak_bytes(run) -> int:
    """The most memory that is held at a time, beyond what was held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = most = 0
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize("steps", [1, 2])
def test_parts_bound_the_memory_of_the_double_backward(worlds, voxels, steps, monkeypatch):
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    model = voxels.Voxels(samples=48, shortcut=False)
    few = worlds.observed(model, 2, dtype=torch.float32)
    many = tree_map(lambda leaf: leaf.repeat(1, 4, *(1,) * (leaf.dim() - 2)), few)

    def most(seen, **settings):
        encoder = GOEmbed(model, EncodingConfig(steps=steps, scale="none", **settings))
        return peak_bytes(lambda: encoder(seen).square().sum().backward())

    most(few)  # what is made once
    whole, chunked = most(many), most(many, chunk_views=1)
    assert whole > 3 * most(few)
    assert chunked < 1.3 * most(few, chunk_views=1) and chunked < 0.25 * whole
