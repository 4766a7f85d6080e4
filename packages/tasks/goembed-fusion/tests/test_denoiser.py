"""The denoiser of planes: what it is made of, and around a forward model that is no renderer."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from goembed_core.config import ConfigError
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from goembed_core.diffusion import DFM, Split
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_core.trees import select_items, select_views
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed
from goembed_fusion.generation.config import PlaneDenoiserConfig
from goembed_fusion.generation.denoiser import PlaneDenoiser
from goembed_fusion.generation.model import SceneView
from torch import nn


class Gain(NamedTuple):
    """How bright a picture is seen."""

    gain: torch.Tensor


class Pictures(nn.Module):
    """`O = sigmoid(Σ w_n plane_n · gain)`: pictures of 3 x 8 x 8, made of two planes, with no place in any space."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -0.4]))

    def forward(self, signal, params):
        picture = torch.einsum("bnchw,n->bchw", signal, self.weight)[:, None]
        return torch.sigmoid(picture * params.gain[..., None, None, None])

    def origin(self, batch_size, device):
        return torch.zeros(batch_size, 2, 3, 8, 8, device=device)

    def example(self, batch_size, generator):
        gain = 0.5 + torch.rand(batch_size, 2, generator=generator)
        return torch.randn(batch_size, 2, 3, 8, 8, generator=generator), Gain(gain)


def denoiser(steps=1, **settings):
    torch.manual_seed(0)
    encoder = {"name": "goembed", "forward_model": {"name": "triplane"}, "timesteps": 1000}  # its own is given below
    size = {"patch_size": 2, "hidden_size": 16, "depth": 1, "num_heads": 2, "width": 8}
    config = PlaneDenoiserConfig.model_validate({"encoder": encoder, **size, **settings})
    return PlaneDenoiser(GOEmbed(Pictures(), EncodingConfig(timesteps=1000, steps=steps, gain=4.0)), config)


def given(seed=0, batch=3):
    generator = torch.Generator().manual_seed(seed)
    model = Pictures()
    signal, params = model.example(batch, generator)
    with torch.no_grad():
        context = Observations(SceneView(model)(signal, params), params)
    target = Observations(torch.randn(batch, 2, 3, 8, 8, generator=generator), params)
    return context, target, torch.tensor([10, 500, 990])[:batch]


def test_at_first_it_is_the_sum_of_both_encodings():
    network, (context, target, timestep) = denoiser().eval(), given()
    halves = [part._replace(values=(part.values + 1) / 2) for part in (context, target)]
    expected = network.encoder(halves[0]) + network.encoder(halves[1], timestep)
    assert torch.equal(network(context, target, timestep), expected)


def test_a_context_of_zeros_is_none_and_a_target_of_zeros_leaves_the_regression():
    network, (context, target, timestep) = shaken(), given()
    dropped = context._replace(values=context.values * torch.tensor([1.0, 0.0, 1.0]).view(-1, 1, 1, 1, 1))
    nothing = select_views(context, slice(0, 0))
    found, none, all_of_it = (network(part, target, timestep) for part in (dropped, nothing, context))
    assert torch.equal(found[1], none[1]) and torch.equal(found[[0, 2]], all_of_it[[0, 2]])
    assert not torch.allclose(found[0], none[0])
    blank = target._replace(values=torch.zeros_like(target.values))
    assert torch.equal(network(context, blank, 0 * timestep), network.regress(network.known(context)))


def shaken():
    """A denoiser whose network adds something."""
    network, generator = denoiser(steps=2), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def trained(steps=200, batch=32):
    """The diffusion of pictures that are all of one kind: bright, or dark."""
    network = denoiser()
    dfm = DFM(SceneView(network.forward_model), network, NoiseSchedule(ScheduleConfig()), context_dropout=0.5)
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        random = ItemRandom(0, range(batch * step, batch * step + batch))
        optimizer.zero_grad()
        sum(dfm.losses(worlds(random), random).losses.values()).backward()
        optimizer.step()
    return network.eval()


def worlds(random):
    """Pictures that are bright or dark all over, by a coin."""
    sign = 2.0 * random.stream("coin").randint(0, 2, 1) - 1
    values = 0.8 * sign.view(-1, 1, 1, 1, 1).expand(-1, 3, 3, 8, 8).clone()
    every = Observations(values, Gain(torch.ones(len(random), 3)))
    return Split(*(select_views(every, slice(n, n + 1)) for n in range(3)))


@pytest.mark.slow
def test_samples_are_of_both_kinds_without_a_context_and_of_its_kind_with_one():
    """The known answer: without a context bright and dark are equally likely, and never in between."""
    network = trained()
    dfm = DFM(SceneView(network.forward_model), network, NoiseSchedule(ScheduleConfig()))
    random = ItemRandom(1, range(64))
    split, sampler = worlds(random), SamplerConfig(num_steps=8)
    free = select_views(split.context, slice(0, 0))
    found = dfm.sample(free, split.target.params, (1, 3, 8, 8), sampler, random.stream("free")).observation
    level = found.flatten(1).mean(1)
    assert 0.15 < (level > 0).float().mean() < 0.85
    assert (level.abs() > 0.5).float().mean() > 0.9 and found.flatten(1).std(1).median() < 0.2
    bound = dfm.sample(split.context, split.target.params, (1, 3, 8, 8), sampler, random.stream("bound")).observation
    assert (bound.flatten(1).mean(1).sign() == split.context.values.flatten(1).mean(1).sign()).all()


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"denoiser\.encoder\.timesteps is null"):
        PlaneDenoiser(GOEmbed(Pictures(), EncodingConfig()), denoiser().config)
    with pytest.raises(ConfigError, match=r"denoiser\.patch_size=6 does not divide the planes' side, 8"):
        denoiser(patch_size=6)
    network, (context, target, timestep) = denoiser(), given()
    with pytest.raises(UserError, match=r"context: 3, timestep: 2, noisy target: 3"):
        network(context, target, timestep[:2])
    with pytest.raises(UserError, match="a context of 2 signals, a noisy target of 3"):
        network.denoise(select_items(network.known(context), slice(0, 2)), target, timestep)
