"""Reconstructions of images that were not learned, samples and interpolations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.diffusion import squared_error
from goembed_core.metrics.bootstrap import bootstrap_interval
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.randomness import ItemRandom
from goembed_image_datasets.images import ImageDataset
from jaxtyping import Float
from torch import Tensor

from goembed_gon.baseline import num_parameters
from goembed_gon.config import EvaluateConfig
from goembed_gon.model import AutoEncoder, Model

SEED = 1


class Pictures(NamedTuple):
    """What the report shows; images in [-1, 1]."""

    reconstructions: Float[Tensor, "3 n c h w"]  # images, GON's, the auto-encoder's
    samples: Float[Tensor, "n c h w"]
    interpolations: Float[Tensor, "walks steps c h w"]


class Gaussian(NamedTuple):
    """A Gaussian fitted to latents."""

    mean: Float[Tensor, " latent"]
    root: Float[Tensor, "latent latent"]  # of the covariance, lower triangular

    def sample(self, random: ItemRandom) -> Float[Tensor, "n latent"]:
        """One latent for each item."""
        return self.mean + random.randn(len(self.mean)).to(self.mean) @ self.root.mT


@torch.no_grad()
def evaluate(
    config: EvaluateConfig, model: Model, test: ImageDataset, device: torch.device
) -> tuple[Results, Tensor, Tensor]:
    """The figures, and of each test image the squared errors of GON and of the auto-encoder."""
    count = min(config.images, len(test))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(SEED))[:count]
    errors: dict[str, list[Tensor]] = {"gon": [], "autoencoder": []}
    for indices in order.split(config.batch_size):
        images = test.gather(indices).to(device)
        for name in errors:
            solver: AutoEncoder = getattr(model, name)
            found = squared_error(solver.decode(solver.encode(images)), images) / 4
            errors[name].append(found.cpu())
    mine, theirs = (torch.cat(found) for found in errors.values())
    sizes = num_parameters(model.gon.encoder), num_parameters(model.autoencoder)

    def figures(found: Tensor, size: int) -> dict[str, float]:
        return {"mse": found.mean().item(), "psnr": _psnr(found).mean().item(), "parameters": size}

    own = figures(mine, sizes[0])
    notes = {
        "mse": "squared error of test images in [0, 1]",
        "psnr": "dB, of each test image",
        "parameters": "all that is trained; the baseline has the same decoder, and an encoder of as many",
    }
    spread = {"mse": mine, "psnr": _psnr(mine)}
    metrics = {
        name: MetricValue(
            value,
            name == "psnr",
            count,
            notes[name],
            bootstrap_interval(spread[name], n=config.intervals, generator=torch.Generator().manual_seed(SEED))
            if name in spread
            else None,
        )
        for name, value in own.items()
    }
    baselines = {"autoencoder": figures(theirs, sizes[1])}
    return Results("gon", model.facts["images_seen"], metrics, baselines), mine, theirs


@torch.no_grad()
def fit_gaussian(config: EvaluateConfig, solver: AutoEncoder, train: ImageDataset, device: torch.device) -> Gaussian:
    """Mean and covariance of the latents of training images; a variational one has its prior instead."""
    size = solver.decoder.head.size
    if solver.decoder.head.variational:
        return Gaussian(torch.zeros(size, device=device), torch.eye(size, device=device))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))[: config.fitted]
    latents = torch.cat([solver.encode(train.gather(part).to(device)) for part in order.split(config.batch_size)])
    covariance = torch.cov(latents.double().mT) + 1e-9 * torch.eye(size, device=device, dtype=torch.float64)
    return Gaussian(latents.mean(0), torch.linalg.cholesky(covariance).to(latents.dtype))


@torch.no_grad()
def pictures(model: Model, gaussian: Gaussian, test: ImageDataset, device: torch.device) -> Pictures:
    """A few of each."""
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(SEED))
    images = test.gather(order[:12]).to(device)
    rows = [images, *(solver.decode(solver.encode(images)) for solver in (model.gon, model.autoencoder))]
    samples = model.gon.decode(gaussian.sample(ItemRandom(SEED, range(48), "samples", device)))
    ends = model.gon.encode(test.gather(order[12:20]).to(device)).unflatten(0, (4, 2))
    shares = torch.linspace(0, 1, 10, device=device)
    walks = slerp(ends[:, 0], ends[:, 1], shares)
    steps = model.gon.decode(walks.flatten(0, 1)).unflatten(0, (4, 10))
    return Pictures(torch.stack(rows).cpu(), samples.cpu(), steps.cpu())


def slerp(
    a: Float[Tensor, "walks latent"], b: Float[Tensor, "walks latent"], shares: Float[Tensor, " steps"]
) -> Float[Tensor, "walks steps latent"]:
    """Spherical interpolation: `(sin((1 − s) ω) a + sin(s ω) b) / sin ω`, `ω` the angle between them."""
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()[:, None]
    first, second = torch.sin((1 - shares) * angle), torch.sin(shares * angle)
    return (first[:, :, None] * a[:, None] + second[:, :, None] * b[:, None]) / torch.sin(angle)[:, :, None]


def _psnr(error: Tensor) -> Tensor:
    """Of squared errors of images in [0, 1]."""
    return -10 * error.clamp(min=1e-12).log10()
