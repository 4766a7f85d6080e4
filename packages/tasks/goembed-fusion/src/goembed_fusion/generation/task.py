"""`task=goembed_fusion`: train DFM over planes and its regression, judge the samples, and sample."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.diffusion import Split
from goembed_core.metrics.results import Results
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.runs import Run
from goembed_core.trainer import Plan, Trainer

from goembed_fusion.generation import model as models
from goembed_fusion.generation.config import FusionSampleConfig, GOEmbedFusionConfig
from goembed_fusion.generation.evaluation import Evaluation, evaluate
from goembed_fusion.generation.judged import require_enough
from goembed_fusion.generation.model import Training
from goembed_fusion.generation.pictures import compose
from goembed_fusion.generation.sampling import sample
from goembed_fusion.generation.solve import Solver
from goembed_fusion.scenes import Scenes, load, require_views

EVALUATION_SEED = 1  # of the noise of all evaluations


class GOEmbedFusion:
    """Sample the objects that a few views, or none, could be of.

    **Raises:** ConfigError for settings that do not fit each other, or a dataset without enough objects or views.
    """

    def __init__(self, config: GOEmbedFusionConfig):
        self.config = config
        self.networks = models.build(config)
        if config.evaluate.features is not None:
            config.evaluate.features.build()  # its weights have to be there before the training, not after it
        self.test = load(config.dataset, "test")
        require_enough(config, self.test)
        self._learned: Scenes | None = None

    def train(self, run: Run) -> None:
        """Train both networks on the same batches; the run's model directory appears at the end."""
        config, roles = self.config, self.config.views
        self._learned = load(config.dataset, "train")
        require_views(self._learned, roles.context[1] + roles.target + roles.novel, "views")
        models.begin(self.networks, self._learned, roles)
        training = Training(config, self.networks)
        losses = {"denoiser": training.dfm_losses, "regression": training.regression_losses}
        plan = Plan.side_by_side(self.networks, config.optimizer, losses, prepare=self._draw)
        trainer = Trainer(run, config.train, plan)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            facts = {"images_seen": trainer.images_seen, "seconds": trainer.seconds}
            models.save(run.model, config, averaged, facts)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on objects that it has not seen, and write the report."""
        config = self.config
        if config.train.threads is not None:
            torch.set_num_threads(config.train.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        solver = Solver(models.load(run.model, device), EVALUATION_SEED, config.evaluate.batch_size)
        found = evaluate(config, solver, self.test)
        self._report(run, solver, found)
        return found.results

    @staticmethod
    def sample(run: Run | None, config: FusionSampleConfig) -> Path:
        """Sample from a run's model."""
        return sample(run, config)

    def _draw(self, _: None, random: ItemRandom) -> Split:
        step = random.items[0] // self.config.train.batch_size
        shared = ItemRandom(self.config.train.seed, [step], "batch", random.device)  # the same on every process
        return models.draw(self._learned, self.config.views, random, shared)

    def _report(self, run: Run, solver: Solver, found: Evaluation) -> None:
        with run_report(
            run,
            found.results,
            "Objects that a few views, or none, could be of",
            f"{found.results.images_seen:,} objects seen",
            seen="objects",
            training_s=solver.model.facts["seconds"],
            evaluation_s=found.seconds,
        ) as report:
            compose(report, self.config.evaluate, solver, found)
