"""`task=gan_inversion`: train DFM and its deterministic baseline on one stream of scenes, judge them, and sample."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.metrics.results import Results
from goembed_core.progress import ProgressLine
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.runs import Run
from goembed_core.trainer import Plan, Terms, Trainer
from torch import nn

from goembed_gan_inversion import model as models
from goembed_gan_inversion.config import GANInversionConfig, SampleConfig
from goembed_gan_inversion.evaluation import Evaluation, evaluate
from goembed_gan_inversion.pictures import Gallery, compose, gallery, preview
from goembed_gan_inversion.problem import Scene, draw_scenes
from goembed_gan_inversion.sampling import sample
from goembed_gan_inversion.solve import Solver

EVALUATION_SEED = 1  # training draws from train.seed under other stream names; this fixes the contexts of all runs


class GANInversion:
    """Sample the latents whose images agree with a visible patch (DFM §4.3, supplement 2.3)."""

    def __init__(self, config: GANInversionConfig):
        self.config = config
        torch.manual_seed(config.train.seed)  # initial weights
        self.model = models.build(config)
        self.features = config.evaluate.features.build()

    def train(self, run: Run) -> None:
        """Train both networks on the same scenes; the run's model directory appears at the end."""
        config, model = self.config, self.model
        networks = {"dfm": model.dfm.denoiser, "deterministic": model.regressor.network}
        plan = Plan.side_by_side(
            networks,
            config.optimizer,
            {
                "dfm": lambda scene, random: model.dfm.losses(scene.split, random),
                "deterministic": self._regression_loss,
            },
            prepare=self._draw,
            preview=lambda images_seen, averaged: self._preview(run, images_seen, averaged),
        )
        trainer = Trainer(run, config.train, plan)
        model.space.to(trainer.device)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            models.save(run.model, config, averaged["dfm"], averaged["deterministic"], trainer.images_seen)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model, and write the report."""
        config = self.config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(self.features, nn.Module):
            self.features.to(device)
        model, precision = models.load(run.model, device), config.train.mixed_precision
        solver = Solver(model, EVALUATION_SEED, config.evaluate.batch_size, device, precision)
        with ProgressLine("evaluate", 4, unit="parts") as line:
            evaluation = evaluate(config, solver, self.features, line)
        refinement = config.refine if config.refine.steps else type(config.refine)()
        shown = gallery(solver, config.evaluate.pictures, config.sampler, refinement)
        self._report(run, solver, evaluation, shown)
        return evaluation.results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Sample from a run's model or the embedded one."""
        return sample(run, config)

    def _draw(self, _: None, random: ItemRandom) -> Scene:
        return draw_scenes(self.model.forward_model, self.config.patch, self.config.truncation_psi, random)

    def _regression_loss(self, scene: Scene, random: ItemRandom) -> Terms:
        signal, images = self.model.regressor(scene.context, scene.target.params)
        error = (images.float() - scene.target.values).square().mean()
        return Terms({"target": error} | self.model.space.penalties(signal))

    def _preview(self, run: Run, images_seen: int, averaged: dict[str, nn.Module]) -> None:
        training = self.model.dfm.denoiser
        self.model.dfm.denoiser = averaged["dfm"]
        try:
            device = next(averaged["dfm"].parameters()).device
            solver = Solver(self.model, EVALUATION_SEED, self.config.evaluate.batch_size, device)
            preview(solver, self.config.sampler, run.samples / f"preview-{images_seen:09d}.png")
        finally:
            self.model.dfm.denoiser = training

    def _report(self, run: Run, solver: Solver, evaluation: Evaluation, shown: Gallery) -> None:
        title, subtitle = "The images behind a patch", f"GAN inversion, {solver.model.images_seen:,} images seen"
        with run_report(run, evaluation.results, title, subtitle, evaluation_s=evaluation.seconds) as report:
            compose(report, solver, evaluation, shown)
