"""Images of random latents: streams of batches, grids, and `goembed sample`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from goembed_core.randomness import ItemRandom
from goembed_core.report.figures import to_uint8
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goembed_stylegan_synth.config import SampleConfig
from goembed_stylegan_synth.networks import Generator
from goembed_stylegan_synth.weights import load_generator

SMALLEST_TILE_PX = 64  # small images are enlarged to at least this


@torch.no_grad()
def generate(
    generator: Generator, z: Float[Tensor, "n z_dim"], batch_size: int, truncation_psi: float, noise: str = "const"
) -> Iterator[Float[Tensor, "batch channels side side"]]:
    """The images of latents, in batches, on the generator's device."""
    device = generator.mapping.w_avg.device
    for part in z.split(batch_size):
        yield generator(part.to(device), truncation_psi, noise=noise).float()


def save_grid(images: Float[Tensor, "n channels side side"], columns: int, path: Path) -> None:
    """A PNG of images in rows of `columns`, pixels enlarged by a whole factor."""
    tiles = to_uint8(images)
    count, side = len(tiles), tiles.shape[1]
    rows = -(-count // columns)
    canvas = np.zeros((rows * columns, *tiles.shape[1:]), np.uint8)
    canvas[:count] = tiles
    grid = canvas.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    factor = max(1, SMALLEST_TILE_PX // side)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.repeat(factor, axis=0).repeat(factor, axis=1)).save(path)


def sample_run(weights: Path | str, folder: Path, config: SampleConfig) -> Path:
    """A grid of the generator's images as `grid-seed-SEED.png`; returns the folder."""
    generator = load_generator(weights).generator.eval()
    generator.to("cuda" if torch.cuda.is_available() else "cpu")
    z = ItemRandom(config.seed, range(config.rows * config.columns), "sample").randn(generator.mapping.z_dim)
    images = torch.cat(list(generate(generator, z, 64, config.truncation_psi)))
    save_grid(images, config.columns, folder / f"grid-seed-{config.seed}.png")
    return folder
