"""What the renderer gives beside colours; chunks, backgrounds, random places, precision, and what it refuses."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_core.trees import named_leaves, select_items, tree_map
from goembed_nerf_renderer.cameras import PosedPixels, camera_rays, channels_first, whole_image
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples, GaussianField, ProposedField, SphereField
from goembed_nerf_renderer.renderer import VolumeRenderer, random_background
from torch import nn


def build(**settings):
    model = VolumeRenderer(RendererConfig(**{"samples": 12, "proposal_samples": (8,)} | settings))
    signal, params = model.example(2, torch.Generator().manual_seed(0))
    return model, signal, params


class Network(nn.Module):
    """A field of weights, with features, that looks along the rays."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Softplus(), nn.Linear(16, 9))

    def forward(self, points, directions):
        found = self.layers(torch.cat([points, directions], -1))
        return FieldSamples(nn.functional.softplus(found[..., 0]), found[..., 1:4].sigmoid(), found[..., 4:])


def test_all_that_there_is_to_know():
    model, _, params = build()
    found = model.render(Network(), params)
    shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(found, "").items()}
    assert shapes == {
        "colour": (2, 2, 3, 3, 4),
        "depth": (2, 2, 3, 4),
        "opacity": (2, 2, 3, 4),
        "features": (2, 2, 5, 3, 4),
        "edges": (2, 2, 3, 4, 13),
        "distances": (2, 2, 3, 4, 12),
        "weights": (2, 2, 3, 4, 12),
    }
    torch.testing.assert_close(found.opacity, found.weights.sum(-1))
    torch.testing.assert_close(found.depth, (found.weights * found.distances).sum(-1))
    ends = model.config.near + found.edges * (model.config.far - model.config.near)
    assert ((found.distances > ends[..., :-1]) & (found.distances < ends[..., 1:])).all()


def test_features_and_directions_are_those_of_the_samples():
    """A field whose colour is the direction and whose feature the place: seen through fog that is opaque at once."""

    def fog(points, directions):
        return FieldSamples(torch.full_like(points[..., 0], 1e9), directions, points)

    model, _, params = build(proposal_samples=())
    found, rays = model.render(fog, params), camera_rays(params.camera, params.pixels)
    torch.testing.assert_close(found.colour, channels_first(rays.directions))
    first = rays.origins + found.distances[..., :1] * rays.directions
    torch.testing.assert_close(found.features, channels_first(first))
    torch.testing.assert_close(found.depth, found.distances[..., 0])


@pytest.mark.parametrize("drawn", [False, True])
def test_rendering_in_three_steps_is_rendering(drawn):
    """Intervals, points, compositing: the same, with a background of one's own and its gradient."""
    model, signal, params = build(view_dependent=False)
    random = ItemRandom(0, range(2)) if drawn else None
    behind = torch.rand(2, 3)
    whole = model.render(signal, params, random, background=behind)
    edges = model.intervals(signal.proposals, params, random)
    found = model.composite(signal.field(model.points(edges, params, random)), edges, params, random, background=behind)
    for name, leaf in named_leaves(found, "").items():
        torch.testing.assert_close(leaf, getattr(whole, name), msg=name)
    assert not edges.requires_grad and found.proposals == ()
    with pytest.raises(UserError, match=r"0 proposals, but proposal_samples=\(8,\)"):
        model.intervals((), params)
    for wrong in (edges[..., :-1], edges[:, :1], edges[0]):
        with pytest.raises(UserError, match=r"edges of shape .* for 2 signals with 24 rays each and 12 samples a ray"):
            model.points(wrong, params)


def test_a_field_that_needs_no_directions_gets_none():
    told = []

    def field(points, directions):
        told.append(directions)
        return GaussianField(*(leaf[:, :1] for leaf in signal.field))(points, directions)

    model, signal, params = build(view_dependent=False)
    model(field, params)
    assert told == [None, None]


