"""Losses on the weights of rays, against loops; and proposals that learn from them."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples, GaussianField, ProposedField
from goembed_nerf_renderer.losses import coarse_colour_loss, distortion_loss, interlevel_loss, outer_bound
from goembed_nerf_renderer.renderer import VolumeRenderer


def make_edges(rays, intervals, generator):
    steps = torch.rand(rays, intervals, generator=generator, dtype=torch.float64) + 0.01
    return torch.cat([torch.zeros(rays, 1).double(), steps.cumsum(1) / steps.sum(1, keepdim=True)], 1)


def test_the_bound_sums_all_that_overlaps():
    generator = torch.Generator().manual_seed(0)
    edges, others = make_edges(5, 9, generator), make_edges(5, 7, generator)
    others[0, 3] = edges[0, 4]  # intervals that only touch
    others = others.sort(dim=1).values
    weights = torch.rand(5, 7, generator=generator, dtype=torch.float64)
    found = outer_bound(edges, others, weights)
    for ray in range(5):
        for i in range(9):
            expected = sum(
                weights[ray, j].item()
                for j in range(7)
                if others[ray, j] < edges[ray, i + 1] and others[ray, j + 1] > edges[ray, i]
            )
            assert found[ray, i].item() == pytest.approx(expected)


def test_the_bound_of_the_same_intervals_is_the_weights():
    generator = torch.Generator().manual_seed(1)
    edges, weights = make_edges(3, 8, generator).float(), torch.rand(3, 8, generator=generator)
    torch.testing.assert_close(outer_bound(edges, edges, weights), weights)


def rendered(proposals=(), samples=12):
    model = VolumeRenderer(RendererConfig(samples=samples, proposal_samples=(10,) * max(1, len(proposals))))
    (field, _), params = model.example(2, torch.Generator().manual_seed(0))
    field = GaussianField(*(leaf.requires_grad_() for leaf in field))
    return field, model.render(ProposedField(field, proposals) if proposals else field, params)


def test_distortion():
    _, found = rendered()
    edges, weights = found.edges.double(), found.weights.double()
    middle, length = 0.5 * (edges[..., 1:] + edges[..., :-1]), edges.diff(dim=-1)
    apart = (middle[..., :, None] - middle[..., None, :]).abs()
    pairs = (weights[..., :, None] * weights[..., None, :] * apart).sum((-1, -2))
    expected = (pairs + (weights.square() * length).sum(-1) / 3).flatten(1).mean(1)
    torch.testing.assert_close(distortion_loss(found).double(), expected)


def blob(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return GaussianField(
        torch.randn(2, 1, 3, generator=generator).mul(0.1).requires_grad_(),
        torch.full((2, 1), scale).requires_grad_(),
        torch.full((2, 1), 0.7).requires_grad_(),
        torch.full((2, 1, 3), 0.5).requires_grad_(),
    )


@pytest.mark.parametrize("name", ["interlevel", "coarse colour"])
def test_the_proposals_get_their_gradient_and_the_field_none(name):
    proposals = blob(0.5, 1), blob(0.3, 2)
    field, found = rendered(proposals)
    seen = torch.zeros_like(found.colour)
    loss = interlevel_loss(found) if name == "interlevel" else coarse_colour_loss(found, seen)
    assert loss.shape == (2,)
    loss.sum().backward()
    assert all(leaf.grad is None for leaf in field)
    for proposal in proposals:
        assert proposal.density.grad.abs().min() > 0
        assert proposal.centre.grad.isfinite().all() and proposal.centre.grad.any()


def test_the_colour_gives_proposals_no_gradient():
    """It cannot: places of samples have none; without a loss of their own they never learn."""
    proposals = (blob(0.5, 1),)
    field, found = rendered(proposals)
    found.colour.sum().backward()
    assert field.density.grad.any()
    assert all(leaf.grad is None for leaf in proposals[0])


def test_losses_by_their_formulas():
    _, found = rendered((blob(0.5, 1),))
    (level,) = found.proposals
    assert level.weights.shape == (2, 2, 3, 4, 10)
    values = torch.rand(found.colour.shape, generator=torch.Generator().manual_seed(0))
    expected = ((level.colour - values) ** 2).mean((1, 2, 3, 4))
    torch.testing.assert_close(coarse_colour_loss(found, values), expected)
    excess = (found.weights - outer_bound(found.edges, level.edges, level.weights)).clamp(min=0)
    expected = (excess**2 / found.weights.clamp(min=1e-7)).sum(-1).mean((1, 2, 3))
    torch.testing.assert_close(interlevel_loss(found), expected)


def test_a_proposal_learns_where_the_field_is():
    """From a blob at the wrong place, by the interlevel loss alone; samples then lie where the weight is."""
    torch.manual_seed(0)
    model = VolumeRenderer(RendererConfig(samples=16, proposal_samples=(24,)))
    (field, _), params = model.example(2, torch.Generator().manual_seed(0))
    field = GaussianField(field.centre[:, :1], torch.full((2, 1), 0.15), torch.full((2, 1), 20.0), field.colour[:, :1])
    start = GaussianField(field.centre + 0.5, torch.full((2, 1), 0.4), torch.ones(2, 1), field.colour)
    centre = start.centre.clone().requires_grad_()
    log_scale, log_density = start.scale.log().requires_grad_(), start.density.log().requires_grad_()
    optimizer = torch.optim.Adam([centre, log_scale, log_density], lr=0.05)

    def look():
        proposal = GaussianField(centre, log_scale.exp(), log_density.exp(), start.colour)
        return model.render(ProposedField(field, (proposal,)), params)

    history = []
    for _ in range(60):
        loss = interlevel_loss(look()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.05 * history[0]
    assert (centre - field.centre).norm(dim=-1).max() < 0.5 * (start.centre - field.centre).norm(dim=-1).min()


def test_what_has_no_proposals_is_told():
    _, found = rendered()
    for loss in (interlevel_loss, lambda r: coarse_colour_loss(r, r.colour)):
        with pytest.raises(UserError, match="0 proposals: the loss needs a ProposedField"):
            loss(found)

    def density_alone(points, directions):
        return FieldSamples(points.norm(dim=-1), None)

    _, found = rendered((density_alone,))
    assert interlevel_loss(found).isfinite().all()
    with pytest.raises(UserError, match="none of 1 proposals has a colour"):
        coarse_colour_loss(found, found.colour)
