"""`task=stylegan2`: trains generator against discriminator, judges the averaged generator, and samples it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed
from goembed_core.config import ConfigError, OptimizerConfig
from goembed_core.metrics.distribution import distribution_metrics
from goembed_core.metrics.features import features_of
from goembed_core.metrics.results import Results
from goembed_core.progress import ProgressLine
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.report.figures import image_grid
from goembed_core.runs import Run
from goembed_core.trainer import Phase, Plan, Player, Terms, Trainer
from goembed_image_datasets.images import ImageSet
from goembed_image_datasets.sampler import batches_at
from jaxtyping import Float
from torch import Tensor, nn

from goembed_stylegan_synth.augment import AdaptiveAugment
from goembed_stylegan_synth.config import SampleConfig, StyleGAN2Config
from goembed_stylegan_synth.discriminator import Discriminator
from goembed_stylegan_synth.losses import PathLengthPenalty, discriminator_loss, draw_ws, generator_loss, r1_penalty
from goembed_stylegan_synth.networks import Generator
from goembed_stylegan_synth.sampling import generate, sample_run, save_grid
from goembed_stylegan_synth.weights import load_generator, save_generator

EVALUATION_SEED = 1
WEIGHTS = "generator.safetensors"


class StyleGAN2Training:
    """Two players: images that look real, and the critic of images (StyleGAN2, with ADA)."""

    def __init__(self, config: StyleGAN2Config):
        self.config = config
        self.dataset = config.dataset.build(like=ImageSet)
        wanted = (config.generator.img_channels, config.generator.resolution, config.generator.resolution)
        if self.dataset.image_shape != wanted:
            raise ConfigError(
                f"the images are {self.dataset.image_shape}, the generator makes {wanted}; set dataset.channels and "
                "dataset.resolution, or generator.img_channels and generator.resolution, to agree"
            )
        self.features = config.evaluate.features.build()
        torch.manual_seed(config.train.seed)  # initial weights
        self.generator = Generator(**config.generator.model_dump())
        self.discriminator = Discriminator(
            resolution=config.generator.resolution,
            img_channels=config.generator.img_channels,
            **config.discriminator.model_dump(),
        )
        self.path_length = PathLengthPenalty()
        self.augment = AdaptiveAugment(config.augment)
        self._fakes: list[Tensor] = []  # of the generator's move, one a micro-batch, where both players share them

    def train(self, run: Run) -> None:
        """Train; the averaged generator becomes `model/generator.safetensors`."""
        config, losses = self.config, self.config.losses
        phases = [Phase("generator", "generator", self._generator_terms)]
        if losses.path_length_weight:
            phases.append(Phase("path_length", "generator", self._path_length_terms, losses.path_length_every))
        phases.append(Phase("discriminator", "discriminator", self._discriminator_terms))
        if losses.r1_gamma:
            phases.append(Phase("r1", "discriminator", self._r1_terms, losses.r1_every))
        plan = Plan(
            modules={
                "generator": self.generator,
                "discriminator": self.discriminator,
                "path_length": self.path_length,
                "augment": self.augment,
            },
            players={
                "generator": Player(self.generator, self._lazy("generator", losses.path_length_weight)),
                "discriminator": Player(self.discriminator, self._lazy("discriminator", losses.r1_gamma)),
            },
            phases=phases,
            data=self._images,
            prepare=self._prepare,
            averaged=("generator",),
            preview=lambda images_seen, averaged: self._preview(run, images_seen, averaged["generator"]),
        )
        trainer = Trainer(run, config.train, plan)
        averaged = trainer.train()
        if trainer.accelerator.is_main_process:
            facts = {"task": config.task, "images_seen": trainer.images_seen}
            save_generator(run.model / WEIGHTS, averaged["generator"], config.generator, facts)

    def evaluate(self, run: Run) -> Results:
        """Distances between generated and real images, without truncation."""
        settings = self.config.evaluate
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(self.features, nn.Module):
            self.features.to(device)
        loaded = load_generator(run.model / WEIGHTS)
        generator = loaded.generator.eval().to(device)
        count = min(settings.images, len(self.dataset))
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(EVALUATION_SEED))[:count]
        real = (self.dataset.gather(indices).to(device) for indices in order.split(settings.batch_size))
        z = ItemRandom(EVALUATION_SEED, range(settings.images), "evaluate").randn(generator.mapping.z_dim)
        noise = self._fixed_noise()
        with ProgressLine("evaluate", 2, unit="parts") as line:
            generated = features_of(generate(generator, z, settings.batch_size, 1.0, noise), self.features)
            line.advance_to(1, "")
            metrics = distribution_metrics(
                generated,
                features_of(real, self.features),
                self.features.name,
                generator=torch.Generator().manual_seed(EVALUATION_SEED),
                resamples=settings.intervals,
            )
            line.advance_to(2, "")
        results = Results(self.config.task, loaded.facts["images_seen"], metrics)
        self._report(run, results, torch.cat(list(generate(generator, z[:64], 64, 1.0, noise))).cpu())
        return results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """A grid of images of a run's generator, or of the embedded one."""
        return sample_run(run.model / WEIGHTS if run else "fashion32", run.samples if run else config.out, config)

    def _images(self, positions: Iterator[Sequence[int]]) -> Iterable[Float[Tensor, "batch channels side side"]]:
        device = next(self.generator.parameters()).device
        for batch in batches_at(self.dataset, self.config.train.seed, positions):
            yield batch.images.to(device, non_blocking=True)

    def _prepare(self, images: Tensor, random: ItemRandom) -> Tensor:
        self.augment.adapt(self._over_all_processes(images))
        return images

    def _generator_terms(self, images: Tensor, random: ItemRandom) -> Terms:
        ws = draw_ws(self.generator, random.stream("latents"), self.config.losses.style_mixing)
        self.generator.mapping.track_average(ws[:, 0])
        fake = self.generator.synthesis(ws, self._noise(random))
        if self.config.losses.share_fakes:
            self._fakes.append(fake.detach())
        logits = self.discriminator(self.augment(fake, random.stream("augment")))
        return Terms({"loss": generator_loss(logits)}, {"fake_logit": logits.mean()})

    def _path_length_terms(self, images: Tensor, random: ItemRandom) -> Terms:
        half = ItemRandom(random.seed, random.items[: max(1, len(images) // 2)], "path length", random.device)
        ws = draw_ws(self.generator, half.stream("path length latents"), self.config.losses.style_mixing)
        fake = self.generator.synthesis(ws, self._noise(half))
        penalty, lengths = self.path_length(fake, ws, half)
        weight = self.config.losses.path_length_weight * self.config.losses.path_length_every
        return Terms({"loss": weight * penalty}, {"length": lengths.mean()})

    def _discriminator_terms(self, images: Tensor, random: ItemRandom) -> Terms:
        fake = self._fakes.pop(0) if self.config.losses.share_fakes else self._draw_fakes(random)
        fake_logits = self.discriminator(self.augment(fake, random.stream("augment fake")))
        real_logits = self.discriminator(self.augment(images, random.stream("augment real")))
        self.augment.observe(real_logits, self._over_all_processes(images))
        statistics = {"real_logit": real_logits.mean(), "real_sign": self.augment.real_sign, "p": self.augment.p}
        return Terms({"loss": discriminator_loss(fake_logits, real_logits)}, statistics)

    @torch.no_grad()
    def _draw_fakes(self, random: ItemRandom) -> Tensor:
        ws = draw_ws(self.generator, random.stream("discriminator latents"), self.config.losses.style_mixing)
        return self.generator.synthesis(ws, self._noise(random.stream("discriminator noise")))

    def _r1_terms(self, images: Tensor, random: ItemRandom) -> Terms:
        # Of the augmented images, so that resampling need not be differentiated twice.
        images = self.augment(images, random.stream("augment real")).detach().requires_grad_()
        penalty = r1_penalty(self.discriminator(images), images)
        weight = self.config.losses.r1_gamma / 2 * self.config.losses.r1_every
        return Terms({"loss": weight * penalty}, {"penalty": penalty})

    def _noise(self, random: ItemRandom) -> str | list[Tensor]:
        if self.config.losses.noise == "none":
            return "none"
        return self.generator.synthesis.draw_noise(random.stream("noise"))

    def _fixed_noise(self) -> str:
        return "none" if self.config.losses.noise == "none" else "const"

    def _lazy(self, player: str, weight: float) -> OptimizerConfig:
        """Adam's settings for `n + 1` moves where `n` would be: rates and decays to the power of `n / (n + 1)`."""
        losses = self.config.losses
        optimizer = self.config.generator_optimizer if player == "generator" else self.config.discriminator_optimizer
        every = losses.path_length_every if player == "generator" else losses.r1_every
        ratio = every / (every + 1) if weight else 1.0
        betas = tuple(beta**ratio if beta else 0.0 for beta in optimizer.betas)
        return optimizer.model_copy(update={"lr": optimizer.lr * ratio, "betas": betas})

    def _over_all_processes(self, images: Tensor) -> int:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return len(images) * (torch.distributed.get_world_size() if is_distributed else 1)

    def _preview(self, run: Run, images_seen: int, generator: Generator) -> None:
        z = ItemRandom(EVALUATION_SEED, range(64), "preview").randn(generator.mapping.z_dim)
        images = torch.cat(list(generate(generator, z, self.config.evaluate.batch_size, 1.0, self._fixed_noise())))
        save_grid(images, 8, run.samples / f"preview-{images_seen:09d}.png")

    def _report(self, run: Run, results: Results, images: Float[Tensor, "n channels side side"]) -> None:
        with run_report(run, results, "StyleGAN2", f"{results.images_seen:,} images seen") as report:
            report.section("Images", "Random latents, without truncation.")
            columns = min(8, len(images))
            report.figure(image_grid(images[: len(images) // columns * columns].unflatten(0, (-1, columns))))
