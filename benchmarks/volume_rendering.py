"""Times the volume renderer against a plain dense one: `python benchmarks/volume_rendering.py [--json FILE]`.

The plain one is NeRF's as it is usually written: 64 even samples of the field, 64 more where those found something, all
128 of the two evaluated together, transmittances multiplied, nothing left out, everything kept for the gradient.  Ours
runs in the same process, turn by turn, in processor time (wall-clock on a GPU), with as many samples on a ray as needed
to reach the same PSNR; the truth is the same field with 2,048 samples on each ray.  The field is a grid of density and
features, decoded by a small network that was fitted to balls and a box.  Bytes are the most that is held at a time
beyond what was there before, for each evaluation that the plain one makes of the field (192 a ray): so they compare.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import Camera, PosedPixels, camera_rays, look_at, make_intrinsics
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import BoxField, FieldSamples, ProposedField, SphereField, SumField
from goembed_nerf_renderer.occupancy import occupancy_grid
from goembed_nerf_renderer.renderer import VolumeRenderer
from torch import Tensor, nn

NEAR, FAR = 2.0, 6.0
PLAIN = 64 + 128  # evaluations of the field on a ray
COUNTS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which only counts bytes here, is silent
BOX = {"low": (-1.0, -1.0, -1.0), "high": (1.0, 1.0, 1.0)}


def analytic_scene() -> SumField:
    """Three balls on a plate, with soft edges."""
    centre = torch.tensor([[[0.0, 0.0, 0.1], [0.6, 0.4, -0.3], [-0.5, 0.3, -0.2]]])
    colour = torch.tensor([[[0.9, 0.2, 0.1], [0.1, 0.7, 0.3], [0.2, 0.3, 0.9]]])
    full = torch.full((1, 3), 1.0)
    balls = SphereField(centre, torch.tensor([[0.45, 0.25, 0.3]]), 40 * full, colour, 0.08 * full)
    low, high = torch.tensor([[[-0.85, -0.85, -0.7]]]), torch.tensor([[[0.85, 0.85, -0.55]]])
    one = torch.ones(1, 1)
    return SumField((balls, BoxField(low, high, 40 * one, torch.tensor([[[0.8, 0.7, 0.4]]]), 0.08 * one)))


class GridField(nn.Module):
    """Density on a grid of 96³, colour by a network from features on one of 48³ and the direction."""

    def __init__(self, scene: SumField, width: int = 128):
        super().__init__()
        self.density = nn.Parameter(scene(lattice(96), None).density.reshape(1, 1, 96, 96, 96))
        self.features = nn.Parameter(0.1 * torch.randn(1, 12, 48, 48, 48))
        self.decode = nn.Sequential(
            nn.Linear(15, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3), nn.Sigmoid()
        )

    def forward(self, points: Tensor, directions: Tensor | None) -> FieldSamples:
        along = torch.zeros_like(points) if directions is None else directions
        features = torch.cat([interpolate(self.features, points), along], -1)
        return FieldSamples(interpolate(self.density, points)[..., 0], self.decode(features))


class GridProposal(nn.Module):
    """A density alone, on a grid of 24³."""

    def __init__(self, field: GridField):
        super().__init__()
        self.density = nn.Parameter(F.adaptive_avg_pool3d(field.density.detach(), 24))

    def forward(self, points: Tensor, directions: Tensor | None) -> FieldSamples:
        return FieldSamples(interpolate(self.density, points)[..., 0], None)


def lattice(side: int) -> Tensor:
    ticks = torch.linspace(-1, 1, side)
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(1, -1, 3)


def interpolate(grid: Tensor, points: Tensor) -> Tensor:
    """Trilinearly, zero outside of [-1, 1]³: `(1, N, C)`."""
    return F.grid_sample(grid, points[:, :, None, None], align_corners=True)[..., 0, 0].mT


def fitted_field(device: torch.device, steps: int) -> GridField:
    """Colours of points where the scene is, fitted by Adam."""
    torch.manual_seed(0)
    scene = analytic_scene()
    field = GridField(scene)
    optimizer = torch.optim.Adam([field.features, *field.decode.parameters()], lr=0.02)
    for _ in range(steps):
        points = 2 * torch.rand(1, 4096, 3) - 1
        truth, found = scene(points, None), field(points, None)
        loss = ((found.colour - truth.colour).square().sum(-1) * (truth.density > 0)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return field.to(device)


def random_rays(count: int, device: torch.device) -> PosedPixels:
    """Rays of two cameras that look at the scene from above."""
    position = torch.tensor([[[2.6, -2.2, 2.0], [-1.5, -3.4, 1.2]]])
    pose = look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    focal, centre = torch.full((1, 2), 110.0), torch.full((1, 2), 32.0)
    pixels = 64 * ItemRandom(0, [0]).rand(2, count // 2, 2)
    params = PosedPixels(Camera(pose, make_intrinsics(focal, focal, centre, centre)), pixels, 2 * centre[..., None])
    params = params._replace(image_size=torch.full((1, 2, 2), 64.0))
    camera = Camera(*(leaf.to(device) for leaf in params.camera))
    return PosedPixels(camera, params.pixels.to(device), params.image_size.to(device))


def plain(field: nn.Module, params: PosedPixels) -> Tensor:
    """NeRF's two passes, 64 + 64."""
    rays = camera_rays(*params[:2])
    origins, directions = rays.origins.flatten(1, -2), rays.directions.flatten(1, -2)

    def look(t: Tensor) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + t[..., None] * directions[:, :, None]
        samples = field(points.flatten(1, 2), directions[:, :, None].expand_as(points).flatten(1, 2))
        density, colour = samples.density.view_as(t), samples.colour.unflatten(1, t.shape[1:])
        deltas = torch.cat([t.diff(dim=-1), torch.full_like(t[..., :1], 1e10)], -1)
        alpha = 1 - torch.exp(-density * deltas)
        passes = torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha + 1e-10], -1).cumprod(-1)[..., :-1]
        weights = alpha * passes
        return (weights[..., None] * colour).sum(-2), weights

    coarse = torch.linspace(NEAR, FAR, 64, device=origins.device).expand(*origins.shape[:2], 64)
    coarse_colour, weights = look(coarse)
    pdf = weights[..., 1:-1].detach() + 1e-5
    cdf = (pdf / pdf.sum(-1, keepdim=True)).cumsum(-1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], -1)
    u = torch.linspace(0, 1, 64, device=cdf.device).expand(*cdf.shape[:2], 64).contiguous()
    above = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[-1] - 1)
    middle = 0.5 * (coarse[..., 1:] + coarse[..., :-1])
    low, high = middle.gather(-1, above - 1), middle.gather(-1, above)
    cdf_low, cdf_high = cdf.gather(-1, above - 1), cdf.gather(-1, above)
    fine = low + ((u - cdf_low) / (cdf_high - cdf_low).clamp(min=1e-5)) * (high - low)
    colour, _ = look(torch.cat([coarse, fine], -1).sort(-1).values)
    both = torch.stack([colour, coarse_colour])  # the coarse one has a loss as well
    return both.unflatten(2, params.pixels.shape[1:-1]).movedim(-1, 3)


