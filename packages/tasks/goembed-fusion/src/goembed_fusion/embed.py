"""`python -m goembed_fusion.embed RUN`: make a run's model the one that the package carries, with views and credits."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from goembed_core.config import resolve_run
from goembed_core.errors import UserError
from goembed_core.files import write_atomically
from goembed_core.protocols import Observations
from goembed_core.runs import Run
from goembed_nerf_renderer.cameras import Camera, whole_image
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from goembed_fusion import methods as models
from goembed_fusion.evaluation import Judge
from goembed_fusion.methods import Model
from goembed_fusion.scenes import load
from goembed_fusion.trained import TASK, embedded

OBJECTS = 8  # that are shown
LICENCES = {
    "CC0": "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)",
    "CC-BY 3.0 US": "[CC BY 3.0 US](https://creativecommons.org/licenses/by/3.0/us/)",
    "CC-BY 3.0": "[CC BY 3.0](https://creativecommons.org/licenses/by/3.0/)",
}


def load_embedded(device: torch.device | str = "cpu") -> tuple[Model, Observations]:
    """The model, and views of some objects that it has not seen."""
    tensors = load_file(embedded() / "views.safetensors", device=str(device))
    images = tensors["images"].float() / 255
    camera = Camera(tensors["camera_to_world"], tensors["intrinsics"])
    views = Observations(images, whole_image(camera, *images.shape[-2:]))
    return models.load(embedded() / "model", TASK, device), views


@torch.no_grad()
def embed(run: Run, destination: Path) -> None:
    """Write a run's model, views of the first held-out objects, and whose objects it was trained on.

    **Raises:** UserError for a dataset whose `objects.json` does not say who made its objects.
    """
    config = resolve_run(run.dir).config
    model = models.load(run.model, TASK)
    credits_ = _credits(Path(config.dataset.settings.path))
    test = load(config.dataset, "test")
    judge = Judge(config.evaluate, test, torch.device("cpu"))
    every = max(1, len(judge.everything) // OBJECTS)
    rows = judge.everything[::every][:OBJECTS]
    sources = judge.sources(rows, judge.held_out.sources.shape[1])
    tensors = {"images": (sources.values * 255).round().to(torch.uint8), **sources.params.camera._asdict()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    names = [test.names[int(number)] for number in judge.held_out.objects[rows]]
    models.save(destination / "model", config, model.methods, {k: model.facts[k] for k in ("images_seen", "seconds")})
    write_atomically(destination / "views.safetensors", save_tensors(tensors, {"names": json.dumps(names)}))
    write_atomically(destination / "CREDITS.md", credits_)


def _credits(folder: Path) -> str:
    """Who made what, from what `goembed render-meshes` has written of the objects."""
    makers: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    try:
        for one in json.loads((folder / "objects.json").read_text())["objects"]:
            about = one["about"]
            licence = next(text for name, text in LICENCES.items() if about["licence"].startswith(name))
            makers[licence, about["library"], about["creator"]].append(about["name"])
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise UserError(
            f"{folder / 'objects.json'} does not say who made its objects ({error!r}): expected creator, library, name "
            f"and a licence of {', '.join(LICENCES)} of each, as the furniture's has them"
        ) from error
    rows = [
        f"| {licence} | {library} | {creator} | {_counted(names)} |"
        for (licence, library, creator), names in sorted(makers.items())
    ]
    return CREDITS.format(count=sum(map(len, makers.values())), rows="\n".join(rows))


def _counted(names: list[str]) -> str:
    different: dict[str, Any] = dict.fromkeys(sorted(names))
    return ", ".join(name if names.count(name) == 1 else f"{name} ({names.count(name)})" for name in different)


CREDITS = """# Credits of the embedded model and its views

The model was trained on renderings of {count} textured objects (a tenth of them held out) of the furniture libraries
of Sweet Home 3D (Debian's `sweethome3d-furniture` 1.8), and some of the held-out ones are shown by `views.safetensors`.
The objects were changed: textures were made smaller, and what is here are renderings. By licence, library and author:

| licence | library | author | objects |
|---|---|---|---|
{rows}

Objects of `Scopia.sh3f`: copyright eTeks and Scopia. None of the authors endorses this package.
"""


def main(arguments: list[str]) -> int:
    """The command."""
    if len(arguments) != 1:
        print("usage: python -m goembed_fusion.embed RUN", file=sys.stderr)
        return 2
    try:
        embed(Run.open(Path(arguments[0]), task=TASK), embedded())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
