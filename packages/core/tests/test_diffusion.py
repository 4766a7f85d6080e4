"""Diffusion with forward models against cases with a known answer."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from goembed_core.diffusion import DFM, Look, SamplingStep, Split, dynamic_threshold, split_views
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from torch import Tensor, nn

MEAN, STD = 0.3, 0.5


class Gain(NamedTuple):
    """φ: what the signal is multiplied by."""

    factor: Tensor


class Scale(nn.Module):
    """`O = factor · S`, the simplest linear forward model."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, signal: Tensor, params: Gain) -> Tensor:
        self.calls += 1
        return signal[:, None] * params.factor[..., None]


class GaussianDenoiser(nn.Module):
    """The optimal estimate of `S ~ N(MEAN, STD²)` from `O_t = √ᾱ factor · S + √(1−ᾱ) ε`, in closed form."""

    def __init__(self, schedule: NoiseSchedule):
        super().__init__()
        self.alphas_cumprod = schedule.scheduler.alphas_cumprod.double()
        self.batches = []

    def forward(self, context: Observations, noisy_target: Observations, timestep: Tensor) -> Tensor:
        self.batches.append(len(timestep))
        abar = self.alphas_cumprod[timestep.long()][:, None]
        gain = noisy_target.params.factor[:, 0, None].double() * abar.sqrt()
        precision = gain**2 / (1 - abar) + 1 / STD**2
        estimate = (gain * noisy_target.values[:, 0].double() / (1 - abar) + MEAN / STD**2) / precision
        return estimate.float() + 0.0 * context.values[:, 0, :1]


def gain(batch: int, *factors: float) -> Gain:
    return Gain(torch.tensor(factors).expand(batch, -1))


def empty_context(batch: int) -> Observations:
    return Observations(torch.ones(batch, 1, 1), gain(batch, 1.0))


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++", "unipc", "ddpm"])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_samplers_recover_a_gaussian(name, factor):
    """With the exact denoiser every sampler returns samples of the true distribution, whatever the forward model."""
    schedule = NoiseSchedule()
    denoiser = GaussianDenoiser(schedule)
    dfm = DFM(Scale(), denoiser, schedule)
    batch = 2000
    random = ItemRandom(0, range(batch))
    config = SamplerConfig(name=name, num_steps=100)
    sample = dfm.sample(empty_context(batch), gain(batch, factor), (1, 1), config, random)
    assert sample.signal.mean().item() == pytest.approx(MEAN, abs=4 * STD / math.sqrt(batch))
    assert sample.signal.std().item() == pytest.approx(STD, rel=0.06)
    assert torch.allclose(sample.observation, factor * sample.signal[:, None])
    assert denoiser.batches == [batch] * 100  # the denoiser is called once a step


def test_a_sample_belongs_to_its_item_not_to_its_batch():
    schedule = NoiseSchedule()
    dfm = DFM(Scale(), GaussianDenoiser(schedule), schedule)
    for name in ("unipc", "ddpm"):
        config = SamplerConfig(name=name, num_steps=5)
        whole = dfm.sample(empty_context(4), gain(4, 1.0), (1, 1), config, ItemRandom(0, range(4)))
        alone = dfm.sample(empty_context(1), gain(1, 1.0), (1, 1), config, ItemRandom(0, [2]))
        assert torch.allclose(whole.signal[2:3], alone.signal, atol=1e-6)


