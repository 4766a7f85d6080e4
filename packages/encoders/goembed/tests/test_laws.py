"""The laws of an encoding: what it is a sum of, what it does not depend on, and its derivatives."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, named_leaves, select_items, select_views, tree_map
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed

RAW = EncodingConfig(scale="none")


def close(found, expected, tolerance=1e-10):
    for name, leaf in named_leaves(expected, "signal").items():
        ours = named_leaves(found, "signal")[name]
        assert ours.shape == leaf.shape and (ours - leaf).abs().max() <= tolerance * leaf.abs().max(), name


@pytest.fixture
def world(new_world, worlds):
    """A forward model in float64 and observations of three signals."""
    model = new_world()
    return model, worlds.observed(model)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_encoding_does_not_depend_on_its_neighbours(world, steps):
    model, seen = world
    encoder = GOEmbed(model, EncodingConfig(steps=steps)).double()
    encoder(seen)  # in training mode: the scale is measured
    whole = encoder(seen)
    for n in range(3):
        close(encoder(select_items(seen, slice(n, n + 1))), tree_map(lambda leaf, n=n: leaf[n : n + 1], whole))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_order_of_views_does_not_matter(world, steps):
    model, seen = world
    encoder = GOEmbed(model, EncodingConfig(steps=steps)).double()
    close(encoder(select_views(seen, [1, 0, *range(2, seen.values.shape[1])])), encoder(seen))


@pytest.mark.parametrize("steps", [1, 3])
def test_no_views_are_zero(world, steps):
    model, seen = world
    encoder = GOEmbed(model, EncodingConfig(steps=steps)).double()
    encoder(seen)
    none = encoder(select_views(seen, slice(0)))
    assert none is not None
    for name, leaf in named_leaves(encoder(seen), "signal").items():
        zero = named_leaves(none, "signal")[name]
        assert zero.shape == leaf.shape and not zero.any() and leaf.any()
    masked = encoder(seen, mask=torch.zeros(seen.values.shape[:2], dtype=torch.bool))
    assert not any(leaf.any() for leaf in named_leaves(masked, "signal").values())


def test_one_step_is_the_sum_of_the_views(world):
    model, seen = world
    encoder = GOEmbed(model, RAW).double()
    views = range(seen.values.shape[1])
    each = [encoder(select_views(seen, slice(v, v + 1))) for v in views]
    total = tree_map(lambda *leaves: sum(leaves), *each)
    close(encoder(seen), total)
    mean = GOEmbed(model, EncodingConfig(scale="none", views="mean")).double()
    close(mean(seen), tree_map(lambda leaf: leaf / len(views), total))


def test_a_linear_model_has_a_closed_form(worlds):
    model = worlds.Linear(dim=6, observed=3)
    seen = worlds.observed(model, 4)
    # 2 Wᵀ x / M: the error is the mean over the M numbers of an observation, and the sum over the views.
    expected = torch.einsum("bvod,bvo->bd", seen.params.matrix, seen.values) * 2 / 3
    assert expected.any()
    close(GOEmbed(model, RAW)(seen), expected, 1e-14)

    three = GOEmbed(model, EncodingConfig(scale="none", steps=3))
    walked = torch.zeros(4, 6, dtype=torch.float64)
    for _ in range(3):
        residual = seen.values - torch.einsum("bvod,bd->bvo", seen.params.matrix, walked)
        walked = walked + torch.einsum("bvod,bvo->bd", seen.params.matrix, residual) * 2 / 3
    close(three(seen), walked, 1e-13)


def test_finite_differences_of_the_error_agree(world):
    model, seen = world
    encoding = named_leaves(GOEmbed(model, RAW).double()(seen), "signal")
    origin = model.origin(3, torch.device("cpu"))
    origin = tree_map(torch.Tensor.double, origin)
    generator = torch.Generator().manual_seed(3)

    def error(signal):
        with torch.no_grad():
            return (seen.values - model(signal, seen.params)).square().flatten(2).mean(2).sum()

    for name, leaf in encoding.items():
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (
            error(tree_map(lambda z, e=e, d=direction: z + e * d if z.shape == d.shape else z, origin))
            for e in (1e-5, -1e-5)
        )
        slope = ((ahead - behind) / 2e-5).item()
        assert slope == pytest.approx(-(leaf * direction).sum().item(), rel=1e-6), name


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("chunks", [None, 1])
def test_gradcheck_in_what_is_learned_and_seen(world, steps, chunks):
    model, seen = world
    seen = select_items(seen, slice(1))
    encoder = GOEmbed(model, EncodingConfig(steps=steps, chunk_views=chunks)).double()
    encoder(seen)
    weights = [weight for _, weight in sorted(encoder.named_parameters())]

    def encode(values, *_):
        return tuple(named_leaves(encoder(seen._replace(values=values)), "signal").values())

    values = seen.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(encode, (values, *weights), fast_mode=True, check_undefined_grad=False)


def test_gradgradcheck_of_the_encoding(world):
    model, seen = world
    seen = select_items(seen, slice(1))
    encoder = GOEmbed(model, EncodingConfig()).double()
    weights = [weight for _, weight in sorted(encoder.named_parameters())]

    def encode(values, *_):
        return tuple(named_leaves(encoder(seen._replace(values=values)), "signal").values())

    values = seen.values.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(encode, (values, *weights), fast_mode=True)


def test_subsets_of_rays_are_right_on_average(worlds, voxels):
    model = voxels.Voxels().double()
    seen = worlds.observed(model, 1)
    encoder = GOEmbed(model, RAW).double()
    whole = encoder(seen)
    draws = 3000
    many = tree_map(lambda leaf: leaf.expand(draws, *leaf.shape[1:]), seen)
    random = ItemRandom(0, range(draws))
    with torch.no_grad():
        found = encoder(many, draw=partial(_four, count=4), random=random)
    assert found.std(0).max() > 0.1 * whole.abs().max()  # they do differ
    error = (found.mean(0) - whole[0]).abs() / (found.std(0) / draws**0.5 + 1e-12 * whole.abs().max())
    assert error.max() < 5  # standard errors, over 500 numbers
    with torch.no_grad():
        again = encoder(select_items(many, slice(1)), draw=partial(_four, count=4), random=ItemRandom(0, [0]))
    close(again, found[:1])


def _four(observations, random, step, count):
    from goembed_nerf_renderer.cameras import random_pixels

    return random_pixels(observations, count, random)


def test_masks_add_up_and_hide(world):
    model, seen = world
    encoder = GOEmbed(model, RAW).double()
    mask = torch.rand(seen.values.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    shown = encoder(seen, mask=mask)
    close(tree_map(torch.add, shown, encoder(seen, mask=~mask)), encoder(seen))
    hidden = seen._replace(values=torch.where(mask, seen.values, torch.nan))
    close(encoder(hidden, mask=mask), shown)
    whole_views = torch.zeros(seen.values.shape[:2])
    whole_views[:, 0] = 1
    close(encoder(seen, mask=whole_views), encoder(select_views(seen, slice(0, 1))))
    halves = encoder(seen, mask=torch.full((1, 1), 0.5).expand(3, seen.values.shape[1]))
    close(halves, tree_map(lambda leaf: leaf / 2, encoder(seen)))


def test_masks_are_drawn_with_what_they_hide(worlds, voxels):
    model = voxels.Voxels().double()
    seen = worlds.observed(model, 2)
    mask = torch.rand(seen.values[:, :, :1].shape, generator=torch.Generator().manual_seed(5)) < 0.5
    hidden = seen._replace(values=torch.where(mask, seen.values, torch.nan))
    encoder = GOEmbed(model, RAW).double()
    found = encoder(hidden, mask=mask, draw=partial(_four, count=6), random=ItemRandom(0, range(2)))
    assert found.isfinite().all() and found.any()


def test_what_is_drawn_is_drawn_for_a_step(worlds, voxels):
    model, told = voxels.Voxels().double(), []

    def some(observations, random, step):
        told.append(step)
        return _four(observations, random, step, 4)

    seen = worlds.observed(model, 1)
    encoder = GOEmbed(model, RAW.model_copy(update={"steps": 3})).double()
    encoder(seen, draw=some, random=ItemRandom(0, [0]))
    assert told == [0, 1, 2]
    told.clear()
    encoder(seen, mask=torch.ones(seen.values.shape[:2]), draw=some, random=ItemRandom(0, [0]))
    assert told == [0, 0, 1, 1, 2, 2]  # the mask is drawn with what it weighs


def test_views_encoded_in_two_halves_are_those_encoded_at_once(world):
    model, seen = world
    encoder = GOEmbed(model, RAW).double()
    other = Observations(seen.values.flip(0), tree_map(lambda leaf: leaf.flip(0), seen.params))
    both = concatenate([seen, other], 1)
    flipped = tree_map(lambda leaf: leaf.flip(0), encoder(seen))
    close(encoder(both), tree_map(torch.add, encoder(seen), flipped))