class Counted(nn.Module):
    """A field that counts the points at which it is asked."""

    def __init__(self, field: nn.Module):
        super().__init__()
        self.field, self.points = field, 0

    def forward(self, points: Tensor, directions: Tensor | None) -> FieldSamples:
        self.points += points.shape[0] * points.shape[1]
        return self.field(points, directions)


class Way(NamedTuple):
    """A way to render: from settings, to what is seen."""

    render: Callable[[], Tensor]  # (..., B, V, 3, N), the colour that counts first
    recorded: bool  # for the gradient
    field: Counted
    proposal: Counted | None


def psnr(found: Tensor, truth: Tensor) -> float:
    return -10 * math.log10((found - truth).square().mean().item())


def fewest(
    build: Callable[[int], VolumeRenderer], signal: object, params: PosedPixels, truth: Tensor, goal: float
) -> int:
    """The smallest number of samples that reaches a PSNR, without anything left out."""
    with torch.no_grad():
        for count in COUNTS:
            if psnr(build(count)(signal, params), truth) >= goal:
                return count
    return COUNTS[-1]


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Processor time on a CPU, wall-clock time on a GPU."""
    if device.type == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most memory that is held at a time, beyond what was held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


def ways(field: GridField, params: PosedPixels, truth: Tensor, goal: float, chunk: int) -> dict[str, Way]:
    """The plain one, and ours with each means on and off."""
    counted, proposal = Counted(field), Counted(GridProposal(field).to(truth.device))
    proposed = ProposedField(counted, (proposal,))

    def renderer(count: int, **settings: object) -> VolumeRenderer:
        return VolumeRenderer(RendererConfig(near=NEAR, far=FAR, samples=count, **settings)).to(truth.device)

    kinds = {
        "even": (counted, {"proposal_samples": ()}),
        "its own proposal, 64": (counted, {"proposal_samples": (64,)}),
        "proposal, 64": (proposed, {"proposal_samples": (64,)}),
        "proposal, 64, in the box": (proposed, {"proposal_samples": (64,), "box": BOX}),
    }
    corner = torch.ones(1, 3, device=truth.device)
    grid = occupancy_grid(field, -corner, corner, 48, 1e-2)
    found = {"plain dense, 64 + 64": Way(lambda: plain(counted, params), True, counted, None)}
    for name, (signal, settings) in kinds.items():
        count = fewest(lambda c, s=settings: renderer(c, **s), signal, params, truth, goal)
        for label, more, occupancy in (
            ("", {}, None),
            (", in chunks", {"chunk_points": chunk}, None),
            (", early termination", {"min_transmittance": 1e-4}, None),
            (", occupancy", {}, grid),
            (", occupancy and early termination", {"min_transmittance": 1e-4}, grid),
        ):
            model = renderer(count, **settings, **more)
            recorded = occupancy is None and "min_transmittance" not in more

            def render(model: VolumeRenderer = model, signal: object = signal, occupancy: object = occupancy) -> Tensor:
                return model.render(signal, params, occupancy=occupancy).colour[None]

            found[f"{name} + {count}{label}"] = Way(render, recorded, counted, proposal)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rays", type=int, default=2048)
    parser.add_argument("--chunk-points", type=int, default=2**14)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fit-steps", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    field, params = fitted_field(device, options.fit_steps), random_rays(options.rays, device)
    with torch.no_grad():
        best = RendererConfig(near=NEAR, far=FAR, samples=2048, proposal_samples=(), chunk_points=2**18)
        truth = VolumeRenderer(best).to(device)(field, params)
        goal = psnr(plain(field, params)[0], truth)
    trained = list(field.parameters())
    candidates = ways(field, params, truth, goal, options.chunk_points)

    def forward(way: Way) -> Tensor:
        with torch.no_grad():
            return way.render()

    def both(way: Way) -> None:
        seen = way.render()
        torch.autograd.grad((seen - truth).square().mean(), trained)

    figures: dict[str, dict[str, float | None]] = {}
    for name, way in candidates.items():  # also the warm-up
        per_sample = options.rays * PLAIN
        for asked in (way.field, way.proposal):
            if asked is not None:
                asked.points = 0
        reached = psnr(forward(way)[0], truth)
        figures[name] = {
            "psnr": reached,
            "field_evaluations": way.field.points / options.rays,
            "proposal_evaluations": way.proposal.points / options.rays if way.proposal else 0,
            "forward_bytes": peak_bytes(lambda way=way: forward(way), device) / per_sample,
            "backward_bytes": peak_bytes(lambda way=way: both(way), device) / per_sample if way.recorded else None,
        }
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeats):
        for name, way in candidates.items():
            runs = {"forward": lambda way=way: forward(way)}
            if way.recorded:
                runs["backward"] = lambda way=way: both(way)
            for kind, run in runs.items():
                times.setdefault((name, kind), []).append(seconds(run, device))
    for (name, kind), values in times.items():
        figures[name][f"{kind}_rays_per_second"] = options.rays / statistics.median(values)

    print(f"{options.rays} rays on {device}, {torch.get_num_threads()} thread(s); PSNR to reach: {goal:.1f} dB")
    print(f"{'':62s}   of a ray: field, proposal   forward: rays/s, bytes   and backward: rays/s, bytes")
    base = figures["plain dense, 64 + 64"]
    for name, figure in figures.items():
        asked = f"{figure['field_evaluations']:6.1f} {figure['proposal_evaluations']:6.1f}"
        line = f"{name:62s} {figure['psnr']:5.1f} dB {asked}"
        for kind in ("forward", "backward"):
            speed = figure.get(f"{kind}_rays_per_second")
            if speed is not None:
                ratio = speed / base[f"{kind}_rays_per_second"]
                line += f"   {speed:8.0f} {ratio:5.1f}x {figure[f'{kind}_bytes']:6.0f}"
        print(line)
    if options.json:
        options.json.write_text(json.dumps({"goal_psnr": goal, "ways": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
