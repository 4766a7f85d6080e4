"""`task=gon`: train a decoder that is its own encoder, and an auto-encoder beside it, on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from goembed_core.config import ConfigError
from goembed_core.config.resolve import resolve_run
from goembed_core.errors import UserError
from goembed_core.metrics.results import Results
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.report.figures import image_grid, walk_strip
from goembed_core.runs import Run
from goembed_core.trainer import Plan, Terms, Trainer
from goembed_image_datasets.images import ImageSet
from goembed_image_datasets.sampler import batches_at
from jaxtyping import Float
from torch import Tensor

from goembed_gon import model as models
from goembed_gon.baseline import num_parameters
from goembed_gon.config import GONConfig, SampleConfig
from goembed_gon.evaluation import Pictures, evaluate, fit_gaussian, pictures
from goembed_gon.model import AutoEncoder

NAMES = ("gon", "autoencoder")


class GON:
    """A gradient origin network, and an auto-encoder of twice its parameters that is trained as long."""

    def __init__(self, config: GONConfig):
        self.config = config
        self.dataset, self.test = (section.build(like=ImageSet) for section in (config.dataset, config.test_dataset))
        torch.manual_seed(config.train.seed)  # initial weights
        self.solvers: dict[str, AutoEncoder] = dict(zip(NAMES, models.build(config), strict=True))
        with torch.no_grad():
            shown = self.solvers["gon"].decode(torch.zeros(1, self.solvers["gon"].decoder.head.size)).shape[1:]
        for section, dataset in (("dataset", self.dataset), ("test_dataset", self.test)):
            if tuple(shown) != tuple(dataset.image_shape):
                raise ConfigError(
                    f"{section} has images of (channels, height, width) = {tuple(dataset.image_shape)}, and decoder "
                    f"makes {tuple(shown)}: set {section}.resolution and decoder.channels"
                )

    def train(self, run: Run) -> None:
        """Train both on the same images; the run's model directory appears at the end."""
        config = self.config
        # GON's parameters are its encoder's, of which the decoder is a part.
        modules = {"gon": self.solvers["gon"].encoder, "autoencoder": self.solvers["autoencoder"]}
        losses = {name: self._losses(name) for name in NAMES}
        plan = Plan.side_by_side(modules, config.optimizer, losses, data=self._images)
        trainer = Trainer(run, config.train, plan)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            encoder = averaged["gon"]
            gon = AutoEncoder(encoder, encoder.forward_model)
            facts = {"images_seen": trainer.images_seen, "seconds": trainer.seconds}
            models.save(run.model, config, gon, averaged["autoencoder"], facts)

    def evaluate(self, run: Run) -> Results:
        """Reconstruct the test images, and write the report."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load(run.model, device)
        results, _, _ = evaluate(self.config.evaluate, model, self.test, device)
        gaussian = fit_gaussian(self.config.evaluate, model.gon, self.dataset, device)
        self._report(run, results, model.facts, pictures(model, gaussian, self.test, device))
        return results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Write `samples.png`: images of latents drawn from the Gaussian of a run's own."""
        if run is None:
            raise UserError("task=gon carries no model: give the folder of a run")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model, settings = models.load(run.model, device), resolve_run(run.dir).config
        gaussian = fit_gaussian(settings.evaluate, model.gon, settings.dataset.build(), device)
        random = ItemRandom(config.seed, range(config.num_samples), "sample", device)
        with torch.no_grad():
            images = model.gon.decode(gaussian.sample(random)).cpu()
        folder = config.out or run.samples
        folder.mkdir(parents=True, exist_ok=True)
        image_grid(_rows(images, 8)).savefig(folder / "samples.png")
        return folder

    def _images(self, positions: Iterator[Sequence[int]]) -> Iterable[Float[Tensor, "batch c h w"]]:
        device = next(self.solvers["autoencoder"].parameters()).device
        for batch in batches_at(self.dataset, self.config.train.seed, positions):
            yield batch.images.to(device, non_blocking=True)

    def _losses(self, name: str):
        def losses(images: Tensor, random: ItemRandom) -> Terms:
            return self.solvers[name].losses(images, random, self.config.kl_weight)

        return losses

    def _report(self, run: Run, results: Results, facts: dict, shown: Pictures) -> None:
        sizes = {name: num_parameters(solver) for name, solver in self.solvers.items()}
        subtitle = (
            f"gradient origin network ({self.config.preset}), {sizes['gon']:,} parameters; auto-encoder, "
            f"{sizes['autoencoder']:,}; {results.images_seen:,} images seen by each"
        )
        variational = self.solvers["gon"].decoder.head.variational
        drawn = "the prior" if variational else "a Gaussian fitted to the latents of training images"
        with run_report(
            run, results, "A decoder that is its own encoder", subtitle, training_s=facts["seconds"]
        ) as report:
            report.section("Reconstructions", "Test images; below them what GON and the auto-encoder make of them.")
            rows = ["image", "GON", "auto-encoder"]
            report.figure(image_grid(shown.reconstructions, rows), "Images that were not learned")
            report.section("Samples", f"Images of latents drawn from {drawn}.")
            report.figure(image_grid(_rows(shown.samples, 12)), "GON's samples")
            report.section("Interpolations", "Between the latents of two test images each, along the sphere (slerp).")
            report.figure(walk_strip(shown.interpolations), "From the left image to the right one")


def _rows(images: Tensor, columns: int) -> Tensor:
    """Images in rows; what is missing of the last one stays empty."""
    missing = -len(images) % columns
    empty = images.new_full((missing, *images.shape[1:]), torch.nan)
    return torch.cat([images, empty]).unflatten(0, (-1, columns))
