"""Diffusion with forward models (DFM, Tewari et al. 2023): denoise the observation *through* the forward model.

The denoiser never sees a signal.  It predicts one, and the estimate of the clean observation is what the forward model
shows of it, so every step of the reverse process is consistent with some signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from goembed_core.config.solvers import SamplerConfig
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_core.trees import concatenate, select_views, tree_map


class Split(NamedTuple):
    """The roles that the observations of one batch of signals play in a training step."""

    context: Observations  # what is known: clean, given to the denoiser
    target: Observations  # what is noised, and estimated (eq. 8)
    novel: Observations | None = None  # what the same signal must explain too (eq. 9)


class Terms(NamedTuple):
    """The terms of a loss, each a scalar mean over the items, and statistics worth logging."""

    losses: dict[str, Tensor]
    statistics: dict[str, Tensor] = {}  # noqa: RUF012 - never written to


class Sample(NamedTuple):
    """A sample of `p(S | O_ctxt)` and what the forward model shows of it at the target's `φ`."""

    signal: Any
    observation: Tensor  # (B, V, *observation)


class SamplingStep(NamedTuple):
    """What a callback sees after every evaluation of the denoiser."""

    index: int
    num_steps: int
    timestep: Tensor
    signal: Any
    estimate: Tensor  # Ô_0, (B, V, *observation)


class Look(NamedTuple):
    """What a training step sees of a signal under the scored `φ`, and further terms that only the looking can give."""

    values: Tensor  # (B, V, *observation)
    losses: dict[str, Tensor] = {}  # noqa: RUF012 - never written to


Scored = Callable[[Observations, ItemRandom], Observations]
Looking = Callable[[Any, Observations, ItemRandom], Look]
Regulariser = Callable[[Any, dict[str, Observations], dict[str, Tensor]], dict[str, Tensor]]


def everything(observations: Observations, random: ItemRandom) -> Observations:
    """Score what was noised, whole; a renderer scores random patches of rays instead."""
    return observations


def no_regularisers(signal: Any, scored: dict[str, Observations], estimates: dict[str, Tensor]) -> dict[str, Tensor]:
    """Only the terms of eqs. 8 and 9."""
    return {}


