"""The denoiser: gradients, what is kept between steps, and settings that do not fit."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.trees import concatenate, select_views
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_pixel_aligned.denoiser import SceneDenoiser, guide
from pydantic import ValidationError


def seen(denoiser, scene, params):
    renderer = VolumeRenderer(RendererConfig(near=2.5, far=5.5, proposal_samples=(4,), samples=4))
    return renderer(scene, params)


SURFACES = {"width": 12, "frequencies": 2, "time_size": 8, "surfaces": 2, "frame": "upright"}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"estimate": {"features": 3, "detach": False}},
        {"field": SURFACES},
        {"estimate": {"corrected": True, "features": 3, "detach": False}},
        {"field": {**SURFACES, "pooling": "weighted"}},
    ],
    ids=["detached", "with features", "surfaces", "corrected", "weighted"],
)
def test_every_parameter_has_a_gradient(settings, with_noise, changed):
    """Through what is rendered of the scene and of its estimate: finite, and not zero."""
    torch.manual_seed(0)
    denoiser = with_noise(SceneDenoiser(settings(**changed)))
    context, noisy, timestep = denoiser.example(3, torch.Generator().manual_seed(0))
    scene = denoiser(context, noisy, timestep)
    loss = (seen(denoiser, scene, noisy.params) - noisy.values).square().mean()
    loss = loss + (seen(denoiser, scene.estimate, noisy.params) - noisy.values).square().mean()
    loss.backward()
    parameters = dict(denoiser.named_parameters())
    wrong = [n for n, p in parameters.items() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert len(parameters) > 50 and wrong == []


def test_a_corrected_scene_begins_as_the_estimate(settings):
    denoiser = SceneDenoiser(settings(estimate={"corrected": True}))
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        scene = denoiser(context, noisy, timestep)
        inside = 0.3 * (2 * torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0)) - 1)
        (ours, _), (its, _) = ((f.density, f.colour) for f in (scene(inside), scene.estimate(inside)))
    assert its.std() > 0
    torch.testing.assert_close(ours, its)


def test_a_corrected_scene_is_sampled_where_the_estimate_is(settings, with_noise):
    """The same scene, to what the sampling of rays leaves open; any other is sampled where itself is."""
    denoiser = with_noise(SceneDenoiser(settings(estimate={"corrected": True})))
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    fine = VolumeRenderer(RendererConfig(near=2.5, far=5.5, proposal_samples=(64,), samples=64))
    with torch.no_grad():
        scene = denoiser(context, noisy, timestep)
        proposed = scene.proposed(1)
        assert proposed.proposals == (scene.estimate,)
        one, other = fine(scene, noisy.params), fine(proposed, noisy.params)
        estimate = fine(scene.estimate, noisy.params)
        nearly = guide(scene, denoiser(context, noisy, timestep.flip(0)), 1 + 1e-6)
        third = fine(nearly.proposed(1), noisy.params)
    assert not torch.equal(one, other) and (one - other).norm() < 0.1 * (one - estimate).norm()
    torch.testing.assert_close(third, other, atol=1e-4, rtol=1e-3)
    plain = scene._replace(field=scene.estimate)
    assert plain.proposed(1) is plain


@pytest.mark.parametrize(("detach", "expected"), [(True, False), (False, True)])
def test_detach_keeps_the_loss_of_the_scene_from_the_estimate(settings, with_noise, detach, expected):
    denoiser = with_noise(SceneDenoiser(settings(estimate={"detach": detach})))
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    seen(denoiser, denoiser(context, noisy, timestep).field, noisy.params).square().mean().backward()
    reached = any(p.grad is not None and p.grad.any() for p in denoiser.estimate_field.parameters())
    assert reached is expected


def test_what_is_prepared_serves_every_step(denoiser):
    """Features and estimate are of the context and the target's cameras alone."""
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        prepared = denoiser.prepare(denoiser.encode(context), noisy.params)
        for t in (timestep, timestep.flip(0)):
            whole = denoiser(context, noisy, t)
            again = denoiser.denoise(prepared, noisy, t)
            torch.testing.assert_close(seen(denoiser, whole, noisy.params), seen(denoiser, again, noisy.params))


def test_features_of_views_can_be_kept_and_put_beside_each_other(denoiser):
    """A context that grows by a view costs the encoding of that view alone."""
    context, noisy, _ = denoiser.example(2, torch.Generator().manual_seed(0))
    more = concatenate([context, noisy], 1)
    with torch.no_grad():
        whole = denoiser.encode(more)
        kept = concatenate([denoiser.encode(select_views(more, slice(i, i + 1))) for i in range(3)], 1)
    torch.testing.assert_close(kept.maps, whole.maps)


def test_the_context_and_the_estimate_are_used(denoiser):
    """The target's encoder sees the estimate: another one, with the same features, changes the scene."""
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        prepared = denoiser.prepare(denoiser.encode(context), noisy.params)
        one = seen(denoiser, denoiser.denoise(prepared, noisy, timestep), noisy.params)
        other = prepared._replace(shown=prepared.shown.flip(-1))
        assert (seen(denoiser, denoiser.denoise(other, noisy, timestep), noisy.params) - one).abs().max() > 1e-5


def test_a_noisy_target_of_other_cameras_is_refused(denoiser):
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    prepared = denoiser.prepare(denoiser.encode(context), noisy.params)
    two = concatenate([noisy, noisy], 1)
    with pytest.raises(UserError, match=r"noisy target of shape \(2, 2, 3, 8, 8\).* 2 signals and 1 views"):
        denoiser.denoise(prepared, two, timestep)
    with pytest.raises(UserError, match=r"values of shape \(2, 2, 3, 8, 4\), expected \(batch, views, 3, 8, 8\)"):
        denoiser.encode(context._replace(values=context.values[..., :4]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"estimate": {"features": 2, "detach": True}}, "set detach=false"),
        ({"estimate": {"downscale": 3}}, "downscale=3 does not divide height=8"),
        ({"target": {"network": {"in_channels": 7, "height": 8, "width": 8, "out_channels": 6}}}, "set it to 8"),
        ({"target": {"network": {"in_channels": 8, "height": 16, "width": 8, "out_channels": 6}}}, "make them equal"),
        ({"context": {"kernel_px": 2}}, "kernel_px=2 is even"),
        (
            {"context": {"network": {"in_channels": 3, "height": 8, "width": 8, "head": "vector", "vector_dim": 2}}},
            "need network.head=pixels",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, changed, said):
    with pytest.raises(ValidationError, match=said):
        settings(**changed)