class Recorder(nn.Module):
    """A denoiser of a learnt constant that keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(1))

    def forward(self, context: Observations, noisy_target: Observations, timestep: Tensor) -> Tensor:
        self.seen = (context, noisy_target, timestep)
        return self.constant + context.values[:, 0] * 0.5


def test_losses_are_equations_8_and_9():
    """Targets and novel views are scored by the same signal; the forward model is called once for all of them."""
    batch = 6
    forward_model, denoiser = Scale(), Recorder()
    dfm = DFM(forward_model, denoiser, NoiseSchedule())
    context = Observations(torch.randn(batch, 1, 1), gain(batch, 1.0))
    target = Observations(torch.randn(batch, 2, 1), gain(batch, 1.0, 3.0))
    novel = Observations(torch.randn(batch, 1, 1), gain(batch, 2.0))
    terms = dfm.losses(Split(context, target, novel), ItemRandom(0, range(batch)))
    signal = context.values[:, 0] * 0.5
    expected_target = (signal[:, None] * torch.tensor([1.0, 3.0])[None, :, None] - target.values).square().mean()
    expected_novel = (signal[:, None] * 2.0 - novel.values).square().mean()
    assert torch.allclose(terms.losses["target"], expected_target)
    assert torch.allclose(terms.losses["novel"], expected_novel)
    assert forward_model.calls == 1
    sum(terms.losses.values()).backward()
    assert denoiser.constant.grad.abs() > 0


def test_only_the_target_is_noised():
    batch = 4
    schedule, denoiser = NoiseSchedule(), Recorder()
    target = Observations(torch.ones(batch, 1, 8), gain(batch, 1.0))
    context = Observations(torch.full((batch, 1, 8), 0.25), gain(batch, 1.0))
    random = ItemRandom(0, range(batch))
    DFM(Scale(), denoiser, schedule).losses(Split(context, target), random)
    seen_context, noisy, t = denoiser.seen
    abar = schedule.scheduler.alphas_cumprod[t].view(-1, 1, 1)
    noise = (noisy.values - abar.sqrt()) / (1 - abar).sqrt()
    assert torch.equal(seen_context.values, context.values)
    assert noise.std() == pytest.approx(1, abs=0.4)
    again = ItemRandom(0, range(batch))
    DFM(Scale(), denoiser, schedule).losses(Split(context, target), again)
    assert torch.equal(denoiser.seen[1].values, noisy.values)


def test_what_is_scored_may_differ_from_what_is_noised():
    batch = 3
    denoiser = Recorder()
    crop = lambda observations, random: observations._replace(values=observations.values[..., :1])  # noqa: E731
    dfm = DFM(Scale(), denoiser, NoiseSchedule(), scored=crop)
    context = Observations(torch.zeros(batch, 1, 1), gain(batch, 1.0))
    target = Observations(torch.arange(4.0).expand(batch, 1, 4), gain(batch, 1.0))
    terms = dfm.losses(Split(context, target), ItemRandom(0, range(batch)))
    assert denoiser.seen[1].values.shape == (batch, 1, 4)
    assert terms.losses["target"] == 0  # the first of 0 1 2 3


def test_shifted_timesteps_have_the_density_of_the_shift():
    random = ItemRandom(0, range(40_000))
    for shift in (0.5, 2.0, 3.0):
        t = NoiseSchedule(ScheduleConfig(timestep_shift=shift)).draw_timesteps(random)
        assert t.min() >= 0 and t.max() <= 999 and t.dtype == torch.int64
        for level in (0.25, 0.5, 0.75):  # P(t < level T) = u(level), the inverse of t(u)
            expected = level / (shift - (shift - 1) * level)
            assert (t < level * 1000).double().mean().item() == pytest.approx(expected, abs=0.01)


def test_regularisers_are_added():
    dfm = DFM(
        Scale(), Recorder(), NoiseSchedule(), regularise=lambda signal, scored, estimates: {"size": signal.abs().mean()}
    )
    target = Observations(torch.ones(2, 1, 1), gain(2, 1.0))
    context = Observations(torch.full((2, 1, 1), 4.0), gain(2, 1.0))
    losses = dfm.losses(Split(context, target), ItemRandom(0, range(2))).losses
    assert losses["size"] == 2.0 and "novel" not in losses


def test_regularisers_see_all_that_was_scored_and_its_estimates():
    given = []
    dfm = DFM(Scale(), Recorder(), NoiseSchedule(), regularise=lambda *what: given.append(what) or {})
    context, target, novel = (Observations(torch.full((2, 1, 1), x), gain(2, x)) for x in (1.0, 2.0, 3.0))
    dfm.losses(Split(context, target, novel), ItemRandom(0, range(2)))
    ((signal, scored, estimates),) = given
    assert scored["target"] is target and scored["novel"] is novel
    for name, part in scored.items():
        assert torch.equal(estimates[name], Scale()(signal, part.params))


def test_a_training_step_may_look_in_its_own_way_and_add_terms_of_that():
    """What is looked at is all that is scored, side by side; what is seen is compared, and its terms are added."""
    given = []

    def look(signal, scored, random):
        given.append(scored)
        return Look(Scale()(signal, scored.params) + 1, {"rays": torch.tensor(0.25)})

    context, target, novel = (Observations(torch.full((2, 1, 1), x), gain(2, x)) for x in (1.0, 2.0, 3.0))
    split, random = Split(context, target, novel), ItemRandom(0, range(2))
    estimates = {}
    dfm = DFM(Scale(), Recorder(), NoiseSchedule(), look=look, regularise=lambda s, o, e: estimates.update(e) or {})
    losses = dfm.losses(split, random).losses
    assert losses.keys() == {"target", "novel", "rays"} and losses["rays"] == 0.25
    assert given[0].values.flatten(1).tolist() == [[2.0, 3.0]] * 2
    plain = {}
    DFM(Scale(), Recorder(), NoiseSchedule(), regularise=lambda s, o, e: plain.update(e) or {}).losses(
        split, ItemRandom(0, range(2))
    )
    for name in ("target", "novel"):
        assert torch.equal(estimates[name], plain[name] + 1)
        error = estimates[name] - {"target": 2.0, "novel": 3.0}[name]
        assert torch.equal(losses[name], error.square().mean())


def test_signals_may_be_guided_in_their_own_way():
    """`guide` is given the conditional signal, the unconditional one and `w`, and what it gives is observed."""
    given = []

    def guide(conditional, unconditional, scale):
        given.append((conditional, unconditional, scale))
        return 7 * torch.ones_like(conditional)

    dfm = DFM(Scale(), HalfContext(), NoiseSchedule(), guide=guide)
    context, noisy = (
        Observations(torch.full((3, 1, 2), 4.0), gain(3, 1.0)),
        Observations(torch.ones(3, 1, 2), gain(3, 2.0)),
    )
    found = dfm.estimate(context, noisy, torch.zeros(3, dtype=torch.int64), guidance_scale=2.0)
    ((conditional, unconditional, scale),) = given
    assert scale == 2.0 and not torch.equal(conditional, unconditional) and not unconditional.any()
    assert torch.equal(found.observation, Scale()(found.signal, noisy.params)) and (found.signal == 7).all()


def test_context_dropout_hides_whole_contexts_at_the_rate():
    denoiser = Recorder()
    dfm = DFM(Scale(), denoiser, NoiseSchedule(), context_dropout=0.25)
    batch = 400
    context = Observations(torch.ones(batch, 1, 3), gain(batch, 1.0))
    dfm.losses(Split(context, Observations(torch.ones(batch, 1, 3), gain(batch, 1.0))), ItemRandom(0, range(batch)))
    values = denoiser.seen[0].values
    assert torch.equal(values.amin((1, 2)), values.amax((1, 2)))
    assert values[:, 0, 0].eq(0).float().mean().item() == pytest.approx(0.25, abs=0.07)


class HalfContext(nn.Module):
    """A denoiser that returns its context's value."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, context, noisy_target, timestep):
        self.batches.append(len(timestep))
        return context.values[:, 0]


