"""What the networks are shown, and the network itself."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_posterior_check.config import LinearConfig, ProjectionMLPConfig
from goembed_posterior_check.linear import LinearForward, Projection
from goembed_posterior_check.mlp import ProjectionMLP, back_project
from goembed_posterior_check.problems import VIEWS, fixed_views
from goembed_posterior_check.task import problems


def test_observations_of_the_plane_are_of_one_hidden_point():
    problem = problems()["mixture"]
    split = problem.draw(ItemRandom(0, range(500)))
    matrices = torch.cat([part.params.matrix[:, :, 0] for part in split], 1)  # (B, 3, 2)
    values = torch.cat([part.values[:, :, 0] for part in split], 1)
    assert torch.allclose(matrices.norm(dim=2), torch.ones(500, 3))
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
    network = ProjectionMLP(ProjectionMLPConfig(dim=4, hidden_size=16, depth=1))
    torch.nn.init.normal_(network.linear_out.weight)
    views = Observations(torch.randn(5, 3, 2), Projection(torch.randn(5, 3, 2, 4)))
    target = Observations(torch.randn(5, 1, 2), Projection(torch.randn(5, 1, 2, 4)))
    t = torch.randint(0, 1000, (5,))
    answer = network(views, target, t)
    flipped = Observations(views.values.flip(1), Projection(views.params.matrix.flip(1)))
    assert torch.allclose(network(flipped, target, t), answer, atol=1e-4)
    blank = Observations(
        torch.cat([views.values, torch.randn(5, 1, 2)], 1),
        Projection(torch.cat([views.params.matrix, torch.zeros(5, 1, 2, 4)], 1)),
    )
    assert torch.allclose(network(blank, target, t), answer, atol=1e-5)
    assert not torch.allclose(network(views, target, (t + 300) % 1000), answer, atol=1e-3)


def test_back_projection_is_the_negative_gradient_at_the_origin():
    views = Observations(torch.randn(2, 3, 2), Projection(torch.randn(2, 3, 2, 4)))
    forward_model = LinearForward(LinearConfig(dim=4, observed=2))
    origin = forward_model.origin(2, torch.device("cpu")).requires_grad_()
    loss = 0.5 * (forward_model(origin, views.params) - views.values).square().sum()
    (gradient,) = torch.autograd.grad(loss, origin)
    assert torch.allclose(back_project(views)[0], -gradient, atol=1e-5)


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
