"""Right denoisers and encoders pass every check; every wrong one is caught by the checks that name it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from goembed_core.config import Config
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.testing import DenoiserTraits, EncoderTraits, Examination
from torch import Tensor, nn


class Weight(NamedTuple):
    weight: Tensor  # (B, V)


def observe(batch_size: int, views: int, generator: torch.Generator) -> Observations:
    values = torch.randn(batch_size, views, 1, 3, 3, generator=generator)
    return Observations(values, Weight(torch.rand(batch_size, views, generator=generator) + 0.5))


def pooled(observations: Observations) -> Tensor:
    """A weighted mean over the views, `(B, 9)`."""
    weight = observations.params.weight
    weight = weight / weight.sum(1, keepdim=True)
    return torch.einsum("bv,bvchw->bchw", weight, observations.values).reshape(len(weight), 9)


def require(observations: Observations, batch: int, name: str) -> None:
    shape = tuple(observations.values.shape)
    if len(shape) != 5 or shape[0] != batch or shape[:2] != tuple(observations.params.weight.shape):
        raise UserError(f"{name} of shape {shape}, expected ({batch}, V, 1, 3, 3)")


class Settings(Config):
    size: int = 8


class Denoise(nn.Module):
    """Pooled context and target through a small network that starts at zero."""

    conformance = DenoiserTraits(uses_params=True, context_is_a_set=True)
    hidden = 8

    def __init__(self):
        super().__init__()
        self.config = Settings()
        self.inner = nn.Linear(19, self.hidden)
        self.outer = nn.Linear(self.hidden, 4)
        nn.init.zeros_(self.outer.weight)

    def forward(self, context, noisy_target, timestep):
        if timestep.dim() != 1:
            raise UserError(f"timestep of shape {tuple(timestep.shape)}, expected (B,)")
        require(context, len(timestep), "context")
        require(noisy_target, len(timestep), "target")
        return self.denoise(context, noisy_target, timestep)

    def denoise(self, context, noisy_target, timestep):
        parts = [pooled(context), pooled(noisy_target), self.time(timestep, context.values.dtype)]
        return self.outer(torch.tanh(self.inner(torch.cat(parts, 1))))

    def time(self, timestep, dtype):
        return timestep[:, None].to(dtype) / 100

    def example(self, batch_size, generator):
        timestep = torch.randperm(100, generator=generator)[:batch_size]
        return observe(batch_size, 3, generator), observe(batch_size, 1, generator), timestep


class Encode(nn.Module):
    """Pooled observations and time through one layer."""

    conformance = EncoderTraits(uses_timestep=True, observations_are_a_set=True)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 4)

    def forward(self, observations, timestep=None):
        batch = len(observations.params.weight)
        require(observations, batch, "observations")
        if timestep is not None and timestep.shape != (batch,):
            raise UserError(f"timestep of shape {tuple(timestep.shape)}, expected ({batch},)")
        return self.encode(observations, timestep)

    def encode(self, observations, timestep):
        return self.linear(torch.cat([pooled(observations), timestep[:, None].to(observations.values.dtype) / 100], 1))

    def example(self, batch_size, generator):
        return observe(batch_size, 4, generator), torch.randperm(100, generator=generator)[:batch_size]


CAUGHT: dict[str, tuple[type, set[str], str]] = {}  # by the mutant's name: class, failing checks, words of a message


def mutant(*checks: str, words: str = ""):
    """A broken network, the checks that fail for it, and words that one of the messages has."""

    def add(cls: type) -> type:
        CAUGHT[cls.__name__] = cls, set(checks), words
        return cls

    return add


@mutant("batch_consistency", words="BatchNorm")
class TrainsOnTheBatch(Denoise):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(9, affine=False)

    def denoise(self, context, noisy_target, timestep):
        values = self.norm(pooled(noisy_target)) if len(timestep) else pooled(noisy_target)
        return super().denoise(context, noisy_target, timestep) + values[:, :4]


@mutant("batch_consistency", "determinism", "global_rng", words="a second call in training mode")
class Dropout(Denoise):
    def denoise(self, context, noisy_target, timestep):
        return nn.functional.dropout(super().denoise(context, noisy_target, timestep), 0.5, self.training)


@mutant("batch_consistency", words="one item's parameters used for all")
class FirstTimestep(Denoise):
    def time(self, timestep, dtype):
        return super().time(timestep[:1].expand_as(timestep), dtype)


@mutant("timestep_used", words="other values of the timestep give the very same output")
class IgnoresTime(Denoise):
    def time(self, timestep, dtype):
        return super().time(torch.zeros_like(timestep), dtype)


@mutant("timestep_dtype", words="IndexError")
class TimeTable(Denoise):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.linspace(0, 1, 100))

    def time(self, timestep, dtype):
        return self.table[timestep][:, None].to(dtype)


@mutant("values_used", "params_used", words="other values of the values of context give the very same output")
class IgnoresContext(Denoise):
    conformance = DenoiserTraits(uses_params=True)

    def denoise(self, context, noisy_target, timestep):
        noisy_target = noisy_target._replace(params=Weight(torch.ones_like(noisy_target.params.weight)))
        context = context._replace(values=torch.zeros_like(context.values))
        return super().denoise(context, noisy_target, timestep)


@mutant("set_of_views", words="told apart by their number")
class OrderedViews(Denoise):
    def denoise(self, context, noisy_target, timestep):
        return super().denoise(context._replace(values=context.values.cumsum(1)), noisy_target, timestep)


@mutant("gradient_to_weights", words="no gradient at unused.weight, unused.bias")
class UnusedLayer(Denoise):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)


@mutant("gradient_to_weights", words="no gradient at inner.weight, inner.bias")
class DetachedLayer(Denoise):
    def denoise(self, context, noisy_target, timestep):
        parts = [pooled(context), pooled(noisy_target), self.time(timestep, context.values.dtype)]
        return self.outer(torch.tanh(self.inner(torch.cat(parts, 1)).detach()))


@mutant("shape_errors", words="a context of 1 signals for 5: accepted, and gave (5, 4)")
class BroadcastsContext(Denoise):
    def forward(self, context, noisy_target, timestep):
        require(context, len(context.values), "context")
        require(noisy_target, len(noisy_target.values), "target")
        if timestep.dim() != 1 or len(timestep) != len(noisy_target.values):
            raise UserError(f"timestep of shape {tuple(timestep.shape)}, expected (B,)")
        if len(context.values) not in (1, len(timestep)):
            raise UserError(f"{len(context.values)} contexts")
        values = context.values.expand(len(timestep), -1, -1, -1, -1)
        weight = context.params.weight.expand(len(timestep), -1)
        return self.denoise(Observations(values, Weight(weight)), noisy_target, timestep)


@mutant("shape_errors", words="a traceback, RuntimeError")
class TorchTraceback(Denoise):
    def forward(self, context, noisy_target, timestep):
        return self.denoise(context, noisy_target, timestep)


@mutant("output", words="the output is a dict")
class GivesDict(Denoise):
    def denoise(self, context, noisy_target, timestep):
        return {"signal": super().denoise(context, noisy_target, timestep)}


@mutant("dtype", words="torch.float64 in, torch.float32 out")
class SinglePrecision(Denoise):
    def denoise(self, context, noisy_target, timestep):
        return super().denoise(context, noisy_target, timestep).float()


@mutant("device", words="stayed on the CPU")
class StrayPositions(Denoise):
    def __init__(self):
        super().__init__()
        self.positions = torch.linspace(0, 1, 4)

    def denoise(self, context, noisy_target, timestep):
        output = super().denoise(context, noisy_target, timestep)
        return output + self.positions.to(output.dtype)


@mutant("inputs_untouched", words="noisy_target.values holds other values after the call")
class WritesToTarget(Denoise):
    def denoise(self, context, noisy_target, timestep):
        noisy_target.values.mul_(2)
        return super().denoise(context, noisy_target, timestep)


@mutant("independent_calls", "values_used", "params_used",
        words="a call with another context, against the first of its kind")  # fmt: skip
class KeepsContext(Denoise):
    """A cache of the context, whose key is the timestep and the target."""

    def denoise(self, context, noisy_target, timestep):
        if torch.is_grad_enabled() or timestep.is_meta:
            return super().denoise(context, noisy_target, timestep)
        key = tuple(timestep.tolist()), float(noisy_target.values.sum()), context.values.dtype
        kept = self.__dict__.setdefault("kept", {}).setdefault(key, context)
        return super().denoise(kept, noisy_target, timestep)


@mutant("example", words="timestep of example(4) is [7, 7, 7, 7]: signals need different ones")
class OneTime(Denoise):
    def example(self, batch_size, generator):
        return *super().example(batch_size, generator)[:2], torch.full((batch_size,), 7)


@mutant("example", words="context is a Tensor, expected Observations(values, params)")
class BareContext(Denoise):
    def example(self, batch_size, generator):
        context, *rest = super().example(batch_size, generator)
        return context.values, *rest


@mutant("empty_batch", words="ZeroDivisionError")
class DividesByBatch(Denoise):
    def denoise(self, context, noisy_target, timestep):
        return super().denoise(context, noisy_target, timestep) * (len(timestep) / len(timestep))


@mutant("params_used", words="other values of φ give the very same output")
class EncoderIgnoresParams(Encode):
    def encode(self, observations, timestep):
        same = Weight(torch.ones_like(observations.params.weight))
        return super().encode(observations._replace(params=same), timestep)


@mutant("timestep_used", words="the timestep, or its embedding, is never read")
class EncoderIgnoresTime(Encode):
    def encode(self, observations, timestep):
        return super().encode(observations, torch.zeros_like(timestep))


@mutant("batch_consistency", words="a statistic over the batch")
class EncoderNormalises(Encode):
    def encode(self, observations, timestep):
        features = super().encode(observations, timestep)
        return features - features.mean() if len(features) else features


@mutant("set_of_views", words="views in reverse")
class EncoderLastView(Encode):
    def encode(self, observations, timestep):
        return super().encode(observations, timestep) + observations.values[:, -1, 0, 0, :1]


@mutant("gradient_to_weights", words="the output is detached from all weights")
class EncoderWithoutGradient(Encode):
    @torch.no_grad()
    def encode(self, observations, timestep):
        return super().encode(observations, timestep)


@mutant("output", words="4 signals give (16, 4)")
class EncoderFlattens(Encode):
    def encode(self, observations, timestep):
        return super().encode(observations, timestep).repeat(4, 1)


@mutant("shape_errors", words="timesteps of shape (5, 1): accepted")
class EncoderReshapesTime(Encode):
    def forward(self, observations, timestep=None):
        return super().forward(observations, timestep.reshape(-1))


def setup(name):
    """Kind, factory and options of a mutant."""
    cls = CAUGHT[name][0]
    return ("encoder" if issubclass(cls, Encode) else "denoiser"), cls, {}


@pytest.mark.parametrize(("kind", "cls"), [("denoiser", Denoise), ("encoder", Encode)])
def test_a_right_one_passes(kind, cls):
    results = Examination(kind, cls).results()
    assert {r.name: r.message for r in results if r.status not in ("passed", "skipped")} == {}
    skipped = [r.name for r in results if r.status == "skipped"]
    assert skipped == ["config_round_trip", "config_untouched"] * (kind == "encoder") + ["compiles", "vmaps"]


def test_dropout_that_is_declared_passes():
    traits = DenoiserTraits(uses_params=True, context_is_a_set=True, stochastic_training=True)
    results = Examination("denoiser", Dropout, traits=traits).results()
    assert [r.message for r in results if r.status == "failed"] == []


@pytest.mark.parametrize("name", CAUGHT)
def test_a_wrong_one_is_caught_by_name(name, failures):
    kind, factory, options = setup(name)
    _, checks, words = CAUGHT[name]
    failed = failures(kind, factory, **options)
    assert set(failed) == checks
    assert any(words in message for message in failed.values()), "\n".join(failed.values())
