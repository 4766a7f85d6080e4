"""What the networks are shown, and the network itself."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_posterior_check.config import LinearConfig, ProjectionMLPConfig
from goembed_posterior_check.linear import LinearForward, Projection
from goembed_posterior_check.mlp import ProjectionMLP
from goembed_posterior_check.problems import NOVEL, VIEWS, fixed_views
from goembed_posterior_check.task import problems


def test_observations_of_the_plane_are_of_one_hidden_point():
    problem = problems()["mixture"]
    split = problem.draw(ItemRandom(0, range(500)))
    matrices = torch.cat([part.params.matrix[:, :, 0] for part in split], 1)  # (B, 6, 2)
    values = torch.cat([part.values[:, :, 0] for part in split], 1)
    assert torch.allclose(matrices.norm(dim=2), torch.ones(500, 2 + NOVEL))
    gram = torch.einsum("bvd,bve->bde", matrices[:, 2:], matrices[:, 2:])
    assert torch.allclose(gram, NOVEL / 2 * torch.eye(2).expand(500, 2, 2), atol=1e-5)  # all directions alike
    point = torch.linalg.lstsq(matrices, values[:, :, None]).solution
    assert torch.allclose(matrices @ point, values[:, :, None], atol=1e-3)
    assert point.squeeze(2).var(0).mean().item() == pytest.approx(1, abs=0.2)


def test_observations_of_the_gaussian_are_of_one_hidden_signal():
    problem = problems()["gaussian"]
    context, target, novel = problem.draw(ItemRandom(0, range(300)))
    views = fixed_views(problem)
    rotation = views.flatten(0, 1)
    assert torch.allclose(rotation @ rotation.T, torch.eye(16), atol=1e-5)
    signal = torch.einsum("vod,bvo->bd", views, novel.values)
    for part in (context, target):
        expected = torch.einsum("bvod,bd->bvo", part.params.matrix, signal)
        assert torch.allclose(part.values, expected, atol=1e-4)
    shown = context.params.matrix.flatten(2).norm(dim=2) > 0
    assert sorted(shown.sum(1).unique().tolist()) == [1, 2, 3] and context.values.shape == (300, VIEWS - 1, 4)
    overlap = torch.einsum("bvod,bwpd->bvwop", context.params.matrix, target.params.matrix)
    assert overlap.abs().max() < 1e-5  # the target is never among the context


def test_the_network_depends_on_the_set_of_views_alone():
    torch.manual_seed(0)
    network = ProjectionMLP(ProjectionMLPConfig(dim=8, hidden_size=16, depth=1))
    torch.nn.init.normal_(network.linear_out.weight)
    views = Observations(torch.randn(5, 3, 2), Projection(torch.randn(5, 3, 2, 8)))
    target = Observations(torch.randn(5, 1, 2), Projection(torch.randn(5, 1, 2, 8)))
    t = torch.randint(0, 1000, (5,))
    answer = network(views, target, t)
    flipped = Observations(views.values.flip(1), Projection(views.params.matrix.flip(1)))
    assert torch.allclose(network(flipped, target, t), answer, atol=1e-4)
    blank = Observations(
        torch.cat([views.values, torch.randn(5, 1, 2)], 1),
        Projection(torch.cat([views.params.matrix, torch.zeros(5, 1, 2, 8)], 1)),
    )
    assert torch.allclose(network(blank, target, t), answer, atol=1e-5)
    assert not torch.allclose(network(views, target, (t + 300) % 1000), answer, atol=1e-3)


@pytest.fixture
def observed():
    """Two noiseless views and a noisy one of five signals, at five timesteps, and a network that says something."""
    torch.manual_seed(0)
    network = ProjectionMLP(ProjectionMLPConfig(dim=6, hidden_size=16, depth=1))
    torch.nn.init.normal_(network.linear_out.weight)
    torch.nn.init.normal_(network.linear_out.bias)
    context = Observations(torch.randn(5, 2, 2), Projection(torch.randn(5, 2, 2, 6)))
    target = Observations(torch.randn(5, 1, 2), Projection(torch.randn(5, 1, 2, 6)))
    return network, context, target, torch.tensor([0, 10, 200, 700, 999])


def test_what_the_context_shows_is_explained_whatever_the_network_says(observed):
    network, context, target, t = observed
    shown = LinearForward(LinearConfig(dim=6, observed=2))(network(context, target, t), context.params)
    assert torch.allclose(shown, context.values, atol=1e-4)


def test_the_target_is_explained_to_its_noise(observed):
    network, context, target, _ = observed
    shows = LinearForward(LinearConfig(dim=6, observed=2))
    off = []
    for step in (0, 10, 100):
        t = torch.full((5,), step)
        scale, variance = network.schedule.observed_as(t)
        error = shows(network(context, target, t), target.params) - target.values / scale[:, None, None]
        off.append((error.abs().amax() / variance[0].sqrt()).item())
    assert max(off) < 30 and max(off) / min(off) < 4  # in units of a noise that grows 30-fold


def test_a_silent_network_gives_the_posterior_mean_of_a_standard_normal_signal(observed):
    network, context, target, t = observed
    torch.nn.init.zeros_(network.linear_out.weight)
    torch.nn.init.zeros_(network.linear_out.bias)
    mean = network(context, target, t)
    for i in range(5):
        alpha = torch.cumprod(1 - network.schedule.scheduler.betas.double(), 0)[t[i]]
        a = torch.cat([context.params.matrix[i].flatten(0, 1), target.params.matrix[i, 0] * alpha.sqrt()]).double()
        y = torch.cat([context.values[i].flatten(), target.values[i, 0]]).double()
        noise = torch.diag(torch.tensor([1e-10] * 4 + [1 - alpha] * 2, dtype=torch.float64))
        expected = a.T @ torch.linalg.inv(a @ a.T + noise) @ y
        assert torch.allclose(mean[i].double(), expected, atol=1e-4, rtol=1e-4)


def test_shapes_that_do_not_fit_are_named():
    forward_model = LinearForward(LinearConfig(dim=4, observed=2))
    with pytest.raises(UserError, match=r"'matrix' of shape \(2, 1, 3, 4\), expected \(2, views, 2, 4\)"):
        forward_model(torch.zeros(2, 4), Projection(torch.zeros(2, 1, 3, 4)))
    with pytest.raises(UserError, match=r"signal has shape \(3, 5\), expected \(batch, dim=4\)"):
        forward_model(torch.zeros(3, 5), Projection(torch.zeros(2, 1, 2, 4)))
    network = ProjectionMLP(ProjectionMLPConfig(dim=4, hidden_size=8, depth=1))
    view = Observations(torch.zeros(2, 1, 2), Projection(torch.zeros(2, 1, 2, 4)))
    with pytest.raises(UserError, match=r"the noisy target has values of shape \(2, 1, 3\) and projections of shape"):
        network(view, view._replace(values=torch.zeros(2, 1, 3)), torch.zeros(2))
