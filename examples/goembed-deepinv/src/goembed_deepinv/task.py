"""`task=tomography`: train DFM and its deterministic baseline on projections alone, and judge them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from goembed_core.diffusion import Split, squared_error
from goembed_core.errors import UserError
from goembed_core.metrics.results import Results
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.report.builder import Report
from goembed_core.runs import Run
from goembed_core.trainer import Phase, Plan, Player, Terms, Trainer
from goembed_core.trees import concatenate

from goembed_deepinv import model as models
from goembed_deepinv.config import TomographyConfig
from goembed_deepinv.evaluation import answer, judge
from goembed_deepinv.pictures import compose
from goembed_deepinv.problem import roles, scan

SCAN_SEED = 0  # an image has the same projections in every run


class Tomography:
    """Images behind a few projections, learnt from projections alone."""

    def __init__(self, config: TomographyConfig):
        self.config = config
        torch.manual_seed(config.train.seed)  # initial weights
        self.model = models.build(config)
        self.images, self.held_out = config.dataset.build(), config.held_out.build()
        shape = self.model.forward_model.config.signal_shape
        for key, images in {"dataset": self.images, "held_out": self.held_out}.items():
            if tuple(images.image_shape) != shape:
                raise UserError(
                    f"{key}: its images are {' x '.join(map(str, images.image_shape))}, the forward model's signals "
                    f"{' x '.join(map(str, shape))}; set {key}.resolution or forward_model.signal_shape"
                )

    def train(self, run: Run) -> None:
        """Train both networks on the same projections; the run's model directory appears at the end."""
        config, model = self.config, self.model
        networks = {"dfm": model.dfm.denoiser.network, "deterministic": model.regressor.denoiser.network}
        plan = Plan(
            modules=networks,
            players={name: Player(network, config.optimizer) for name, network in networks.items()},
            phases=[
                Phase("dfm", "dfm", lambda split, random: model.dfm.losses(split, random)),
                Phase("deterministic", "deterministic", self._regression_loss),
            ],
            prepare=self._draw,
            averaged=tuple(networks),
        )
        trainer = Trainer(run, config.train, plan)
        model.forward_model.to(trainer.device)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            models.save(run.model, config, averaged["dfm"], averaged["deterministic"], trainer.images_seen)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on images of the test split, and write the report."""
        config = self.config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load(run.model, device)
        indices = torch.arange(min(config.evaluate.contexts, len(self.held_out)), device=device)
        images = self.held_out.gather(indices)
        truth = (images + 1) / 2
        scans = scan(model.forward_model, images, SCAN_SEED, indices, model.views.scanned)
        split = roles(scans, model.views, ItemRandom(SCAN_SEED, indices.tolist(), "roles", device))
        answers = answer(config, model, split, truth)
        results = judge(config, model, answers, truth)
        self._report(run, results, answers, truth)
        return results

    @staticmethod
    def sample(run: Run | None, config: Any) -> Path:
        """There are no settings of sampling, so the command line never gets here."""
        raise UserError("task=tomography draws its samples in `goembed evaluate`")

    def _draw(self, _: None, random: ItemRandom) -> Split:
        indices = random.randint(0, len(self.images))
        scans = scan(
            self.model.forward_model, self.images.gather(indices), SCAN_SEED, indices, self.config.views.scanned
        )
        return roles(scans, self.config.views, random)

    def _regression_loss(self, split: Split, random: ItemRandom) -> Terms:
        compared = [part for part in (split.target, split.novel) if part is not None]
        known: Observations = concatenate(compared, dim=1)
        image = self.model.regressor(split.context)
        return Terms(
            {"squared_error": squared_error(self.model.forward_model(image, known.params), known.values).mean()}
        )

    def _report(self, run: Run, results: Results, answers: Any, truth: torch.Tensor) -> None:
        environment = json.loads((run.dir / "environment.json").read_text())
        report = Report("The images behind a few projections", f"Tomography, {results.images_seen:,} scans seen")
        report.command(environment["command"])
        report.metrics(results)
        compose(report, answers, truth, self.config.evaluate.pictures)
        if run.metrics_log.exists():
            report.section("Training")
            report.curves(run.metrics_log, "Losses and rates over images seen")
        report.environment(environment)
        report.write(run.dir / "report.html")