def test_a_field_that_is_its_own_proposal_is_recorded_once():
    recorded = []

    def field(points, directions):
        recorded.append(torch.is_grad_enabled())
        return signal.field(points, directions)

    model, signal, params = build(proposal_samples=(8, 8))
    model(field, params)
    assert recorded == [False, False, True]
    model(ProposedField(field, (field,)), params)  # the first is a proposal that learns
    assert recorded[3:] == [True, False, True]


def test_normals_point_away_from_the_middle(new_cameras):
    ball = SphereField(*(torch.tensor(leaf)[None] for leaf in ([[0.0, 0, 0]], [0.8], [60.0], [[1.0, 1, 1]], [0.2])))
    params = whole_image(new_cameras(batch=1, dtype=torch.float32), 12, 16)
    model = VolumeRenderer(RendererConfig(samples=64, far=6.0))
    with torch.no_grad():
        found = model.render(ball, params, normals=True)
    assert not found.normals.requires_grad and not found.colour.requires_grad
    rays = camera_rays(*params[:2])
    surface = rays.origins + (found.depth / found.opacity.clamp(min=0.1))[..., None] * rays.directions
    solid = found.opacity > 0.999
    assert solid.sum() > 50
    cosine = nn.functional.cosine_similarity(found.normals.movedim(2, -1), surface, dim=-1)
    assert cosine[solid].min() > 0.98
    assert found.normals.norm(dim=2)[found.opacity == 0].max() == 0
    assert (torch.einsum("bvchw,bvhwc->bvhw", found.normals, rays.directions)[solid] < 0).all()


def test_normals_have_a_gradient_too():
    model, signal, params = build(chunk_points=150)
    whole = VolumeRenderer(model.config.model_copy(update={"chunk_points": None}))
    gradients = []
    for renderer in (model, whole):
        centre = signal.field.centre.clone().requires_grad_()
        field = signal._replace(field=signal.field._replace(centre=centre))
        normals = renderer.render(field, params, normals=True).normals
        gradients.append(torch.autograd.grad(normals[:, :, 0].square().sum(), centre)[0])
    assert gradients[0].abs().min() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("random", [None, ItemRandom(0, [0, 1])])
def test_chunks_are_the_whole(counting, random):
    model, signal, params = build(chunk_points=100)
    whole = VolumeRenderer(model.config.model_copy(update={"chunk_points": None}))
    found = []
    for renderer in (model, whole):
        leaves = [leaf.clone().requires_grad_() for leaf in signal.field]
        field = counting(GaussianField(*leaves))
        seen = renderer.render(ProposedField(field, signal.proposals), params, random and random.stream("same"))
        gradient = torch.autograd.grad(seen.colour.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(leaf.square().sum() for leaf in gradient), leaves)
        found.append((seen, *gradient, *second))
        assert (field.largest <= 100) == (renderer is model)
    tree_map(lambda a, b: (torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5), a)[1], *map(tuple, found))


def test_chunks_are_not_kept_for_the_gradient():
    """Bytes that autograd holds after the forward pass."""
    held = {}
    for chunk in (None, 600):
        model = VolumeRenderer(RendererConfig(samples=32, proposal_samples=(), chunk_points=chunk))
        network, (_, params) = Network(), model.example(2, torch.Generator().manual_seed(0))
        sizes = {}

        def keep(leaf, sizes=sizes):
            sizes[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
            return leaf

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda leaf: leaf):
            seen = model(network, params)
        held[chunk] = sum(sizes.values())
        seen.sum().backward()
    assert held[600] < held[None] / 4


def test_random_places_belong_to_the_item():
    model, signal, params = build()
    found = model.render(signal, params, ItemRandom(0, [4, 5]))
    assert torch.equal(model.render(signal, params, ItemRandom(0, [4, 5])).colour, found.colour)
    alone = model.render(*(select_items(leaf, slice(1, 2)) for leaf in (signal, params)), ItemRandom(0, [5]))
    torch.testing.assert_close(alone.colour, found.colour[1:])
    assert not torch.equal(model.render(signal, params, ItemRandom(1, [4, 5])).colour, found.colour)
    assert not torch.equal(model(signal, params), found.colour)
    with pytest.raises(UserError, match="random numbers of 3 items for 2 signals"):
        model.render(signal, params, ItemRandom(0, range(3)))


