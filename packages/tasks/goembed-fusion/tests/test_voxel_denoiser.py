"""The denoiser of voxels: what a noisy view is worth, and encodings that stay as they are."""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.config import ConfigError, resolve
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, select_items, select_views
from goembed_fusion.generation import model as models
from goembed_fusion.generation.grids import Thinned
from goembed_fusion.scenes import load

LAST, CPU = 999, torch.device("cpu")


def denoiser(steps=2, model="voxels", side=8, timesteps=None, **settings):
    torch.manual_seed(0)
    forward_model = {"name": model, "resolution": side, "channels": 3, "renderer": {"samples": 4}}
    encoder = {"name": "goembed", "forward_model": forward_model, "steps": steps, "timesteps": timesteps}
    sizes = {"patch_size": 4, "hidden_size": 8, "depth": 1, "num_heads": 2, "width": 4}
    return plugins.build("denoiser", "voxel-denoiser", {"encoder": encoder, **sizes, **settings})


def shaken(**settings):
    """One whose network adds something, and whose time matters."""
    network, generator = denoiser(**settings), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (network.network, network.time):
            for weight in part.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def given(network, batch=2):
    """A context, a target that is clean, and noise."""
    generator = torch.Generator().manual_seed(0)
    context, target, _ = network.example(batch, generator)
    clean, _ = network.encoder.example(batch, generator)
    target = target._replace(values=2 * clean.values - 1)
    return context, target, torch.randn(target.values.shape, generator=generator)


def at(timestep, batch=2):
    return torch.full((batch,), timestep)


def test_pure_noise_is_worth_nothing_and_a_clean_target_as_much_as_the_context():
    network = shaken()
    context, target, noise = given(network)
    with torch.no_grad():
        alone = network.regress(context)
        blind = network(context, target._replace(values=noise), at(LAST))
        torch.testing.assert_close(blind, alone, rtol=1e-3, atol=1e-3)
        seen = network(context, target, at(0))
        ones = torch.ones(2, context.values.shape[1] + target.values.shape[1])
        halves = concatenate([context, target], 1)
        halves = halves._replace(values=0.5 * (halves.values + 1))
        expected = network._refine(network.encoder(halves, mask=ones), at(0))
        torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)
        assert (seen - alone).abs().max() > 0.05


def test_a_noisy_view_is_encoded_unbiased_and_weighs_what_is_left_of_it():
    """One gradient step from the origin is linear, so that the encodings of many noises have the mean of the clean."""
    network = denoiser(steps=1).eval()
    context, target, _ = given(network, 1)
    generator, t, count = torch.Generator().manual_seed(1), 600, 512
    signal = network.schedule.observed_as(at(t, 1))[0].item()
    clean = target._replace(values=0.5 * (target.values + 1))
    many = select_items(target, torch.zeros(count, dtype=torch.long))
    noise = torch.randn(many.values.shape, generator=generator)
    noisy = many._replace(values=network.schedule.add_noise(many.values, noise, at(t, count)))
    nothing = select_views(select_items(context, torch.zeros(count, dtype=torch.long)), slice(0, 0))
    with torch.no_grad():
        found = network(nothing, noisy, at(t, count))
        expected = signal**2 * network.encoder(clean)
    error = (found.mean(0) - expected[0]).norm() / expected.norm()
    spread = (found.std(0) / count**0.5).norm() / expected.norm()
    assert 0 < error < 1.5 * spread < 0.2


def test_more_views_than_were_learned_are_worth_as_much_together():
    network = denoiser(most_views=1.0).eval()
    context, _, _ = given(network)
    halves = context._replace(values=0.5 * (context.values + 1))
    with torch.no_grad():
        views = context.values.shape[1]
        expected = network.encoder(halves, mask=torch.full((2, views), 1 / views))
        torch.testing.assert_close(network.regress(context), expected)
    assert views > 1


def test_a_prior_stands_for_what_is_lacking_of_one_view():
    network = denoiser().eval()
    context, target, noise = given(network)
    network.begin(context)
    halves = context._replace(values=0.5 * (context.values + 1))
    one, none = select_views(context, slice(0, 1)), select_views(context, slice(0, 0))
    for views, learns in ((one, False), (none, True)):
        (slope,) = torch.autograd.grad(network.regress(views).square().sum(), network.prior)
        assert slope.any() == learns
    with torch.no_grad():
        mean = network.encoder(halves).mean(0)
        assert mean.abs().max() > 0
        torch.testing.assert_close(network.regress(none), mean.expand(2, *mean.shape))
        torch.testing.assert_close(network.regress(one), network.encoder(select_views(halves, slice(0, 1))))
        t = 400
        worth = target.values.shape[1] * network.schedule.observed_as(at(t))[0][0].item() ** 2
        noisy = target._replace(values=network.schedule.add_noise(target.values, noise, at(t)))
        filled = network(none, noisy, at(t))
        network.prior.zero_()
        torch.testing.assert_close(filled - network(none, noisy, at(t)), max(0, 1 - worth) * mean.expand_as(filled))


