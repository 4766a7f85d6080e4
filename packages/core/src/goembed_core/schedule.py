"""The forward process `O_t = √ᾱ_t O_0 + √(1−ᾱ_t) ε`, and the diffusers schedulers that run it backwards."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goembed_core.config.solvers import SamplerName, ScheduleConfig
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom


class NoiseSchedule:
    """The noising of observations, a diffusers scheduler with `prediction_type="sample"` (DFM §3: Ô is the x0 head)."""

    def __init__(self, config: ScheduleConfig | None = None):
        from diffusers import DDPMScheduler  # seconds to import: only where a schedule is built

        self.config = config or ScheduleConfig()
        self.scheduler = DDPMScheduler(
            num_train_timesteps=self.config.num_timesteps,
            beta_schedule=self.config.betas,
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",
        )
        # float64 once, then the working precision: 1 − ᾱ cancels where ᾱ is near 1.
        alphas_cumprod = torch.cumprod(1.0 - self.scheduler.betas.double(), 0)
        self._signal = alphas_cumprod.sqrt().float()
        self._noise = (1.0 - alphas_cumprod).sqrt().float()
        self._snr = (alphas_cumprod / (1.0 - alphas_cumprod)).float()

    def draw_timesteps(self, random: ItemRandom) -> Int[Tensor, " batch"]:
        """`t` uniform over `0 … T−1`, one per item, unless `timestep_shift` prefers some."""
        shift, total = self.config.timestep_shift, self.config.num_timesteps
        if shift == 1.0:
            return random.randint(0, total)
        u = random.rand()
        return (total * shift * u / (1 + (shift - 1) * u)).long().clamp(max=total - 1)

    def add_noise(
        self, values: Float[Tensor, "batch ..."], noise: Float[Tensor, "batch ..."], timestep: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch ..."]:
        """`O_t = √ᾱ_t O_0 + √(1−ᾱ_t) ε`, with one `t` per item."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        self._to(values.device)
        return self._signal[timestep].view(shape) * values + self._noise[timestep].view(shape) * noise

    def observed_as(self, timestep: Int[Tensor, " batch"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """`√ᾱ_t`, and the variance `(1−ᾱ_t)/ᾱ_t` of the noise on `O_t / √ᾱ_t = O_0 + …`, one of each per item."""
        self._to(timestep.device)
        return self._signal[timestep], 1.0 / self._snr[timestep]

    def loss_weight(self, timestep: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The weight of each item's loss.

        An estimate that has to pass through a forward model cannot be preconditioned, so nothing but the loss can ask
        for a small error at small `t`; `snr` does.
        """
        self._to(timestep.device)
        if self.config.loss_weighting == "uniform":
            return torch.ones_like(self._snr[timestep])
        return self._snr[timestep].clamp(1.0, self.config.snr_cap)

    def _to(self, device: torch.device) -> None:
        if self._signal.device != device:
            self._signal, self._noise, self._snr = (x.to(device) for x in (self._signal, self._noise, self._snr))

    def sampler(self, name: SamplerName, num_steps: int, device: torch.device | str = "cpu") -> Any:
        """A diffusers scheduler over `num_steps` times of this schedule; the last step returns the estimate itself."""
        import diffusers

        if not 1 <= num_steps <= self.config.num_timesteps:
            raise UserError(
                f"num_steps={num_steps}: a sampler takes between 1 and {self.config.num_timesteps} steps "
                "of this schedule"
            )
        classes = {
            "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
            "dpm-solver++": (
                diffusers.DPMSolverMultistepScheduler,
                {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero", "lower_order_final": True},
            ),
            "unipc": (diffusers.UniPCMultistepScheduler, {"final_sigmas_type": "zero", "lower_order_final": True}),
            "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
        }
        if name not in classes:
            raise UserError(f"sampler {name!r} is unknown: one of {', '.join(classes)}")
        factory, extra = classes[name]
        scheduler = factory(
            num_train_timesteps=self.config.num_timesteps,
            beta_schedule=self.config.betas,
            prediction_type="sample",
            timestep_spacing="trailing",
            **extra,
        )
        scheduler.set_timesteps(num_steps, device=device)
        return scheduler