def test_guidance_extrapolates_the_signal_in_one_call():
    """`S = S_u + w (S_c − S_u)`, and the guided signal is the one that is shown."""
    denoiser = HalfContext()
    dfm = DFM(Scale(), denoiser, NoiseSchedule())
    context = Observations(torch.full((2, 1, 1), 0.4), gain(2, 1.0))
    config = SamplerConfig(name="ddim", num_steps=3, guidance_scale=2.0)
    sample = dfm.sample(context, gain(2, 1.0), (1, 1), config, ItemRandom(0, range(2)))
    assert torch.allclose(sample.signal, torch.full((2, 1), 0.8))
    assert torch.allclose(sample.observation[:, 0], sample.signal)
    assert denoiser.batches == [4, 4, 4]


def test_autoregressive_samples_become_context():
    views = []

    class Counter(nn.Module):
        def forward(self, context, noisy_target, timestep):
            views.append(context.values.shape[1])
            return context.values.mean(1)

    dfm = DFM(Scale(), Counter(), NoiseSchedule())
    context = Observations(torch.ones(2, 1, 1), gain(2, 1.0))
    config = SamplerConfig(name="ddim", num_steps=2)
    sample = dfm.sample_autoregressive(context, gain(2, 2.0, 4.0), (2, 1), config, ItemRandom(0, range(2)))
    assert views == [1, 1, 2, 2]
    # The first view shows 1 · 2; the second the mean of 1 and 2, times 4.
    assert torch.allclose(sample.observation, torch.tensor([[2.0], [6.0]]).expand(2, 2, 1))
    assert torch.allclose(sample.signal, torch.full((2, 1), 1.5))


def test_callback_sees_every_step():
    schedule = NoiseSchedule()
    dfm = DFM(Scale(), GaussianDenoiser(schedule), schedule)
    steps: list[SamplingStep] = []
    config = SamplerConfig(name="unipc", num_steps=4)
    sample = dfm.sample(empty_context(2), gain(2, 1.0), (1, 1), config, ItemRandom(0, range(2)), steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3] and steps[0].num_steps == 4
    assert steps[0].timestep[0] > steps[-1].timestep[0]
    assert torch.equal(steps[-1].signal, sample.signal)  # the last network output is the sample


def test_dynamic_threshold_rescales_only_items_past_one():
    estimate = torch.stack([torch.linspace(-0.5, 0.5, 101), torch.linspace(-4, 4, 101)])
    limited = dynamic_threshold(estimate, 0.95)
    assert torch.equal(limited[0], estimate[0])
    bound = torch.quantile(estimate[1].abs(), 0.95)
    assert torch.allclose(limited[1], estimate[1].clamp(-bound, bound) / bound)
    assert limited.abs().max() == 1


