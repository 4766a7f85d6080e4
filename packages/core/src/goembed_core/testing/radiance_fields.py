"""The laws of radiance fields, `(density, colour) = F(points, directions)`: modules that are one field."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goembed_core.testing import calling, networks, state
from goembed_core.testing.building import builds, require_example
from goembed_core.testing.case import Case, moved
from goembed_core.testing.compare import cast, require_same
from goembed_core.testing.laws import Broken, NotApplicable, law

FAR = 1e3  # times as far from the origin as the example's points


@law(
    "example(B, generator) gives points (B, N, 3) of the world and unit directions (B, N, 3), by the generator alone",
    cause="a fixed batch size, directions that are not normalised, or random numbers that are not the generator's",
    is_prerequisite=True,
)
def example(case: Case) -> None:
    for drawn in require_example(case):
        points, directions = drawn.example
        if points.dim() != 3 or points.shape[2] != 3 or points.shape[1] < 2 or points.shape != directions.shape:
            shapes = f"{tuple(points.shape)} and {tuple(directions.shape)}"
            raise Broken(
                f"example({drawn.batch}) gives {shapes}, expected ({drawn.batch}, N, 3) twice, of two points on"
            )
        off = (directions.norm(dim=-1) - 1).abs().max()
        if not off < 1e-4:
            raise Broken(f"directions of example({drawn.batch}) are of lengths that differ from 1 by {off:.2g}")


@law(
    "F(points, directions) has the floating-point tensors density (B, N) and colour (B, N, 3), and features (B, N, F) "
    "or None",
    cause="a trailing dimension of the density, points flattened into one dimension, or a dictionary",
    is_prerequisite=True,
)
def samples(case: Case) -> None:
    inputs = case.inputs()
    found = case.call(case.build(), inputs)
    batch, number = inputs.points.shape[:2]
    for name, expected in {"density": (batch, number), "colour": (batch, number, 3)}.items():
        value = getattr(found, name, None)
        if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) != expected:
            what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise Broken(f"the {name} is {what}, expected a floating-point tensor {expected}")
    features = getattr(found, "features", None)
    if features is not None and (features.dim() != 3 or tuple(features.shape[:2]) != (batch, number)):
        raise Broken(f"the features are {tuple(features.shape)}, expected ({batch}, {number}, F)")


@law(
    "the density is finite and not negative, anywhere in the world: in the example, at the origin and far away",
    cause="a density without softplus, relu or exp at its end, or a division by a distance that may be zero",
)
def density_anywhere(case: Case) -> None:
    model = case.build()
    for seed in range(4):
        inputs = case.inputs(batch=8, seed=seed)
        for where, points in {
            "in the example": inputs.points,
            "at the origin": torch.zeros_like(inputs.points),
            "far away": FAR * inputs.points,
            "far on the other side": -FAR * inputs.points,
        }.items():
            found = case.call(model, inputs._replace(points=points))
            for name in ("density", "colour"):
                wrong = int((~getattr(found, name).isfinite()).sum())
                if wrong:
                    raise Broken(f"{wrong} numbers of the {name} are not finite {where}")
            if (found.density < 0).any():
                raise Broken(f"{int((found.density < 0).sum())} densities are negative {where}, down to "
                             f"{found.density.min():.2g}")  # fmt: skip


@law(
    "the density is the same whatever the directions, and without them (None), when no colour is asked for",
    cause="the direction is among what the density is computed from; NeRF has it after the density",
)
def density_without_directions(case: Case) -> None:
    model, inputs, other = case.build(), case.inputs(), case.inputs(seed=1)
    expected = case.call(model, inputs).density
    tolerance = case.traits.tolerance
    turned = case.call(model, inputs._replace(directions=other.directions)).density
    require_same(turned, expected, tolerance, "the density seen along other directions")
    alone = case.call(model, inputs._replace(directions=None)).density
    require_same(alone, expected, tolerance, "the density without directions")


@law(
    "a point does not depend on the others: F(π points) = π F(points), and F([a, b]) = [F(a), F(b)]",
    cause="a statistic over the points, such as a norm or a maximum, or points told apart by their number",
)
def point_consistency(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    whole = case.call(model, inputs)
    tolerance, half = case.traits.tolerance, inputs.points.shape[1] // 2
    order = torch.randperm(inputs.points.shape[1], generator=torch.Generator().manual_seed(0))
    for what, rows in {"in another order": order, "without the second half": torch.arange(half)}.items():
        found = case.call(model, type(inputs)(*(leaf[:, rows] for leaf in inputs)))
        for name in ("density", "colour"):
            require_same(getattr(found, name), getattr(whole, name)[:, rows], tolerance, f"the {name} of points {what}")


@law(
    "density and colour depend on the points, and the colour on the directions, if that is declared",
    cause="an input that is never read; a field without view dependence says `view_dependent=False`",
)
def inputs_used(case: Case) -> None:
    base, other = case.inputs(), case.inputs(seed=1)
    trials = {"the points": base._replace(points=other.points)}
    if case.traits.view_dependent:
        trials["the directions"] = base._replace(directions=other.directions)
    calling.require_influence(case, trials, base)
    model = case.build()
    if torch.equal(case.call(model, base).density, case.call(model, trials["the points"]).density):
        raise Broken("other points have the very same density")


@law(
    "the gradient of density and colour reaches the points: finite, and not zero; normals and proposals need it",
    cause="points that are rounded to cells, detached, or clamped to a box that they lie in",
)
def point_gradient(case: Case) -> None:
    if not case.traits.differentiable_points:
        raise NotApplicable("declared not differentiable in the points (`differentiable_points`)")
    model, inputs = case.build(), case.inputs()
    for name in ("density", "colour"):
        points = inputs.points.clone().requires_grad_()
        value = getattr(model(points, inputs.directions), name)
        if not value.requires_grad:
            raise Broken(f"the {name} is detached from the points and from all weights")
        weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        (found,) = torch.autograd.grad(value, points, weights, allow_unused=True)
        if found is None:
            raise Broken(f"no gradient of the {name} arrives at the points")
        if not found.isfinite().all():
            raise Broken(f"the gradient of the {name} at {int((~found.isfinite()).any(-1).sum())} points is not finite")
        if not found.any():
            raise Broken(f"the gradient of the {name} at the points is zero everywhere")


@law(
    "the gradient in points and weights is that of finite differences, in float64",
    cause="a backward written by hand, or part of the way detached or in another precision",
)
def gradcheck(case: Case) -> None:
    model, inputs = moved(case.build(), torch.float64), cast(case.inputs(batch=2), torch.float64)
    weights = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    points = inputs.points.clone().requires_grad_(case.traits.differentiable_points)
    if not (weights or points.requires_grad):
        raise NotApplicable("it has no weights, and is declared not differentiable in the points")

    def function(points: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = (points, inputs.directions)
        if not weights:
            return tuple(model(*given)[:2])
        return tuple(torch.func.functional_call(model, dict(zip(weights, values, strict=True)), given)[:2])

    try:
        torch.autograd.gradcheck(function, (points, *weights.values()), fast_mode=True, check_undefined_grad=False)
    except RuntimeError as error:  # GradcheckError, and what a backward raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Broken(" ".join(" ".join(lines[:4]).split())) from error


LAWS = (
    builds, example, samples, state.config_round_trip, state.config_untouched, density_anywhere,
    density_without_directions, calling.batch_consistency, point_consistency, calling.determinism, calling.global_rng,
    calling.inputs_untouched, calling.independent_calls, calling.memory_layout, inputs_used, point_gradient, gradcheck,
    networks.gradient_to_weights, state.dtype, state.bfloat16, state.device, state.state_dict, calling.size_one,
    calling.empty_batch,
)  # fmt: skip
