"""`task=inverse_graphics`: train DFM through the volume renderer, judge the scenes, and sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from goembed_core.diffusion import Split
from goembed_core.metrics.results import Results
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.report.figures import image_grid
from goembed_core.runs import Run
from goembed_core.trainer import Phase, Plan, Player, Trainer
from goembed_core.trees import select_views, tree_map
from goembed_image_datasets.sampler import ItemSampler
from goembed_multiview_datasets.boxes import BoxDataset
from torch import nn

from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.config import InverseGraphicsConfig, SampleConfig
from goembed_inverse_graphics.data import require_dataset
from goembed_inverse_graphics.evaluation import Evaluation, Networks, evaluate, test_scenes
from goembed_inverse_graphics.model import Training, split_scene, stages, trained_part
from goembed_inverse_graphics.pictures import compose
from goembed_inverse_graphics.sampling import sample
from goembed_inverse_graphics.solve import Solver

EVALUATION_SEED = 1  # training draws from train.seed under other stream names; this fixes the noise of all evaluations
PREVIEWED, PREVIEW_SAMPLES = 4, 4


class InverseGraphics:
    """Sample the 3D scenes that one image could be of (DFM §4.1)."""

    def __init__(self, config: InverseGraphicsConfig):
        self.config = config
        require_dataset(config.dataset)
        torch.manual_seed(config.train.seed)  # initial weights
        self.model = models.build(config)
        self.dataset = config.dataset.build()
        self.networks = Networks.of(config.evaluate)  # missing weights are told of now
        self.training = Training(config, self.model)

    def train(self, run: Run) -> None:
        """Train the denoiser, or in stage pixelnerf its estimate; the run's model directory appears at the end."""
        config, model = self.config, self.model
        every = stages(config)
        losses = {"dfm": self.training.dfm_losses, "pixelnerf": self.training.pixelnerf_losses}
        plan = Plan(
            modules={"denoiser": model.denoiser},
            players={stage: Player(trained_part(model.denoiser, config, stage), config.optimizer) for stage in every},
            phases=[Phase(stage, stage, losses[stage], count) for stage, count in every.items()],
            data=lambda positions: self._scenes(positions, trainer.device),
            averaged=("denoiser",),
            preview=lambda images_seen, averaged: self._preview(run, images_seen, averaged["denoiser"]),
        )
        trainer = Trainer(run, config.train, plan)
        self.training.to(trainer.device)  # with LPIPS, which is no part of what is trained
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            models.save(run.model, config, averaged["denoiser"], trainer.images_seen)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on scenes that it has not seen, and write the report."""
        config = self.config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if config.train.threads is not None:
            torch.set_num_threads(config.train.threads)
        model = models.load(run.model, device)
        solver = Solver(model, EVALUATION_SEED, config.evaluate.batch_size, device, config.train.mixed_precision)
        found = evaluate(config, solver, self.networks)
        self._report(run, solver, found)
        return found.results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Sample from a run's model."""
        return sample(run, config)

    def _scenes(self, positions: Iterator[Sequence[int]], device: torch.device) -> Iterable[Split]:
        """Boxes are made where they are used, each once; other scenes are gone through in a new order each epoch."""
        made = isinstance(self.dataset, BoxDataset)
        order = None if made else ItemSampler(len(self.dataset), self.config.train.seed)
        for batch in positions:
            items = torch.as_tensor(list(batch))
            items = items % len(self.dataset) if order is None else order.indices(items)
            scenes = self.dataset.observations(items.to(device) if made else items)
            scenes = tree_map(lambda leaf: leaf.to(device), scenes)
            yield split_scene(scenes, self.config.views, ItemRandom(self.config.train.seed, batch, "views", device))

    def _preview(self, run: Run, images_seen: int, denoiser: nn.Module) -> None:
        """Context, true target, estimate and samples of a few unseen scenes."""
        device = next(denoiser.parameters()).device
        model = self.model._replace(denoiser=denoiser)
        solver = Solver(model, EVALUATION_SEED, PREVIEWED * PREVIEW_SAMPLES, device, self.config.train.mixed_precision)
        few = self.config.evaluate.model_copy(update={"contexts": PREVIEWED})
        _, scenes, num_context, target = test_scenes(self.config.model_copy(update={"evaluate": few}))
        scenes = tree_map(lambda leaf: leaf.to(device), scenes)
        context, at = (select_views(scenes, slice(*ends)) for ends in ((0, num_context), (target, target + 1)))
        columns = [context.values[:, :1], at.values, solver.views(solver.estimate(context), at.params)]
        labels = ["context", "true", "pixelNeRF"]
        if self.config.stage == "dfm":
            found = solver.samples(context, at.params, PREVIEW_SAMPLES, self.config.sampler, "preview")
            columns.append(found.images[:, 0].unflatten(0, (len(context.values), -1)))
            labels += [f"sample {k + 1}" for k in range(PREVIEW_SAMPLES)]
        figure = image_grid(torch.cat([part.cpu() for part in columns], 1), column_labels=labels)
        figure.savefig(run.samples / f"preview-{images_seen:09d}.png")

    def _report(self, run: Run, solver: Solver, found: Evaluation) -> None:
        title, subtitle = "Scenes that one image could be of", f"{found.results.images_seen:,} scenes seen"
        with run_report(run, found.results, title, subtitle, seen="scenes", evaluation_s=found.seconds) as report:
            compose(report, solver, found, self.config.evaluate.pictures)
