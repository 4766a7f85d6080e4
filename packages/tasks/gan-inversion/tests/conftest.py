"""Small settings that exercise every part."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import resolve
from goembed_gan_inversion import model as models

TINY = (
    "denoiser.hidden_size=32", "denoiser.depth=1", "denoiser.num_heads=2", "train.images=64", "train.batch_size=16",
    "train.log_every_nimg=16", "train.preview_every_nimg=32", "train.mixed_precision=no",
    "evaluate.contexts=24", "evaluate.refined_contexts=8", "evaluate.steps=[2,3]", "evaluate.steps_contexts=8",
    "evaluate.posterior_contexts=2", "evaluate.posterior_samples=6", "evaluate.posterior_pool=60",
    "evaluate.refined_posterior_contexts=1", "evaluate.pictures=3", "evaluate.batch_size=16",
    "sampler.num_steps=2", "refine.steps=3",
)  # fmt: skip


@pytest.fixture(scope="session")
def config():
    """The quick preset, made tiny."""
    return resolve("gan_inversion", TINY).config


@pytest.fixture(scope="session")
def model(config):
    """An untrained model of those settings."""
    torch.manual_seed(0)
    model = models.build(config)
    for module in (model.dfm, model.regressor):
        module.eval().requires_grad_(False)
    for network in (model.dfm.denoiser, model.regressor.network):
        for parameter in network.parameters():  # a head near zero would hide what a network is given
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model
