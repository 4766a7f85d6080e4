"""The inverse problem as it is posed to the networks."""

from __future__ import annotations

import torch
from goembed_core.randomness import ItemRandom
from goembed_gan_inversion.config import PatchConfig
from goembed_gan_inversion.problem import draw_scenes, make_context
from goembed_stylegan_synth.boxes import PatchBox


def draw(model, items=range(6), psi=1.0, patch=None):
    return draw_scenes(model.forward_model, patch or PatchConfig(), psi, ItemRandom(0, items))


def test_the_context_is_the_image_with_all_but_the_patch_masked(model):
    scene = draw(model)
    values, image = scene.context.values, scene.target.values
    assert values.shape == (6, 1, 2, 32, 32) and image.shape == (6, 1, 1, 32, 32)
    mask = values[:, :, 1:]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(values[:, :, :1], image * mask)
    side = mask.amax(3).sum((1, 2, 3))
    assert side.min() >= 8 and side.max() <= 16 and side.unique().numel() > 1
    assert torch.equal(mask.sum((1, 2, 3, 4)), side**2)


def test_the_target_is_what_the_forward_model_shows_of_the_latent(model):
    scene = draw(model)
    assert torch.equal(model.forward_model(scene.latent, scene.target.params), scene.target.values)
    shown = model.forward_model(scene.latent, scene.context.params)
    assert torch.equal(shown, scene.context.values[:, :, :1])


def test_scenes_belong_to_their_items(model):
    whole, part = draw(model), draw(model, [4])
    assert torch.allclose(whole.target.values[4:5], part.target.values, atol=1e-5)
    assert torch.equal(whole.context.params.left[4:5], part.context.params.left)
    assert torch.equal(whole.items(slice(4, 5)).latent, whole.latent[4:5])


def test_truncation_brings_latents_nearer_to_the_mean(model):
    mean = model.forward_model.w_avg
    full, half = draw(model, psi=1.0).latent - mean, draw(model, psi=0.5).latent - mean
    assert torch.allclose(half, 0.5 * full, atol=1e-5)


def test_a_context_of_ones_own_box(model):
    image = torch.rand(1, 1, 32, 32)
    box = PatchBox(*(torch.tensor([[value / 32]]) for value in (4.0, 8.0, 10.0, 6.0)))
    values = make_context(image, box).values[0, 0]
    assert values[1, 8:14, 4:14].eq(1).all() and values[1].sum() == 60
    assert torch.equal(values[0, 8:14, 4:14], image[0, 0, 8:14, 4:14])


def test_the_baseline_sees_no_target(model):
    scene = draw(model)
    latent, images = model.regressor(scene.context, scene.target.params)
    assert torch.equal(model.space(latent, scene.target.params), images)
    other = scene.context._replace(values=scene.context.values.flip(0))
    assert torch.allclose(model.regressor(other, scene.target.params)[0], latent.flip(0), atol=1e-5)
    assert not torch.allclose(latent[0], latent[1], atol=1e-3)
