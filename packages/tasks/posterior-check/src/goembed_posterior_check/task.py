"""`task=posterior_check`: train DFM where the exact posterior is known, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from goembed_core.config import ConfigError
from goembed_core.diffusion import DFM, Terms, squared_error
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.runs import Run
from goembed_core.schedule import NoiseSchedule
from goembed_core.trainer import Phase, Plan, Player, Trainer
from torch import Tensor, nn

from goembed_posterior_check.config import LinearConfig, PosteriorCheckConfig
from goembed_posterior_check.evaluation import Evaluation, Judge, evaluate
from goembed_posterior_check.linear import LinearForward
from goembed_posterior_check.mixture import decaying_gaussian, ring_mixture
from goembed_posterior_check.pictures import compose
from goembed_posterior_check.problems import VIEWS, Problem

GAUSSIAN_DIM = 16


class Regressor(nn.Module):
    """The deterministic baseline: the same network, loss and budget, without a noisy target."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, context: Observations) -> Tensor:
        """The one signal that it predicts."""
        # A view whose matrix is zero says nothing.
        blank = Observations(torch.zeros_like(context.values[:, :1]), type(context.params)(
            torch.zeros_like(context.params.matrix[:, :1])
        ))  # fmt: skip
        return self.network(context, blank, torch.zeros(len(context.values), device=context.values.device))


class PosteriorCheck:
    """DFM's samples against exact posteriors of signals that are seen through projections alone (Proposition 1)."""

    def __init__(self, config: PosteriorCheckConfig):
        self.config = config
        self.problems = problems()
        for name, problem in self.problems.items():
            dim = getattr(config, name).settings.model_dump().get("dim")
            if dim is not None and dim != problem.prior.dim:
                raise ConfigError(f"{name}.dim={dim}: the signals of this problem have {problem.prior.dim} numbers")
            own = getattr(getattr(config, name).settings, "schedule", config.schedule)
            if (own.betas, own.num_timesteps) != (config.schedule.betas, config.schedule.num_timesteps):
                raise ConfigError(
                    f"{name}.schedule is {own.betas} of {own.num_timesteps} times, and schedule is "
                    f"{config.schedule.betas} of {config.schedule.num_timesteps}: set both"
                )
        torch.manual_seed(config.train.seed)  # initial weights
        self.networks = {
            f"{name}{role}": getattr(config, name).build() for role in ("", "_deterministic") for name in self.problems
        }

    def train(self, run: Run) -> None:
        """Train two networks for each problem; the run's model directory appears at the end."""
        config, schedule = self.config, NoiseSchedule(self.config.schedule)
        phases = []
        for name, problem in self.problems.items():
            dfm = DFM(problem.forward_model, self.networks[name], schedule)
            regressor = Regressor(self.networks[f"{name}_deterministic"])
            every = config.gaussian_every if name == "gaussian" else 1
            phases += [
                Phase(name, name, _dfm_losses(dfm, problem), every),
                Phase(f"{name}_deterministic", f"{name}_deterministic", _regression_losses(regressor, problem), every),
            ]
        plan = Plan(
            modules=self.networks,
            players={name: Player(network, config.optimizer) for name, network in self.networks.items()},
            phases=phases,
            averaged=tuple(self.networks),
            independent=True,
        )
        trainer = Trainer(run, config.train, plan)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            parts = {}
            for name, network in averaged.items():
                component = getattr(config, name.removesuffix("_deterministic"))
                parts[name] = Part(component.kind, component.name, component.settings, network)
            save_pretrained(run.model, parts, {"task": config.task, "images_seen": trainer.images_seen})

    def evaluate(self, run: Run) -> Any:
        """Compare with the exact posteriors, and write the report."""
        parts, facts = from_pretrained(run.model)
        if facts.get("task") != self.config.task:
            raise UserError(f"{run.model} is a model of task {facts.get('task')!r}, not of {self.config.task!r}")
        schedule = NoiseSchedule(self.config.schedule)
        solvers = {
            "dfm": {name: DFM(p.forward_model, parts[name], schedule) for name, p in self.problems.items()},
            "deterministic": {name: Regressor(parts[f"{name}_deterministic"]) for name in self.problems},
        }
        evaluation = evaluate(Judge(self.config, self.problems, solvers), facts["images_seen"])
        self._report(run, evaluation)
        return evaluation.results

    @staticmethod
    def sample(run: Run | None, config: Any) -> Path:
        """Refused: the samples are in the report."""
        raise UserError("task=posterior_check cannot be sampled from; its samples are in the report of a run")

    def _report(self, run: Run, evaluation: Evaluation) -> None:
        results, seconds = evaluation.results, evaluation.seconds
        title, subtitle = "Samples against exact posteriors", f"{results.images_seen:,} signals' observations seen"
        with run_report(run, results, title, subtitle, seen="observations", evaluation_s=seconds) as report:
            compose(report, evaluation)


def problems() -> dict[str, Problem]:
    """Both problems by name."""
    return {
        "mixture": Problem("mixture", ring_mixture(), LinearForward(LinearConfig(dim=2, observed=1))),
        "gaussian": Problem(
            "gaussian",
            decaying_gaussian(GAUSSIAN_DIM),
            LinearForward(LinearConfig(dim=GAUSSIAN_DIM, observed=GAUSSIAN_DIM // VIEWS)),
        ),
    }


def _dfm_losses(dfm: DFM, problem: Problem):
    return lambda _, random: dfm.losses(problem.draw(random.stream("signals")), random)


def _regression_losses(regressor: Regressor, problem: Problem):
    def losses(_: None, random: ItemRandom) -> Terms:
        context, target, novel = problem.draw(random.stream("signals"))
        signal = regressor(context)
        terms = {"target": target, "novel": novel}
        return Terms({
            key: squared_error(problem.forward_model(signal, seen.params), seen.values).mean()
            for key, seen in terms.items()
        })  # fmt: skip

    return losses
