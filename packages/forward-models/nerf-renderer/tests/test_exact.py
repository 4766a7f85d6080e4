"""Renderings against what is known in closed form, in float64."""

import itertools
import math

import pytest
import torch
from goembed_nerf_renderer.cameras import (
    Camera,
    PosedPixels,
    camera_rays,
    look_at,
    make_intrinsics,
    project,
    whole_image,
)
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import BoxField, GaussianField, SphereField, SumField
from goembed_nerf_renderer.renderer import VolumeRenderer

HARD = torch.tensor([[1e-9]], dtype=torch.float64)


def vector(*numbers):
    return torch.tensor([[numbers]], dtype=torch.float64)


def number(value):
    return torch.tensor([[value]], dtype=torch.float64)


def straight(positions=((0.0, 0.0),), distance=4.0):
    """Rays along x from x = -distance, at some (y, z): one camera for each, looking at its own pixel."""
    pose = torch.stack(
        [
            look_at(*(torch.tensor([x, y, z]).double() for x in (-distance, 0.0)), vector(0, 0, 1)[0, 0])
            for y, z in positions
        ]
    )
    one = torch.ones(1, len(positions), dtype=torch.float64)
    camera = Camera(pose[None], make_intrinsics(10 * one, 10 * one, one, one))
    return PosedPixels(
        camera, torch.ones(1, len(positions), 2).double(), torch.full((1, len(positions), 2), 2.0).double()
    )


def renderer(**settings):
    return VolumeRenderer(RendererConfig(**settings)).double()


def test_a_box_of_constant_density_is_exact(new_cameras):
    """`C = c (1 − exp(−σ L)) + background exp(−σ L)`, with few samples, as all of them are inside."""
    low, high = (-0.5, -0.6, -0.7), (0.8, 0.7, 0.6)
    colour, background, density = vector(0.2, 0.7, 0.4), vector(0.9, 0.1, 0.5), 1.7
    field = BoxField(vector(*low), vector(*high), number(density), colour, HARD)
    params = whole_image(new_cameras(batch=1), 12, 16)
    model = renderer(samples=5, proposal_samples=(), box={"low": low, "high": high})
    with torch.no_grad():
        found = model.render(field, params, background=background[0])
    rays = camera_rays(*params[:2])
    crossings = torch.stack([(vector(*face) - rays.origins) / rays.directions for face in (low, high)])
    length = (crossings.amax(0).amin(-1) - crossings.amin(0).amax(-1)).clamp(min=0)
    assert 50 < (length > 0).sum() < length.numel() - 50
    through = torch.exp(-density * length)
    torch.testing.assert_close(found.opacity, 1 - through, atol=1e-12, rtol=0)
    expected = (1 - through)[..., None] * colour + through[..., None] * background
    torch.testing.assert_close(found.colour.movedim(2, -1), expected, atol=1e-12, rtol=0)


def test_in_float32_too(new_cameras):
    box = {"low": (-0.5, -0.6, -0.7), "high": (0.8, 0.7, 0.6)}
    field = BoxField(vector(*box["low"]), vector(*box["high"]), number(1.7), vector(0.2, 0.7, 0.4), HARD)
    params = whole_image(new_cameras(batch=1), 12, 16)
    config = RendererConfig(samples=64, box=box)
    expected = VolumeRenderer(config).double()(field, params)
    single = type(params)(Camera(*(leaf.float() for leaf in params.camera)), params.pixels.float(), params.image_size)
    found = VolumeRenderer(config)(BoxField(*(leaf.float() for leaf in field)), single)
    torch.testing.assert_close(found.double(), expected, atol=3e-6, rtol=0)


