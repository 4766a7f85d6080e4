"""`python -m goembed_gan_inversion.embed RUN`: make a run's model the one that the package carries, as float16."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from goembed_core.config import resolve_run
from goembed_core.errors import UserError
from goembed_core.runs import Run

from goembed_gan_inversion import model as models


def embed(run: Run, destination: Path) -> None:
    """Write the networks of a run's model to `destination` as float16, with the settings they were trained under."""
    config = resolve_run(run.dir).config
    model = models.load(run.model)
    networks = (model.dfm.denoiser, model.regressor.network)
    models.save(destination, config, *networks, model.images_seen, torch.float16)


def main(arguments: list[str]) -> int:
    """The command."""
    if len(arguments) != 1:
        print("usage: python -m goembed_gan_inversion.embed RUN", file=sys.stderr)
        return 2
    try:
        embed(Run.open(Path(arguments[0]), task="gan_inversion"), models.embedded())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
