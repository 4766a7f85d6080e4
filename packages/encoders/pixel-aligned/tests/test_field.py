"""Fields of any number of views, their network written out slowly, and guidance."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.trees import concatenate, select_items, select_views, tree_map
from goembed_nerf_renderer.fields import BoxField
from goembed_pixel_aligned.config import FieldConfig
from goembed_pixel_aligned.denoiser import SceneDenoiser, guide
from goembed_pixel_aligned.features import Features, look_up
from goembed_pixel_aligned.field import CorrectedField, GuidedField
from goembed_pixel_aligned.network import FieldNetwork
from torch.nn import functional as F


def features(denoiser, views: int, batch: int = 2) -> Features:
    """Features of noise, of so many views."""
    parts = [denoiser.example(batch, torch.Generator().manual_seed(10 + n))[1] for n in range(views)]
    with torch.no_grad():
        return denoiser.encode(concatenate(parts, 1))


def points(batch: int = 2, n: int = 40) -> torch.Tensor:
    return 2 * torch.rand(batch, n, 3, generator=torch.Generator().manual_seed(3)) - 1


def slowly(network: FieldNetwork, seen: Features, times: torch.Tensor, x: torch.Tensor, other=None):
    """The official order: sample all features, then every layer at every point, scale and shift on hidden values."""
    config = network.config
    sight = look_up(seen.camera, seen.image_size, x)
    batch, views, channels = seen.maps.shape[:3]
    sampled = torch.stack(
        [F.grid_sample(seen.maps[:, v], sight.place[:, v, :, None], "bilinear", "border", False)[..., 0].mT
         for v in range(views)], 1,
    )  # fmt: skip
    weight = network.project.weight.reshape(-1, channels)
    local = torch.cat([sight.local[..., :2], sight.local[..., 2:] - config.middle], -1)
    waves = [local[..., i, None] * config.first_frequency * 2.0 ** torch.arange(config.frequencies) for i in range(3)]
    angles = torch.cat(waves, -1)
    if config.frame == "upright":
        local = torch.stack([turned_about_z(seen.camera.camera_to_world[:, v], x) for v in range(views)], 1)
        angles = torch.cat(
            [local[..., i, None] * config.first_frequency * 2.0 ** torch.arange(config.frequencies) for i in range(3)],
            -1,
        )
    encoded = torch.cat([local, angles.sin(), angles.cos()], -1)
    told = sampled @ weight.T + network.project.bias
    h = told[..., : config.width] + encoded @ network.position
    for k in range(config.surfaces):
        distance = sight.local[..., 2] - config.middle - told[..., config.width + k]
        angles = distance[..., None] * config.surface_frequency * 2.0 ** torch.arange(config.frequencies)
        h = h + torch.cat([distance[..., None], angles.sin(), angles.cos()], -1) @ network.behind[k]
    time = network.time_embedding(times.flatten()).unflatten(0, (batch, views))
    late = time[:, -1:]
    if config.code_cells:
        side = seen.maps.shape[-1] // config.code_cells
        cells = seen.maps.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).mean((-1, -3))
        code = network.image_code(cells.flatten(2))
        time, late = time + code, late + code.mean(1, keepdim=True)
        for b in range(batch):
            for v in range(views):
                added = network.place_code(F.silu(time[b, v])).reshape(network.position.shape)
                h[b, v] = h[b, v] + encoded[b, v] @ added
    time, late = F.silu(time), F.silu(late)
    for number, block in enumerate(network.blocks):
        if number == config.view_blocks:
            valid = sight.valid[..., None].float()
            if config.pooling == "weighted":
                gate = F.relu(h) @ network.gate + network.gate_bias(time)[:, :, None]
                valid = valid * gate.exp()
            h = (h * valid).sum(1) / valid.sum(1).clamp(min=1e-12)
            if other is not None:
                h = h + F.relu(other) @ network.beside
        early = number < config.view_blocks
        scale, shift = block.modulation(time if early else late).chunk(2, -1)
        scale, shift = (s[:, :, None] if early else s for s in (scale, shift))
        hidden = (F.relu(h) @ block.first) * (1 + scale) + shift
        h = h + F.relu(hidden) @ block.second
    raw = network.out(F.relu(h))
    density = config.density_scale * F.softplus(raw[..., 0]) * sight.valid.any(1)
    return density, raw[..., 1:4].sigmoid(), raw[..., 4:]


def turned_about_z(pose: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Points of the world with the camera's right, as seen from above, as x; by angles, one signal at a time."""
    turned = []
    for one, points_of_one in zip(pose, x, strict=True):
        angle = math.atan2(one[1, 0], one[0, 0])
        cos, sin = math.cos(angle), math.sin(angle)
        turned.append(points_of_one @ torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]))
    return torch.stack(turned)


CASES = {
    "pixelNeRF": {"code_cells": 0},
    "image code": {"code_cells": 1},
    "code of cells": {"code_cells": 4},
    "surfaces": {"surfaces": 3, "surface_frequency": 2.0},
    "upright": {"surfaces": 1, "frame": "upright"},
    "weighted": {"pooling": "weighted"},
}


