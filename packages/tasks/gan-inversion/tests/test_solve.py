"""Solving many contexts, refining them, and the posterior check."""

from __future__ import annotations

import pytest
import torch
from goembed_core.trees import repeat_items
from goembed_gan_inversion.config import RefineConfig
from goembed_gan_inversion.posterior import nearest, summarise, total_variation
from goembed_gan_inversion.refine import patch_error, refine
from goembed_gan_inversion.solve import Solver


@pytest.fixture(scope="module")
def solver(model):
    return Solver(model, seed=0, batch_size=5)


def test_results_do_not_depend_on_the_batch_size(config, model, solver):
    scenes = solver.scenes(7, "test")
    other = Solver(model, seed=0, batch_size=3)
    again = other.scenes(7, "test")
    assert torch.allclose(scenes.latent, again.latent, atol=1e-5)
    assert all(torch.equal(*leaves) for leaves in zip(scenes.context.params, again.context.params, strict=True))
    assert torch.allclose(scenes.target.values, other.scenes(7, "test").target.values, atol=1e-4)
    one, two = (s.sample(scenes.context, config.sampler).images for s in (solver, other))
    assert one.shape == (7, 1, 32, 32) and torch.allclose(one, two, atol=1e-4)
    assert torch.allclose(solver.regress(scenes.context).images, other.regress(scenes.context).images, atol=1e-4)


def test_samples_of_one_context_differ_and_show_their_latents(config, model, solver):
    scenes = solver.scenes(2, "test")
    found = solver.samples(scenes.context, 3, config.sampler)
    assert found.latent.shape == (6, 64)
    assert not torch.allclose(found.images[0], found.images[1], atol=1e-3)
    assert torch.allclose(solver._show(found.latent), found.images, atol=1e-5)


def test_refinement_agrees_better_with_the_patch_and_starts_where_it_was_put(model, solver):
    scenes = solver.scenes(4, "test")
    start = solver.prior(4, "elsewhere")
    before = patch_error(start.images[:, None], scenes.context)
    refined = solver.refine(start, scenes.context, RefineConfig(steps=60, lr=0.05))
    after = patch_error(refined.images[:, None], scenes.context)
    assert (after < before).all() and after.mean() < 0.5 * before.mean()
    offset = (refined.latent - start.latent) / model.forward_model.w_std
    tight = solver.refine(start, scenes.context, RefineConfig(steps=60, lr=0.05, prior=100.0))
    assert (tight.latent - start.latent).abs().mean() < 0.5 * (offset * model.forward_model.w_std).abs().mean()
    unchanged = refine(model.forward_model, start.latent, scenes.context, RefineConfig(steps=0))
    assert torch.equal(unchanged, start.latent)


def test_refinement_of_an_item_does_not_depend_on_the_others(model, solver):
    scenes = solver.scenes(3, "test")
    start = solver.prior(3, "elsewhere")
    config = RefineConfig(steps=5, lr=0.05)
    whole = refine(model.forward_model, start.latent, scenes.context, config)
    alone = refine(model.forward_model, start.latent[1:2], scenes.items(slice(1, 2)).context, config)
    assert torch.allclose(whole[1:2], alone, atol=1e-4)


def test_patch_error_counts_visible_pixels_alone(solver):
    scenes = solver.scenes(3, "test")
    image, mask = scenes.target.values, scenes.context.values[:, :, -1:]
    assert patch_error(image, scenes.context).abs().max() < 1e-12
    outside = image + (1 - mask) * 5
    assert patch_error(outside, scenes.context).abs().max() < 1e-12
    assert torch.allclose(patch_error(image + 0.3 * mask, scenes.context), torch.full((3,), 0.09), atol=1e-5)


def test_rejection_finds_the_images_that_show_the_patch(solver):
    scenes = solver.scenes(2, "test")
    truth = scenes.target.values[:, 0]
    pool = torch.cat([solver.prior(20, "pool").images, truth, truth + 0.01 * torch.randn_like(truth)])
    found = nearest(pool, scenes.context, 3)
    assert found[:, :2].tolist() == [[20, 22], [21, 23]]
    # The slow way: masked distance to every image of the pool.
    masked = pool[None] * scenes.context.values[:, :, -1:] - scenes.context.values[:, :, :1]
    slow = masked.square().flatten(2).sum(2).topk(3, largest=False).indices
    assert torch.equal(found, slow)


def test_summary_of_a_known_set():
    images = torch.zeros(4, 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor([0.0, 2.0, 0.0, 2.0])  # inside the patch
    images[:, 0, 1, 1] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    summary = summarise(images, torch.tensor([0, 1, 1, 1]), 3, mask)
    assert summary.classes.tolist() == [0.25, 0.75, 0.0]
    assert summary.std_outside.item() == pytest.approx(images[:, 0, 1, 1].std().item() / 3)
    assert torch.equal(summary.mean[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_total_variation():
    histograms = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert total_variation(histograms, histograms).tolist() == [0, 0]
    assert total_variation(histograms[0], histograms[1]).item() == 1
    assert total_variation(histograms[0], torch.tensor([1.0, 0.0, 0.0])).item() == 0.5


def test_repeats_of_a_context_have_their_own_noise(config, solver):
    scenes = solver.scenes(1, "test")
    twice = solver.sample(repeat_items(scenes.context, 2), config.sampler)
    assert not torch.equal(twice.images[0], twice.images[1])