def test_a_training_begins_with_the_mean_encoding_of_its_objects(objects):
    """Of all networks, and nothing else of them changes."""
    names = ["dataset.size=12", "dataset.packed=false", f"dataset.path={objects}", "evaluate.features=null"]
    config = resolve("goembed_fusion", names).config
    networks, scenes = models.build(config), load(config.dataset, "train")
    before = {key: value.clone() for key, value in networks["denoiser"].state_dict().items()}
    models.begin(networks, scenes, config.views)
    views = scenes.views(torch.arange(len(scenes.names)), torch.arange(4).expand(len(scenes.names), -1), CPU)
    with torch.no_grad():
        expected = networks["denoiser"].encoder(views).mean(0)
    for network in networks.values():
        torch.testing.assert_close(network.prior.data, expected, rtol=1e-3, atol=1e-3)
    after = networks["denoiser"].state_dict()
    assert [key for key in after if not torch.equal(after[key], before[key])] == ["prior"]


def test_a_dropped_context_is_none():
    network = shaken()
    context, target, noise = given(network)
    dropped = context._replace(values=context.values * torch.tensor([1.0, 0.0]).view(-1, 1, 1, 1, 1))
    noisy = target._replace(values=0.7 * target.values + 0.7 * noise)
    with torch.no_grad():
        found, whole, none = (
            network(part, noisy, at(500)) for part in (dropped, context, select_views(context, slice(0, 0)))
        )
    torch.testing.assert_close(found[1], none[1])
    torch.testing.assert_close(found[0], whole[0])
    assert not torch.allclose(found[1], whole[1])


def test_an_encoding_that_stays_as_it_is_is_not_recorded():
    """The gradients of the network are the same as with all of it recorded."""
    network = shaken()
    context, target, noise = given(network)
    noisy, found = target._replace(values=0.7 * target.values + 0.7 * noise), []
    thinned = Thinned(4, ItemRandom(0, [0, 1], "rays"))
    weights = [*network.network.parameters(), *network.time.parameters()]
    for learns in (True, False):
        network.encoder.requires_grad_(learns)
        signal = network(context, noisy, at(500), thinned)
        found.append([signal, *torch.autograd.grad(signal.square().sum(), weights)])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*found, strict=True))


def test_the_time_modulates_the_network():
    network = shaken()
    context, _, _ = given(network)
    with torch.no_grad():
        encoded = network._encode(context, torch.ones(context.values.shape[:2]), None)
        early, late = (network._refine(encoded, at(t)) for t in (0, LAST))
        assert not torch.allclose(early, late)
        for level in network.time.levels:
            level.weight.zero_()
            level.bias.zero_()
        network.time.embedding.linear_out.weight.zero_()
        early, late = (network._refine(encoded, at(t)) for t in (0, LAST))
    assert torch.equal(early, late)


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"denoiser\.encoder\.timesteps=1000: noisy voxels are weighed"):
        denoiser(timesteps=1000)
    with pytest.raises(ConfigError, match=r"has a Triplane: expected voxels"):
        denoiser(model="triplane")
    with pytest.raises(ConfigError, match=r"denoiser\.patch_size=4 does not divide the voxels' side, 6"):
        denoiser(side=6)
    network = denoiser()
    context, target, _ = given(network)
    with pytest.raises(UserError, match="a context of 1 signals, a noisy target of 2"):
        network.denoise(select_items(context, slice(0, 1)), target, at(0))
    with pytest.raises(ConfigError, match=r"denoiser\.schedule\.num_timesteps=10 and schedule\.num_timesteps=1000"):
        models.build(resolve("goembed_fusion", ["denoiser.schedule.num_timesteps=10"]).config)
    with pytest.raises(ConfigError, match=r"has no steps2, which the denoiser begins with"):
        models.build(resolve("goembed_fusion", ["denoiser.encoder.steps=2"]).config)
    with pytest.raises(ConfigError, match=r"timesteps=None instead of 1000"):
        models.build(resolve("goembed_fusion", ["preset=triplane", "encodings=embedded"]).config)


def test_the_quick_preset_begins_with_what_the_package_carries():
    """Its networks alone learn."""
    networks = models.build(resolve("goembed_fusion", []).config)
    for network in networks.values():
        learns = {name.split(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}
        assert learns == {"network", "time", "prior"} and network.encoder.scale.measured.all()