def test_split_views_draws_without_replacement():
    batch, views = 64, 5
    values = torch.arange(views).float().expand(batch, views)[..., None]
    observations = Observations(values, Gain(values[..., 0]))
    split = split_views(observations, 2, 1, 2, ItemRandom(0, range(batch)))
    drawn = torch.cat([part.values[..., 0] for part in split], 1)
    assert torch.equal(drawn.sort(1).values, values[..., 0])
    assert torch.equal(split.context.values[..., 0], split.context.params.factor)  # φ moves with its value
    assert drawn[:, 0].unique().numel() == views
    assert split_views(observations, 1, 1, 0, ItemRandom(0, range(batch))).novel is None
    with pytest.raises(
        ValueError, match="3 context \\+ 2 target \\+ 1 novel observations wanted of each signal, which has 5"
    ):
        split_views(observations, 3, 2, 1, ItemRandom(0, range(batch)))


def test_loss_weight_follows_the_signal_to_noise_ratio():
    t = torch.tensor([0, 500, 999])
    assert torch.equal(NoiseSchedule().loss_weight(t), torch.ones(3))
    schedule = NoiseSchedule(ScheduleConfig(loss_weighting="snr", snr_cap=50))
    abar = schedule.scheduler.alphas_cumprod[t]
    expected = (abar / (1 - abar)).clamp(1, 50)
    assert torch.allclose(schedule.loss_weight(t), expected, rtol=1e-3)
    assert schedule.loss_weight(t)[0] == 50 and schedule.loss_weight(t)[2] == 1


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps(steps):
    with pytest.raises(UserError, match=f"num_steps={steps}: a sampler takes between 1 and 1000 steps"):
        NoiseSchedule().sampler("ddim", steps)


def test_training_finds_a_linear_gaussian_posterior():
    """S ~ N(0, I₂), the context shows s₁ + noise, targets are projections: samples have the posterior's moments."""
    noise_std = 0.5

    class Project(nn.Module):
        def forward(self, signal, params):
            return torch.einsum("bd,bvd->bv", signal, params.factor)[..., None]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))

        def forward(self, context, noisy_target, timestep):
            t, direction = timestep[:, None] * (torch.pi / 2000), noisy_target.params.factor[:, 0]
            back_projected = noisy_target.values[:, 0] * direction
            inputs = [context.values[:, 0], back_projected, direction, t, t.sin(), t.cos()]
            return self.layers(torch.cat(inputs, 1))

    torch.manual_seed(0)
    dfm = DFM(Project(), Net(), NoiseSchedule(ScheduleConfig(loss_weighting="snr")))
    optimizer = torch.optim.Adam(dfm.parameters(), 2e-3)
    batch, steps = 512, 2000
    generator = torch.Generator().manual_seed(0)

    def direction(angle: Tensor) -> Gain:
        return Gain(torch.stack([angle.cos(), angle.sin()], -1)[:, None])

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        signal = torch.randn(batch, 2, generator=generator)
        first = direction(torch.zeros(batch))
        seen = signal[:, :1, None] + noise_std * torch.randn(batch, 1, 1, generator=generator)
        angles = [direction(torch.pi * torch.rand(batch, generator=generator)) for _ in range(2)]
        views = [Observations(dfm.forward_model(signal, phi), phi) for phi in angles]
        terms = dfm.losses(Split(Observations(seen, first), *views), _Batch(batch, generator))
        optimizer.zero_grad()
        sum(terms.losses.values()).backward()
        optimizer.step()

    count, shown = 2000, 1.0
    context = Observations(torch.full((count, 1, 1), shown), direction(torch.zeros(count)))
    observed = {}
    for name, angle in {"s1": 0.0, "s2": torch.pi / 2}.items():
        phi = direction(torch.full((count,), angle))
        sample = dfm.sample(
            context, phi, (1, 1), SamplerConfig(name="unipc", num_steps=20), ItemRandom(1, range(count))
        )
        observed[name] = sample.observation[:, 0, 0]
    gain_ = 1 / (1 + noise_std**2)
    assert observed["s1"].mean().item() == pytest.approx(gain_ * shown, abs=0.08)
    assert observed["s1"].std().item() == pytest.approx(math.sqrt(1 - gain_), rel=0.15)
    assert observed["s2"].mean().item() == pytest.approx(0, abs=0.1)
    assert observed["s2"].std().item() == pytest.approx(1, rel=0.15)


class _Batch:
    """The random numbers of a whole batch at once: what `ItemRandom` draws, without a stream per item."""

    def __init__(self, batch: int, generator: torch.Generator):
        self.batch, self.generator = batch, generator

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(self.batch, *shape, generator=self.generator)

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (self.batch, *shape), generator=self.generator)