@pytest.mark.parametrize("changed", CASES.values(), ids=CASES)
def test_the_field_is_the_network_written_out(denoiser, with_noise, changed):
    """Projection before sampling, and the timestep within the weights: the same numbers, at any number of views."""
    config = FieldConfig(width=12, frequencies=3, view_blocks=2, blocks=2, **changed)
    network = with_noise(FieldNetwork(config, 6, extra=3))
    for views in (1, 2, 4):
        seen = features(denoiser, views)
        times = torch.arange(2 * views).reshape(2, views) * 100.0
        with torch.no_grad():
            found = network(seen, times)(points(), None)
            density, colour, extra = slowly(network, seen, times, points())
        for ours, theirs in zip(found, (density, colour, extra), strict=True):
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
        assert density.std() > 0.01 * density.mean() and found.features.shape == (2, 40, 3)


def test_a_correction_reads_the_last_layer_of_the_estimate(denoiser, with_noise):
    """Beside the mean over its own views; the layers behind see both."""
    config = FieldConfig(width=12, frequencies=2, time_size=8, blocks=2)
    network = with_noise(FieldNetwork(config, 6, corrects=True), 1)
    seen, times = features(denoiser, 2), torch.full((2, 2), 300.0)
    other = torch.randn(2, 40, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        field = network(seen, times)
        found, without = field.read(points(), other), field.read(points())
        density, colour, _ = slowly(network, seen, times, points(), other)
    ours = field.shown(found.raw, found.seen)
    torch.testing.assert_close(ours.density, density)
    torch.testing.assert_close(ours.colour, colour)
    assert (found.raw - without.raw).abs().max() > 0.1


def test_a_correction_is_added_before_density_and_colour(denoiser, with_noise):
    """To what the estimate's views see; elsewhere it starts from empty space, and where no view sees nothing is."""
    config = FieldConfig(width=12, frequencies=2, time_size=8, density_bias=-3.0)
    estimate = with_noise(FieldNetwork(config, 6, 2), 0)
    correction = with_noise(FieldNetwork(config, 6, corrects=True), 1)
    x = points(n=300) * 3
    views = narrow(denoiser, 2)
    with torch.no_grad():
        one = estimate(select_views(views, slice(0, 1)), torch.zeros(2, 1))
        other = correction(select_views(views, slice(1, 2)), torch.zeros(2, 1))
        first, found = one.read(x), CorrectedField(one, other)(x)
        added = other.read(x, first.hidden)
    known, seen = first.seen, added.seen
    assert min((seen & ~known).sum(), (known & ~seen).sum(), (~seen & ~known).sum()) > 9
    empty = torch.tensor([-3.0, 0.0, 0.0, 0.0])
    raw = torch.empty_like(added.raw)
    for b, n in torch.cartesian_prod(torch.arange(2), torch.arange(x.shape[1])).tolist():
        raw[b, n] = (first.raw[b, n, :4] if known[b, n] else empty) + added.raw[b, n]
    torch.testing.assert_close(found.density, config.density_scale * F.softplus(raw[..., 0]) * (seen | known))
    torch.testing.assert_close(found.colour, raw[..., 1:].sigmoid())
    assert found.features is None and added.raw.std() > 0.1


def test_no_gradient_passes_from_a_corrected_field_into_the_estimate(denoiser, with_noise):
    config = FieldConfig(width=12, frequencies=2, time_size=8)
    estimate, correction = (with_noise(FieldNetwork(config, 6, corrects=c), int(c)) for c in (False, True))
    views = narrow(denoiser, 2)
    found = CorrectedField(estimate(views, torch.zeros(2, 2)), correction(views, torch.zeros(2, 2)))(points())
    (found.density.sum() + found.colour.sum()).backward()
    assert all(p.grad is None for p in estimate.parameters())
    assert correction.beside.grad.any() and correction.out.weight.grad.any()


def narrow(denoiser, views: int) -> Features:
    """Features of noise under narrow cameras: some points are seen by none, by one or by all."""
    params = select_views(denoiser.example(2, torch.Generator().manual_seed(10))[0].params, slice(0, views))
    maps = torch.randn(2, 2, 6, 8, 8, generator=torch.Generator().manual_seed(1))[:, :views]
    return Features(maps, params.camera, params.image_size)


def test_the_order_of_views_of_one_timestep_does_not_matter_and_views_count(denoiser):
    seen = features(denoiser, 3)
    turned = tree_map(lambda leaf: leaf.flip(1), seen)
    fewer = tree_map(lambda leaf: leaf[:, :2], seen)
    with torch.no_grad():
        one, other, less = (denoiser.estimate(f)(points(), None).density for f in (seen, turned, fewer))
    torch.testing.assert_close(one, other)
    assert (one - less).abs().max() > 1e-3


def test_what_no_view_sees_is_empty_and_unseen_views_do_not_count(settings, with_noise):
    """A view turned away from all points changes nothing; where only such views are, there is nothing."""
    field = {"width": 12, "frequencies": 2, "time_size": 8, "code_cells": 0}
    denoiser = with_noise(SceneDenoiser(settings(field=field)))
    seen = features(denoiser, 2)
    pose = seen.camera.camera_to_world.clone()
    pose[:, 1, :3, [0, 2]] *= -1  # turned round about its y: all points are behind it
    turned = seen._replace(camera=seen.camera._replace(camera_to_world=pose))
    with torch.no_grad():
        found = denoiser.estimate(turned)(points(), None)
        alone = denoiser.estimate(tree_map(lambda leaf: leaf[:, :1], turned))(points(), None)
        nothing = denoiser.estimate(tree_map(lambda leaf: leaf[:, 1:], turned))(points(), None)
    torch.testing.assert_close(found.density, alone.density)
    torch.testing.assert_close(found.colour, alone.colour)
    assert (alone.density > 0).float().mean() > 0.5 and not nothing.density.any()


def test_a_field_is_a_tree_that_can_be_taken_apart(denoiser):
    with torch.no_grad():
        field = denoiser.estimate(features(denoiser, 2))
        whole = field(points(), None)
        parts = [select_items(field, slice(i, i + 1))(points()[i : i + 1], None) for i in range(2)]
    torch.testing.assert_close(concatenate([p._replace(features=None) for p in parts], 0).density, whole.density)


@pytest.mark.parametrize("upright", [True, False])
def test_upright_scenes_may_be_turned_about_z(settings, with_noise, upright):
    """The world turned about z, cameras and points with it: the same field.  About x: another one, if upright."""
    torch.manual_seed(0)
    network = {**settings().context.network.model_dump(), "head_std": 0.5}
    field = {"width": 12, "frequencies": 2, "time_size": 8, "surfaces": 2}
    if upright:
        field["frame"] = "upright"
    changed = {"context": {"network": network, "upright": upright}, "field": field}
    denoiser = with_noise(SceneDenoiser(settings(**changed))).eval()
    context, _, _ = denoiser.example(2, torch.Generator().manual_seed(5))

    def turned(axes: tuple[int, int], angle: float) -> torch.Tensor:
        turn = torch.eye(4)
        turn[axes[0], axes[0]] = turn[axes[1], axes[1]] = math.cos(angle)
        turn[axes[0], axes[1]], turn[axes[1], axes[0]] = -math.sin(angle), math.sin(angle)
        camera = context.params.camera
        camera = camera._replace(camera_to_world=turn @ camera.camera_to_world)
        seen = denoiser.encode(context._replace(params=context.params._replace(camera=camera)))
        return denoiser.estimate(seen)(points() @ turn[:3, :3].T, None).density

    with torch.no_grad():
        straight, about_z, about_x = turned((0, 1), 0.0), turned((0, 1), 2.0), turned((1, 2), 0.4)
    torch.testing.assert_close(about_z, straight, rtol=1e-4, atol=1e-4)
    changed_by = (about_x - straight).abs().max()
    assert changed_by > 1e-2 if upright else changed_by < 1e-3
    assert straight.std() > 0.1


def box(density: float, colour: tuple[float, float, float]) -> BoxField:
    low = torch.full((1, 1, 3), -0.5)
    return BoxField(low, -low, torch.tensor([[density]]), torch.tensor([[colour]]), torch.tensor([[1e-3]]))


def test_guidance_extrapolates_density_and_light():
    """By hand, inside: `σ = 1 + 2 (3 − 1) = 5`, light `0.5 + 2 (0.6 − 0.5) = 0.7` of red; outside nothing."""
    inside, outside = torch.zeros(1, 1, 3), torch.full((1, 1, 3), 0.9)
    c, u = box(3.0, (0.2, 0.4, 0.6)), box(1.0, (0.5, 0.4, 0.2))
    guided = GuidedField(c, u, torch.tensor([2.0]))
    found = guided(inside)
    torch.testing.assert_close(found.density, torch.tensor([[5.0]]))
    light = torch.tensor([0.5, 0.4, 0.2]) + 2 * (torch.tensor([0.6, 1.2, 1.8]) - torch.tensor([0.5, 0.4, 0.2]))
    torch.testing.assert_close(found.colour[0, 0], light / 5)
    assert not guided(outside).density.any()
    swapped = GuidedField(u, c, torch.tensor([2.0]))(inside)  # 3 + 2 (1 − 3) < 0: nothing
    assert not swapped.density.any() and swapped.colour.isfinite().all()


def test_guidance_of_1_is_the_conditional_field_and_of_0_the_other(denoiser):
    context, noisy, timestep = denoiser.example(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        c = denoiser(context, noisy, timestep)
        u = denoiser(context._replace(values=torch.zeros_like(context.values)), noisy, timestep)
        for scale, expected in ((1.0, c), (0.0, u)):
            found, wanted = guide(c, u, scale)(points(), None), expected(points(), None)
            torch.testing.assert_close(found.density, wanted.density)
            torch.testing.assert_close(found.colour, wanted.colour)
    assert (c(points(), None).density - u(points(), None).density).abs().max() > 1e-4