@pytest.mark.parametrize("name,colour", [("black", 0.0), ("white", 1.0), ("learned", 0.5)])
def test_backgrounds(name, colour):
    model, signal, params = build(background=name)
    nothing = signal.field._replace(density=torch.full((2, 2), 1e-12))
    seen = model(nothing, params)
    torch.testing.assert_close(seen, torch.full((2, 2, 3, 3, 4), colour))
    behind = [
        torch.rand(shape, generator=torch.Generator().manual_seed(0)) for shape in ((3,), (2, 3), (2, 2, 3, 3, 4))
    ]
    for background in behind:
        found = model.render(nothing, params, background=background).colour
        expected = background if background.dim() == 5 else background.reshape(-1, 1, 3, 1, 1)
        torch.testing.assert_close(found, expected.expand(2, 2, 3, 3, 4))
    assert random_background(ItemRandom(0, [0, 1])).shape == (2, 3)
    with pytest.raises(
        UserError, match=r"a background of shape \(2, 2, 3\), expected \(3,\), \(2, 3\) or \(2, 2, 3, 3"
    ):
        model.render(nothing, params, background=torch.zeros(2, 2, 3))


def test_a_learned_background_learns():
    model, signal, params = build(background="learned", chunk_points=100)
    model(signal, params).sum().backward()
    opacity = model.render(signal, params).opacity
    torch.testing.assert_close(model.background.grad, (1 - opacity).sum().expand(3))


def test_the_camera_has_a_gradient():
    """For poses that are refined: the derivative by the pose is that of finite differences."""
    model, signal, params = build(proposal_samples=(), samples=8)
    field, params = (tree_map(lambda leaf: leaf.double(), tree) for tree in (signal, params))

    def seen(pose, k):
        return model(field, params._replace(camera=params.camera._replace(camera_to_world=pose, intrinsics=k)))

    leaves = tuple(leaf.requires_grad_() for leaf in params.camera)
    torch.autograd.gradcheck(seen, leaves, fast_mode=True)


@pytest.mark.parametrize("given", [False, True])
def test_networks_under_autocast_get_their_gradient(given):
    """The field is its own proposal, without gradient, before it is evaluated with one."""
    model, _, params = build()
    network, proposal = Network(), Network()
    signal = ProposedField(network, (proposal,)) if given else network
    expected = model(signal, params)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(signal, params)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    found.square().sum().backward()
    low = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    expected.square().sum().backward()
    for ours, weight in zip(low, network.parameters(), strict=True):
        assert (ours[..., :4] - weight.grad[..., :4]).norm() < 0.1 * weight.grad.norm()


def test_parts_that_do_not_go_together_are_refused():
    model, signal, params = build()

    def field(density=(2, 288), colour=(2, 288, 3)):
        return lambda points, directions: FieldSamples(
            torch.ones(density), None if colour is None else torch.ones(colour)
        )

    assert model(ProposedField(field(), signal.proposals), params).shape == (2, 2, 3, 3, 4)
    trials = {
        r"the field's density has shape \(1, 288\), expected \(2, 288\) for φ of 2 signals": field((1, 288)),
        r"the field's colour has shape \(2, 288, 4\), expected \(2, 288, 3\)": field(colour=(2, 288, 4)),
        r"the field has no colour": field(colour=None),
    }
    for message, wrong in trials.items():
        with pytest.raises(UserError, match=message):
            model(ProposedField(wrong, signal.proposals), params)
    with pytest.raises(UserError, match=r"2 proposals, but proposal_samples=\(8,\) says how to sample 1"):
        model(ProposedField(signal.field, signal.proposals * 2), params)
    with pytest.raises(UserError, match=r"φ has pixels of shape \(2, 2, 3\), expected \(2, 2, ..., 2\)"):
        model(signal, PosedPixels(params.camera, torch.zeros(2, 2, 3), params.image_size))
