"""What both tasks do: train every method on the same batches, and judge all on one fixed list."""

from __future__ import annotations

import json

import torch
from goembed_core.diffusion import Terms, squared_error
from goembed_core.metrics.results import Results
from goembed_core.progress import duration
from goembed_core.randomness import ItemRandom
from goembed_core.report.builder import Report
from goembed_core.runs import Run
from goembed_core.trainer import Plan, Trainer

from goembed_fusion import methods as models
from goembed_fusion.config import ExperimentConfig, SparseViewReconstructionConfig
from goembed_fusion.evaluation import Evaluation, Judge, evaluate
from goembed_fusion.methods import Model, embed_some
from goembed_fusion.pictures import compose
from goembed_fusion.scenes import Drawn, Scenes, draw, load, require_views
from goembed_fusion.trained import learning, take_encodings


class Experiment:
    """Methods that make signals of views, compared.

    **Raises:** ConfigError for a dataset without enough objects or views.
    """

    def __init__(self, config: ExperimentConfig, title: str):
        self.config, self.title = config, title
        self.test = load(config.dataset, "test")
        needed = max(config.evaluate.sources) + config.evaluate.targets
        require_views(self.test, needed, "evaluate.sources and evaluate.targets")
        self._learned: Scenes | None = None
        self.methods = models.build(config)
        if isinstance(config, SparseViewReconstructionConfig) and config.encodings is not None:
            take_encodings(self.methods, config.encodings)

    def train(self, run: Run) -> None:
        """Train all methods side by side; the run's model directory appears at the end."""
        config = self.config
        self._learned = load(config.dataset, "train")
        require_views(self._learned, config.draw.sources[1] + config.draw.targets, "draw.sources and draw.targets")
        learners = learning(self.methods)
        losses = {name: self._losses(name) for name in learners}
        plan = Plan.side_by_side(learners, config.optimizer, losses, prepare=self._draw)
        trainer = Trainer(run, config.train, plan)
        averaged = self.methods | trainer.train()  # those that are trained already stay as they are
        if trainer.accelerator.is_main_process:
            facts = {"images_seen": trainer.images_seen, "seconds": trainer.seconds}
            models.save(run.model, config, averaged, facts)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on objects and views that it has not seen, and write the report."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load(run.model, self.config.task, device)
        found = evaluate(self.config.evaluate, model, self.test, device)
        self._report(run, model, found, device)
        return found.results

    def _draw(self, _: None, random: ItemRandom) -> Drawn:
        step = random.items[0] // self.config.train.batch_size
        shared = ItemRandom(self.config.train.seed, [step], "batch", random.device)  # the same on every process
        return draw(self._learned, self.config.draw, random, shared)

    def _losses(self, name: str):
        def losses(drawn: Drawn, random: ItemRandom) -> Terms:
            method = self.methods[name]
            signal = embed_some(method, drawn.sources, self.config.draw.source_rays, random.stream("rays"))
            estimate = method.forward_model(signal, drawn.targets.params)
            return Terms({"squared_error": squared_error(estimate, drawn.targets.values).mean()})

        return losses

    def _report(self, run: Run, model: Model, found: Evaluation, device: torch.device) -> None:
        config, environment = self.config, json.loads((run.dir / "environment.json").read_text())
        report = Report(
            self.title,
            f"{config.forward_model.name}, {found.results.images_seen:,} objects seen by each method",
        )
        report.command(environment["command"])
        report.metrics(found.results)
        compose(report, config.evaluate, model, Judge(config.evaluate, self.test, device), found)
        if run.metrics_log.exists():
            report.section("Training")
            report.curves(run.metrics_log, "Losses and rates over objects seen")
        times = {f"evaluation: {name}": duration(seconds) for name, seconds in found.seconds.items()}
        report.environment({**environment, "times": times | {"training": duration(model.facts["seconds"])}})
        report.write(run.dir / "report.html")
