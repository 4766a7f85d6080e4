"""A right radiance field passes every check; every wrong one is caught by the checks that name it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from goembed_core.config import Config
from goembed_core.testing import Examination, RadianceFieldTraits, check_radiance_field
from torch import Tensor, nn
from torch.nn import functional as F


class Samples(NamedTuple):
    density: Tensor
    colour: Tensor | None
    features: Tensor | None = None


class Settings(Config):
    width: int = 6


class Field(nn.Module):
    """Sines of the position, one layer, density; the colour from that and the direction."""

    settings = Settings
    points = 7

    def __init__(self):
        super().__init__()
        self.config = self.settings()
        self.inner = nn.Linear(6, self.config.width)
        self.outer = nn.Linear(self.config.width, 1)
        self.seen = nn.Linear(self.config.width + 3, 3)

    def forward(self, points, directions):
        hidden = torch.tanh(self.inner(self.position(points)))
        density = self.density(hidden, points, directions)
        return Samples(density, None if directions is None else self.colour(hidden, directions))

    def position(self, points):
        return torch.cat([points.sin(), points.cos()], -1)

    def density(self, hidden, points, directions):
        return F.softplus(self.outer(hidden)[..., 0])

    def colour(self, hidden, directions):
        return torch.sigmoid(self.seen(torch.cat([hidden, directions], -1)))

    def example(self, batch_size, generator):
        points = 2 * torch.rand(batch_size, self.points, 3, generator=generator) - 1
        return points, F.normalize(torch.randn(points.shape, generator=generator), dim=-1)


CAUGHT: dict[str, tuple[type, set[str], str]] = {}  # by the mutant's name: class, failing checks, words of a message


def mutant(*checks: str, words: str = ""):
    """A broken field, the checks that fail for it, and words that one of the messages has."""

    def add(cls: type) -> type:
        CAUGHT[cls.__name__] = cls, set(checks), words
        return cls

    return add


@mutant("example", words="lengths that differ from 1")
class LongDirections(Field):
    def example(self, batch_size, generator):
        points, directions = super().example(batch_size, generator)
        return points, 2 * directions


@mutant("example", words="expected (1, N, 3) twice")
class OnePoint(Field):
    points = 1


@mutant("samples", words="the density is torch.float32 (4, 7, 1)")
class TrailingDimension(Field):
    def density(self, hidden, points, directions):
        return F.softplus(self.outer(hidden))


@mutant("samples", words="the colour is NoneType")
class WithoutColour(Field):
    def colour(self, hidden, directions):
        return None


@mutant("density_anywhere", words="densities are negative")
class NegativeDensity(Field):
    def density(self, hidden, points, directions):
        return self.outer(hidden)[..., 0]


@mutant("density_anywhere", words="not finite at the origin")
class DividedByTheDistance(Field):
    def density(self, hidden, points, directions):
        return super().density(hidden, points, directions) / points.norm(dim=-1)


@mutant("density_anywhere", words="far away")
class GrowsWithTheDistance(Field):
    def density(self, hidden, points, directions):
        return super().density(hidden, points, directions) * points.square().sum(-1).clamp(max=1e5).exp()


@mutant("density_without_directions", words="along other directions")
class DirectedDensity(Field):
    def density(self, hidden, points, directions):
        density = super().density(hidden, points, directions)
        return density if directions is None else density * (2 + directions[..., 0])


@mutant("density_without_directions", words="the density without directions")
class OtherDensityAlone(Field):
    def density(self, hidden, points, directions):
        return super().density(hidden, points, directions) * (1 if directions is None else 2)


@mutant("batch_consistency", words="no signal sees its neighbours")
class MixesTheBatch(Field):
    def density(self, hidden, points, directions):
        density = super().density(hidden, points, directions)
        return density + (0 if len(density) == 1 else 0.1 * density.mean(0, keepdim=True))


@mutant("point_consistency", words="in another order")
class CountsItsPoints(Field):
    def density(self, hidden, points, directions):
        return super().density(hidden, points, directions) * torch.linspace(1, 2, points.shape[1]).to(points)


@mutant("point_consistency", words="without the second half")
class NormalisedOverPoints(Field):
    def colour(self, hidden, directions):
        colour = super().colour(hidden, directions)
        return colour / colour.amax(1, keepdim=True).detach()


@mutant("determinism", "global_rng", words="the generator of torch")
class Jittered(Field):
    def position(self, points):
        return super().position(points) + 1e-2 * torch.randn(points.shape[1], 1)


@mutant("inputs_used", words="the directions give the very same output")
class BlindToDirections(Field):
    def colour(self, hidden, directions):
        return torch.sigmoid(self.seen(torch.cat([hidden, torch.ones_like(directions)], -1)))


@mutant("inputs_used", "point_gradient", words="other points have the very same density")
class SameEverywhere(Field):
    def density(self, hidden, points, directions):
        return F.softplus(self.outer(torch.ones_like(hidden))[..., 0])


@mutant("point_gradient", "gradcheck", words="no gradient of the density arrives at the points")
class DetachedPoints(Field):
    def position(self, points):
        return super().position(points.detach())


@mutant("point_gradient", words="is zero everywhere")
class Rounded(Field):
    def position(self, points):
        return super().position((points * 8).round() / 8)


@mutant("gradcheck", words="Jacobian mismatch")
class HalfTheGradient(Field):
    def density(self, hidden, points, directions):
        density = super().density(hidden, points, directions)
        return 0.5 * density + 0.5 * density.detach()


@mutant("gradcheck", words="Jacobian mismatch")
class SinglePrecisionInside(Field):
    def density(self, hidden, points, directions):
        return F.softplus(self.outer(hidden)[..., 0].float()).to(points)


@mutant("gradient_to_weights", words="no gradient at unused")
class UnusedWeight(Field):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


@mutant("inputs_untouched")
class Normalises(Field):
    def forward(self, points, directions):
        points.clamp_(-0.5, 0.5)
        return super().forward(points, directions)


@mutant("dtype", "gradcheck", words="torch.float64 in, torch.float32 out")
class SinglePrecision(Field):
    def density(self, hidden, points, directions):
        return super().density(hidden, points, directions).float()


@mutant("device", words="stayed on the CPU")
class ConstantOnTheCpu(Field):
    def position(self, points):
        return super().position(points) * torch.ones(6)


@mutant("state_dict", words="with the same state, another one")
class ForgetsItsShift(Field):
    def __init__(self):
        super().__init__()
        self.shift = torch.rand(1).item()

    def density(self, hidden, points, directions):
        return F.softplus(self.outer(hidden)[..., 0] + self.shift)


@mutant("independent_calls")
class KeepsTheFirst(Field):
    kept = None

    def position(self, points):
        if self.kept is None or self.kept.shape[:-1] != points.shape[:-1] or points.requires_grad:
            self.kept = super().position(points)
        return self.kept


@mutant("empty_batch")
class NeedsPoints(Field):
    def position(self, points):
        if not points.numel():
            raise ValueError("no points")
        return super().position(points)


def test_a_right_field_passes(failures):
    assert failures("radiance-field", Field) == {}
    assert {result.status for result in check_radiance_field(Field)} == {"passed"}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_wrong_field_is_caught(name, failures):
    cls, checks, words = CAUGHT[name]
    found = failures("radiance-field", cls)
    assert found.keys() >= checks, found.keys()
    assert words in " ".join(found.values())


def test_every_law_of_its_own_has_a_field_that_breaks_it():
    """The laws that other kinds share are broken in their tests."""
    broken = set().union(*(checks for _, checks, _ in CAUGHT.values()))
    shared = {"builds", "config_round_trip", "config_untouched", "memory_layout", "bfloat16", "size_one"}
    assert set(Examination("radiance-field", Field).names) - shared <= broken


def test_what_is_declared_is_checked(failures):
    plain = RadianceFieldTraits(view_dependent=False)
    assert failures("radiance-field", CAUGHT["BlindToDirections"][0], traits=plain) == {}
    stepped = RadianceFieldTraits(differentiable_points=False)
    found = Examination("radiance-field", CAUGHT["Rounded"][0], traits=stepped).result("point_gradient")
    assert found.status == "skipped" and "differentiable_points" in found.message


def test_a_field_without_weights_is_checked(failures):
    class Ball:
        """No module: a ball around the origin."""

        def __call__(self, points, directions):
            density = (-points.square().sum(-1)).exp()
            return Samples(density, None if directions is None else 0.5 + 0.25 * (points.sin() + directions))

        example = Field.example
        points = 5

    assert failures("radiance-field", Ball) == {}