def test_layers():
    """Two slabs behind each other, each of its own density and colour; their borders are edges of intervals."""
    first = BoxField(vector(-1, -9, -9), vector(0, 9, 9), number(0.8), vector(1, 0, 0), HARD)
    second = BoxField(vector(0, -9, -9), vector(1, 9, 9), number(2.5), vector(0, 1, 0), HARD)
    model = renderer(near=3, far=5, samples=4, proposal_samples=(), background="white")
    found = model.render(SumField((first, second)), straight())
    a, b = math.exp(-0.8), math.exp(-2.5)
    expected = torch.tensor([1 - a + a * b, a * (1 - b) + a * b, a * b], dtype=torch.float64)
    torch.testing.assert_close(found.colour[0, 0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("density", [0.3, 4.0])
def test_a_sphere(density):
    """The chord at an offset `b` is `2 √(r² − b²)` long; an opaque one is seen at its surface."""
    offsets = [(0.0, 0.0), (0.3, -0.2), (0.0, 0.7), (0.6, 0.6)]
    field = SphereField(vector(0, 0, 0), number(0.8), number(density), vector(0.3, 0.6, 0.9), HARD)
    chord = torch.tensor([2 * math.sqrt(max(0.64 - y * y - z * z, 0)) for y, z in offsets], dtype=torch.float64)
    found = renderer(near=3, far=5, samples=4000, proposal_samples=()).render(field, straight(offsets))
    expected = 1 - torch.exp(-density * chord)
    torch.testing.assert_close(found.opacity[0], expected, atol=density * 2 / 4000, rtol=0)
    torch.testing.assert_close(found.colour[0], expected[:, None] * field.colour[0], atol=density * 2 / 4000, rtol=0)
    opaque = renderer(near=3, far=5, samples=400, proposal_samples=(64,)).render(
        field._replace(density=number(1e6)), straight(offsets)
    )
    hit = chord > 0
    torch.testing.assert_close(opaque.opacity[0], hit.double())
    torch.testing.assert_close(opaque.depth[0][hit], 4 - chord[hit] / 2, atol=2e-3, rtol=0)
    assert opaque.depth[0][~hit].item() == 0


def test_proposals_find_the_sphere():
    """With 64 + 64 samples the opacity is nearer to the truth than with 128 even ones."""
    offsets = [(0.02 * i, 0.013 * i) for i in range(30)]
    field = SphereField(vector(0, 0, 0), number(0.8), number(3.0), vector(1, 1, 1), HARD)
    chord = torch.tensor([2 * math.sqrt(max(0.64 - y * y - z * z, 0)) for y, z in offsets], dtype=torch.float64)
    expected = 1 - torch.exp(-3 * chord)

    def error(**settings):
        found = renderer(near=0.5, far=12, **settings).render(field, straight(offsets)).opacity[0]
        return (found - expected).square().mean().sqrt().item()

    even, proposed = error(samples=128, proposal_samples=()), error(samples=64, proposal_samples=(64,))
    assert proposed < 0.6 * even


@pytest.mark.parametrize("spacing", ["linear", "disparity"])
def test_the_error_falls_with_the_square_of_the_number_of_samples(spacing):
    """One Gaussian, cut off at near and far: `∫ σ` is a difference of error functions."""
    field = GaussianField(vector(0.1, 0, 0), number(0.5), number(2.0), vector(0.2, 0.5, 0.8))
    offsets = [(0.0, 0.0), (0.3, 0.1), (-0.2, 0.5)]
    near, far = 3.6, 4.9
    closest = torch.tensor([y * y + z * z for y, z in offsets], dtype=torch.float64)
    reach = torch.special.erf(torch.tensor([near - 4.1, far - 4.1]).double() / (0.5 * math.sqrt(2))).diff()
    depth = 2.0 * torch.exp(-closest / (2 * 0.25)) * 0.5 * math.sqrt(math.pi / 2) * reach
    expected = (1 - torch.exp(-depth))[:, None] * field.colour[0]

    def error(samples):
        model = renderer(near=near, far=far, samples=samples, proposal_samples=(), spacing=spacing)
        return (model(field, straight(offsets))[0] - expected).abs().max().item()

    errors = [error(samples) for samples in (8, 16, 32, 64, 128)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert orders == pytest.approx([2.0] * 4, abs=0.05)


def test_the_error_of_depth_and_mixed_colours_falls_with_the_square_too():
    field = GaussianField(
        torch.tensor([[[-0.3, 0, 0], [0.4, 0.1, 0]]]).double(),
        torch.tensor([[0.4, 0.3]]).double(),
        torch.tensor([[2.0, 3.0]]).double(),
        torch.tensor([[[1.0, 0, 0], [0, 0.5, 1]]]).double(),
    )

    def seen(samples):
        return renderer(near=3, far=5, samples=samples, proposal_samples=()).render(field, straight([(0.1, 0.2)]))

    best = seen(4096)
    for name in ("colour", "depth"):
        errors = [(getattr(seen(n), name) - getattr(best, name)).abs().max().item() for n in (16, 32, 64, 128)]
        orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
        assert orders == pytest.approx([2.0] * 3, abs=0.1), name


def test_rendering_and_projection_agree():
    """The centroid of the image of a tiny blob is where its centre projects to, to a ten-thousandth of a pixel."""
    centre = vector(0.11, -0.23, 0.31)
    positions = torch.tensor([[[3.0, 1.0, 2.0], [-2.0, 2.5, -1.0], [0.5, -4.0, 0.2]]]).double()
    near_it = centre + vector(0.003, -0.002, 0.004)  # not in the middle of the image
    pose = look_at(positions, near_it, vector(0.1, 0.3, 1.0))
    focal = torch.tensor([[1800.0, 1500.0, 2100.0]]).double()
    camera = Camera(pose, make_intrinsics(focal, 0.9 * focal, 20.3 + 0 * focal, 16.8 + 0 * focal))
    params = whole_image(camera, 34, 40)
    reach = (0.02, 0.02, 0.02)
    box = {
        "low": tuple(float(c) - r for c, r in zip(centre[0, 0], reach, strict=True)),
        "high": tuple(float(c) + r for c, r in zip(centre[0, 0], reach, strict=True)),
    }
    field = GaussianField(centre, number(0.003), number(1.0), vector(1, 1, 1))
    with torch.no_grad():
        opacity = renderer(samples=96, proposal_samples=(), box=box).render(field, params).opacity
    total = opacity.sum((2, 3))
    centroid = (opacity[..., None] * params.pixels).sum((2, 3)) / total[..., None]
    expected, _ = project(camera, centre)
    assert (expected[0, :, 0] - torch.tensor([20.3, 16.8])).abs().amin() > 0.1
    assert (opacity[:, :, 0].amax() < 1e-6 * opacity.amax()) and (opacity[..., 0].amax() < 1e-6 * opacity.amax())
    torch.testing.assert_close(centroid, expected[:, :, 0], atol=1e-4, rtol=0)


def test_random_places_are_right_on_average():
    """With 4 samples anywhere in their intervals, the mean optical depth of many draws is that of the integral."""
    from goembed_core.randomness import ItemRandom

    field = GaussianField(vector(0, 0, 0), number(0.25), number(1.0), vector(1, 1, 1))
    model = renderer(near=3, far=5, samples=4, proposal_samples=())
    params = straight()
    many = params._replace(pixels=params.pixels[:, :, None].expand(1, 1, 20000, 2))
    found = -torch.log1p(-model.render(field, many, ItemRandom(0, [0])).opacity)[0, 0]
    expected = 0.25 * math.sqrt(2 * math.pi) * math.erf(1 / (0.25 * math.sqrt(2)))
    deviation = found.std().item() / math.sqrt(20000)
    assert found.mean().item() == pytest.approx(expected, abs=4 * deviation)
    middle = -torch.log1p(-model.render(field, params).opacity).item()
    assert abs(middle - expected) > 4 * deviation  # which the middles of intervals are not