def squared_error(estimate: Float[Tensor, "batch ..."], values: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Mean squared error of each item."""
    return (estimate.float() - values.float()).square().flatten(1).mean(1)


def extrapolate(conditional: Any, unconditional: Any, scale: float) -> Any:
    """Guidance on the signal: `S = S_u + w (S_c − S_u)`, leaf by leaf."""
    return tree_map(lambda c, u: torch.lerp(u, c, scale), conditional, unconditional)


def split_views(
    observations: Observations, num_context: int, num_target: int, num_novel: int, random: ItemRandom
) -> Split:
    """Draw which of each signal's `V` observations are context, target and novel, without replacement."""
    available = observations.values.shape[1]
    if num_context + num_target + num_novel > available:
        raise ValueError(
            f"{num_context} context + {num_target} target + {num_novel} novel observations wanted of each signal, "
            f"which has {available}"
        )
    order = random.rand(available).argsort(1)
    items = torch.arange(len(order), device=order.device)[:, None]
    shuffled = tree_map(lambda leaf: leaf[items, order.to(leaf.device)], observations)
    ends = (num_context, num_context + num_target, num_context + num_target + num_novel)
    context, target, novel = (select_views(shuffled, slice(a, b)) for a, b in zip((0, *ends[:-1]), ends, strict=True))
    return Split(context, target, novel if num_novel else None)


class DFM(nn.Module):
    """Diffusion with a forward model: the training step and the sampler.

    **Arguments:**
    - `forward_model`: `O = forward(S, φ)`.
    - `denoiser`: `S = denoise(O_ctxt, O_t_trgt; t, φ)`.
    - `schedule`: the noise schedule.
    - `context_dropout`: probability with which an item's context is replaced by zeros in training, for guidance.
    - `scored`: what of the target and novel observations is compared; what is noised is always the whole target.
    - `look`: how a training step looks at a signal (eq. 5) where it needs more than the observation: random samples of
      rays, or terms of the rays themselves; left out, `forward_model`.  It is given all that is scored, side by side.
    - `guide`: the guided signal from the conditional one, the unconditional one and `w`; left out, leaf by leaf.
    - `regularise`: further terms of a task, from the signal, and from what was scored (`target`, `novel`) and its
      estimates, by name.
    """

    def __init__(
        self,
        forward_model: nn.Module,
        denoiser: nn.Module,
        schedule: NoiseSchedule,
        *,
        context_dropout: float = 0.0,
        scored: Scored = everything,
        regularise: Regulariser = no_regularisers,
        look: Looking | None = None,
        guide: Callable[[Any, Any, float], Any] = extrapolate,
    ):
        super().__init__()
        self.forward_model = forward_model
        self.denoiser = denoiser
        self.schedule = schedule
        self.context_dropout = context_dropout
        self.scored = scored
        self.regularise = regularise
        self.look = look or self.observe
        self.guide = guide

    def losses(self, split: Split, random: ItemRandom) -> Terms:
        """One training step: DFM eqs. 4, 5, 8 and 9."""
        context, target, novel = split
        t = self.schedule.draw_timesteps(random)
        noise = random.randn(*target.values.shape[1:])
        noisy_target = target._replace(values=self.schedule.add_noise(target.values, noise, t))

        signal = self.denoiser(self.drop_context(context, random), noisy_target, t)  # eq. 4

        scored = {"target": self.scored(target, random)}
        if novel is not None:
            scored["novel"] = self.scored(novel, random)
        seen = self.look(signal, concatenate(list(scored.values()), dim=1), random)  # eq. 5, of all views at once
        views = [observations.values.shape[1] for observations in scored.values()]
        estimate = dict(zip(scored, seen.values.split(views, dim=1), strict=True))

        weight = self.schedule.loss_weight(t)
        errors = {name: squared_error(estimate[name], scored[name].values) for name in scored}  # eqs. 8 and 9
        losses = {name: (weight * error).mean() for name, error in errors.items()}
        statistics = {f"{name}_squared_error": error.detach().mean() for name, error in errors.items()}
        return Terms(losses | seen.losses | self.regularise(signal, scored, estimate), statistics)

    def observe(self, signal: Any, scored: Observations, random: ItemRandom) -> Look:
        """The observation alone, by the forward model."""
        return Look(self.forward_model(signal, scored.params))

    def drop_context(self, context: Observations, random: ItemRandom) -> Observations:
        """Zeros in place of the context's values for a random share of the items; `φ` is kept."""
        if self.context_dropout == 0:
            return context
        keep = (random.rand() >= self.context_dropout).to(context.values.dtype)
        return context._replace(values=context.values * keep.view(-1, *(1,) * (context.values.ndim - 1)))

    def estimate(
        self, context: Observations, noisy: Observations, t: Int[Tensor, " batch"], guidance_scale: float = 1.0
    ) -> Sample:
        """The signal of eq. 4 and its observation (eq. 5), guided; the denoiser is called once."""
        if guidance_scale == 1.0:
            signal = self.denoiser(context, noisy, t)
        else:
            null = context._replace(values=torch.zeros_like(context.values))
            both, twice = concatenate([context, null], dim=0), concatenate([noisy, noisy], dim=0)
            signals = self.denoiser(both, twice, torch.cat([t, t]))
            batch = len(t)
            conditional = tree_map(lambda leaf: leaf[:batch], signals)
            unconditional = tree_map(lambda leaf: leaf[batch:], signals)
            signal = self.guide(conditional, unconditional, guidance_scale)
        return Sample(signal, self.forward_model(signal, noisy.params))

    @torch.no_grad()
    def sample(
        self,
        context: Observations,
        target_params: Any,
        target_shape: tuple[int, ...],
        sampler: SamplerConfig,
        random: ItemRandom,
        callback: Callable[[SamplingStep], None] | None = None,
    ) -> Sample:
        """Sample `p(S | O_ctxt)` by the reverse process of the target observation (DFM §3).

        **Arguments:**
        - `target_params`: `φ_trgt`, leaves `(B, V, ...)`.
        - `target_shape`: `(V, *observation)` of one item.
        - `random`: one stream per item, so that a sample does not depend on its neighbours in the batch.
        - `callback`: called after every evaluation of the denoiser, with the current signal and estimate.

        **Returns:** the last signal that the denoiser gave, and its observation.
        """
        scheduler = self.schedule.sampler(sampler.name, sampler.num_steps, random.device)
        values = random.randn(*target_shape) * (scheduler.init_noise_sigma * sampler.temperature)
        extra = {"generator": random.generators} if sampler.name == "ddpm" else {}
        for index, timestep in enumerate(scheduler.timesteps):
            t = timestep.expand(len(values))
            sample = self.estimate(context, Observations(values, target_params), t, sampler.guidance_scale)
            estimate = sample.observation.float()
            if sampler.threshold is not None:
                estimate = dynamic_threshold(estimate, sampler.threshold)
            if callback is not None:
                callback(SamplingStep(index, len(scheduler.timesteps), t, sample.signal, estimate))
            values = scheduler.step(estimate, timestep, values, **extra).prev_sample
        return sample

    @torch.no_grad()
    def sample_autoregressive(
        self,
        context: Observations,
        target_params: Any,
        target_shape: tuple[int, ...],
        sampler: SamplerConfig,
        random: ItemRandom,
        callback: Callable[[SamplingStep], None] | None = None,
    ) -> Sample:
        """Sample the target views one after the other; each sample becomes context of the next (DFM §4.1).

        **Returns:** the last signal, which has seen all the others, and the observations `(B, V, *observation)`.
        """
        num_views, *observation = target_shape
        for view in range(num_views):
            params = select_views(target_params, slice(view, view + 1))
            sample = self.sample(context, params, (1, *observation), sampler, random.stream(f"view {view}"), callback)
            context = concatenate([context, Observations(sample.observation, params)], dim=1)
        return Sample(sample.signal, context.values[:, -num_views:])


def dynamic_threshold(estimate: Float[Tensor, "batch ..."], quantile: float) -> Float[Tensor, "batch ..."]:
    """Scale each item whose `quantile` of `|Ô|` is past 1 back into [-1, 1] (Imagen, §2.3)."""
    bound = torch.quantile(estimate.flatten(1).abs(), quantile, dim=1).clamp(min=1.0)
    bound = bound.view(-1, *(1,) * (estimate.ndim - 1))
    return estimate.clamp(-bound, bound) / bound
