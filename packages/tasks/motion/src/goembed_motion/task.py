"""`task=motion`: train DFM and its deterministic baseline on clips, judge them, and sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from goembed_core.diffusion import Split
from goembed_core.metrics.lpips import LPIPS
from goembed_core.metrics.results import Results
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.report.figures import image_grid
from goembed_core.runs import Run
from goembed_core.trainer import Plan, Terms, Trainer
from goembed_image_datasets.sampler import ItemSampler
from goembed_video_datasets.sprites import SpriteDataset
from torch import nn

from goembed_motion import model as models
from goembed_motion.config import MotionConfig, SampleConfig
from goembed_motion.evaluation import Evaluation, evaluate
from goembed_motion.flow import flow_colours
from goembed_motion.model import held_out, split_clip
from goembed_motion.pictures import compose
from goembed_motion.sampling import sample
from goembed_motion.solve import Solver

EVALUATION_SEED = 1  # training draws from train.seed under other stream names; this fixes the noise of all evaluations


class Motion:
    """Sample the motions that could follow an image (DFM §4.2)."""

    def __init__(self, config: MotionConfig):
        self.config = config
        torch.manual_seed(config.train.seed)  # initial weights
        self.model = models.build(config)
        self.dataset = config.dataset.build()
        self.test = held_out(config.dataset).build()
        self.lpips = LPIPS() if config.evaluate.lpips else None  # missing weights are told of now

    def train(self, run: Run) -> None:
        """Train both networks on the same clips; the run's model directory appears at the end."""
        config, model = self.config, self.model
        networks = {"dfm": model.dfm.denoiser.network, "deterministic": model.regressor.denoiser.network}
        plan = Plan.side_by_side(
            networks,
            config.optimizer,
            {"dfm": model.dfm.losses, "deterministic": self._regression_losses},
            data=lambda positions: self._clips(positions, trainer.device),
            preview=lambda images_seen, averaged: self._preview(run, images_seen, averaged),
        )
        trainer = Trainer(run, config.train, plan)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            models.save(run.model, config, averaged, trainer.images_seen)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on clips that it has not seen, and write the report."""
        config = self.config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load(run.model, device)
        solver = Solver(model, EVALUATION_SEED, config.evaluate.batch_size, device, config.train.mixed_precision)
        found = evaluate(config, solver, self.test, self.lpips)
        self._report(run, solver, found)
        return found.results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Sample from a run's model."""
        return sample(run, config)

    def _clips(self, positions: Iterator[Sequence[int]], device: torch.device) -> Iterable[Split]:
        """Sprites are made where they are used, each once; films are gone through in a new order each epoch."""
        made = isinstance(self.dataset, SpriteDataset)
        order = None if made else ItemSampler(len(self.dataset), self.config.train.seed)
        for batch in positions:
            items = torch.as_tensor(list(batch))
            items = items % len(self.dataset) if order is None else order.indices(items)
            clip = self.dataset.observations(items.to(device) if made else items)
            params = type(clip.params)(clip.params.time.to(device))
            yield split_clip(clip._replace(values=clip.values.to(device), params=params))

    def _regression_losses(self, split: Split, random: ItemRandom) -> Terms:
        return Terms(self.model.regressor.losses(split, self.model.dfm.forward_model))

    def _preview(self, run: Run, images_seen: int, averaged: dict[str, nn.Module]) -> None:
        denoiser = self.model.dfm.denoiser
        training, denoiser.network = denoiser.network, averaged["dfm"]
        try:
            device = next(averaged["dfm"].parameters()).device
            solver = Solver(self.model, EVALUATION_SEED, self.config.evaluate.batch_size, device)
            images = self.test.observations(torch.arange(min(4, len(self.test)))).values[:, :2].to(device)
            found = solver.samples(images[:, 0], 6, self.config.sampler, "preview")
            motion = flow_colours(found.signal.motion, self.config.field.scale_px)
            rows = [torch.cat([images, x.unflatten(0, (len(images), -1))], 1) for x in (found.target, motion)]
            image_grid(torch.stack(rows, 1).flatten(0, 1)).savefig(run.samples / f"preview-{images_seen:09d}.png")
        finally:
            denoiser.network = training

    def _report(self, run: Run, solver: Solver, found: Evaluation) -> None:
        subtitle, seconds = f"{found.results.images_seen:,} clips seen", found.seconds
        with run_report(
            run, found.results, "Motions that could follow an image", subtitle, seen="clips", evaluation_s=seconds
        ) as report:
            compose(report, solver, found, self.config.evaluate.pictures)
