"""What the features of a signal are, and what their adjoint is."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.trees import named_leaves, tree_map
from goembed_triplane.config import FactoredConfig, SirenConfig, TriplaneConfig
from goembed_triplane.grids import Factored, Factors, Triplane
from goembed_triplane.model import represent
from goembed_triplane.networks import Siren, SirenWeights
from torch.nn import functional as F


def drawn(config, batch=2, number=30, seed=0):
    """A representation, a signal near its origin, and places, in float64."""
    generator = torch.Generator().manual_seed(seed)
    representation = represent(config).double()
    signal = tree_map(
        lambda leaf: leaf.double() + torch.randn(leaf.shape, generator=generator, dtype=torch.float64),
        representation.origin(batch, torch.device("cpu")),
    )
    return representation, signal, 2 * torch.rand(batch, number, 3, generator=generator, dtype=torch.float64) - 1


def looked_up(plane, x, y):
    """Each `(B, C, R, R)` plane, x along its last dimension."""
    places = torch.stack([x, y], -1)[:, :, None]
    return F.grid_sample(plane, places, padding_mode="border", align_corners=True)[..., 0].mT


def planes_of(signal, places):
    x, y, z = places.unbind(-1)
    return [looked_up(signal[:, p], a, b) for p, (a, b) in enumerate(((x, y), (x, z), (y, z)))]


def test_the_planes_of_a_triplane_are_xy_xz_and_yz():
    triplane, signal, places = drawn(TriplaneConfig(resolution=5, channels=3))
    assert torch.allclose(triplane.features(signal, places), sum(planes_of(signal, places)), atol=1e-12)
    triplane, signal, places = drawn(TriplaneConfig(resolution=5, channels=2, combine="concat"))
    assert triplane.channels == 6
    assert torch.allclose(triplane.features(signal, places), torch.cat(planes_of(signal, places), -1), atol=1e-12)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_a_plane_has_the_line_across_it(combine):
    factored, signal, places = drawn(FactoredConfig(resolution=4, channels=2, combine=combine))
    expected = []
    for p, (plane, axis) in enumerate(zip(planes_of(signal.planes, places), (2, 1, 0), strict=True)):
        line = looked_up(signal.lines[:, p, :, None], places[..., axis], torch.zeros_like(places[..., axis]))
        expected.append(plane * line - 1 if combine == "product" else plane + line)
    assert torch.allclose(factored.features(signal, places), torch.cat(expected, -1), atol=1e-12)


def test_a_network_of_sines_is_what_loops_say():
    siren, signal, places = drawn(SirenConfig(hidden_size=5, depth=2, channels=3, frequency=7.0), number=4)
    found = siren.features(signal, places)
    for b in range(2):
        for n in range(4):
            x = places[b, n]
            for layer in (signal.first[b], *signal.hidden[b]):
                x = torch.sin(7.0 * (layer[:, :-1] @ x + layer[:, -1]))
            assert torch.allclose(found[b, n], signal.last[b, :, :-1] @ x + signal.last[b, :, -1])


def test_the_feature_of_a_grid_is_zero_at_its_origin(small_grid):
    representation, signal, places = drawn(small_grid)
    origin = tree_map(torch.Tensor.double, representation.origin(2, torch.device("cpu")))
    assert representation.features(origin, places).abs().max() < 1e-14
    assert representation.features(signal, places).abs().min() > 0


def test_splat_is_the_derivative_at_the_origin(small_grid):
    representation, _, places = drawn(small_grid)
    origin = tree_map(lambda leaf: leaf.double().requires_grad_(), representation.origin(2, torch.device("cpu")))
    features = representation.features(origin, places)
    values = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = named_leaves(origin, "signal")
    expected = torch.autograd.grad(features, list(leaves.values()), values)
    for found, right in zip(
        named_leaves(representation.splat(values, places), "signal").values(), expected, strict=True
    ):
        assert found.shape == right.shape and torch.allclose(found, right, atol=1e-12)


def test_every_leaf_has_a_gradient_at_the_origin(small):
    representation, _, places = drawn(small)
    origin = tree_map(lambda leaf: leaf.double().requires_grad_(), representation.origin(2, torch.device("cpu")))
    features = representation.features(origin, places)
    values = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for leaf in torch.autograd.grad(features, list(named_leaves(origin, "signal").values()), values):
        assert leaf.flatten(1).abs().amax(1).min() > 1e-3


def test_second_derivatives_in_signal_and_places(small):
    representation, signal, places = drawn(small, batch=1, number=3)
    leaves = [leaf.requires_grad_() for leaf in named_leaves(signal, "signal").values()]

    def features(places, *given):
        rest = iter(given)
        return representation.features(tree_map(lambda _: next(rest), signal), places)

    assert torch.autograd.gradgradcheck(features, (places.requires_grad_(), *leaves), fast_mode=True)


def test_zeros_are_no_origin_of_a_product():
    """The trap: each factor's gradient is the other factor."""
    product = Factored(FactoredConfig(resolution=4, channels=2))
    zeros = Factors(*(torch.zeros(1, *shape, requires_grad=True) for shape in product.shapes))
    places = 2 * torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 1
    for leaf in torch.autograd.grad(product.features(zeros, places).sum(), zeros):
        assert not leaf.any()


def test_zeros_are_no_origin_of_a_network():
    """The trap: of all weights only the last bias has a gradient."""
    siren = Siren(SirenConfig(hidden_size=6, channels=3))
    zeros = SirenWeights(*(torch.zeros(1, *shape, requires_grad=True) for shape in siren.shapes))
    places = 2 * torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 1
    first, hidden, last = torch.autograd.grad(siren.features(zeros, places).sum(), zeros)
    assert not first.any() and not hidden.any() and not last[..., :-1].any() and last[..., -1].all()


def test_the_origin_of_a_network_is_that_of_its_seed():
    first, again, other = (Siren(SirenConfig(seed=seed)).origin(2, torch.device("cpu")) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.hidden, other.hidden) and torch.equal(first.hidden[0], first.hidden[1])


def test_a_signal_of_another_shape_is_refused():
    triplane = Triplane(TriplaneConfig(resolution=5, channels=3))
    with pytest.raises(
        UserError, match=r"a signal of signal \(2, 3, 5, 5\): expected \(2, 3, 3, 5, 5\), for points of 2"
    ):
        triplane.features(torch.zeros(2, 3, 5, 5), torch.zeros(2, 4, 3))
    factored = Factored(FactoredConfig(resolution=4, channels=2))
    wrong = Factors(torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 3, 2, 5))
    with pytest.raises(UserError, match=r"lines \(1, 3, 2, 5\): expected \(1, 3, 2, 4, 4\), \(1, 3, 2, 4\)"):
        factored.features(wrong, torch.zeros(1, 4, 3))
