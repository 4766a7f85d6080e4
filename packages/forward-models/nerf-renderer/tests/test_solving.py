"""The renderer in core's ways to solve: diffusion through it on patches of rays, and inversion."""

import torch
from goembed_core.config.solvers import SamplerConfig, Stage
from goembed_core.diffusion import DFM, Split
from goembed_core.inversion import invert
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_core.trees import select_views
from goembed_nerf_renderer.cameras import random_patch
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import GaussianField
from goembed_nerf_renderer.renderer import VolumeRenderer
from torch import nn


class Guess(nn.Module):
    """A blob whose colour is that of the noisy image, seen as a linear function of its mean."""

    def __init__(self):
        super().__init__()
        self.colour = nn.Linear(3, 3)

    def forward(self, context, noisy_target, timestep):
        batch = len(timestep)
        colour = self.colour(noisy_target.values.mean((1, 3, 4)))[:, None]
        one = torch.ones(batch, 1)
        return GaussianField(torch.zeros(batch, 1, 3), 0.5 * one, 2 * one, colour)


def seen():
    model = VolumeRenderer(RendererConfig(samples=16, proposal_samples=()))
    field, params = model.example(2, torch.Generator().manual_seed(0))
    return model, field, Observations(model(field, params), params)


def test_a_training_step_scores_patches_and_a_sample_is_an_image():
    model, _, observations = seen()
    views = [Observations(*(select_views(leaf, slice(v, v + 1)) for leaf in observations)) for v in range(2)]
    dfm = DFM(model, Guess(), NoiseSchedule(), scored=lambda o, random: random_patch(o, 2, 3, random))
    terms = dfm.losses(Split(views[0], views[0], views[1]), ItemRandom(0, [0, 1]))
    assert terms.losses.keys() == {"target", "novel"}
    sum(terms.losses.values()).backward()
    assert dfm.denoiser.colour.weight.grad.abs().sum() > 0
    sampler = SamplerConfig(num_steps=3, guidance_scale=1.5)
    sample = dfm.sample(views[0], views[1].params, (1, 3, 3, 4), sampler, ItemRandom(0, [0, 1]))
    assert sample.observation.shape == (2, 1, 3, 3, 4)
    torch.testing.assert_close(model(sample.signal, views[1].params), sample.observation)


def test_inversion_finds_a_blob():
    """From two views, by gradient descent on its centre and colours."""
    model, field, observations = seen()
    start = {"centre": field.centre + 0.15, "colour": torch.full_like(field.colour, 0.5)}

    def losses(variables):
        found = model(field._replace(**variables), observations.params)
        return {"error": (found - observations.values).square().flatten(1).mean(1)}

    found = invert(start, losses, [Stage(steps=150, lr=0.02)])
    assert (found.loss < 0.02 * losses(start)["error"]).all()
