"""Encodes views in each representation, trained by equally many steps, and puts all in one table and one picture.

`python benchmarks/representations.py --views FOLDER --out FOLDER [--images N] [--objects N]`.

Each is a run of `task=plenoptic_encoding` with encodings of one, two and three gradient steps, beside unprojection
where there are cells; a run that is there and has seen as many objects is not made again.  `--views` is what
`goembed render-meshes` has written.  Writes `table.md` (PSNR in dB of held-out objects from other views, by the number
of views given) and `picture.png` (a held-out view of some objects; then, for each representation, what it is decoded to
from four views).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from goembed_core import cli
from goembed_core.config.resolve import resolve_run
from goembed_core.report.figures import to_uint8
from goembed_core.runs import Run
from goembed_core.trees import select_views
from goembed_fusion import methods as models
from goembed_fusion.evaluation import Judge
from goembed_fusion.scenes import load
from PIL import Image
from torch import Tensor

TASK, STEPS, SOURCES = "plenoptic_encoding", (1, 2, 3), (1, 2, 4, 8)
PRESETS = {"voxels": "quick", "triplane": "triplane", "factored": "factored", "sines": "siren"}
SHOWN = 4  # objects in the picture


def train(name: str, options: argparse.Namespace) -> Path:
    """The run of one representation, which is made unless it is there."""
    directory = options.out / name
    metrics = directory / "metrics.json"
    if metrics.exists() and json.loads(metrics.read_text())["images_seen"] == options.images:
        return directory
    settings = [
        f"task={TASK}", f"preset={PRESETS[name]}", f"run.dir={directory}", f"dataset.path={options.views}",
        f"steps={list(STEPS)}", f"train.images={options.images}", "train.threads=1",
        f"evaluate.objects={options.objects}", f"evaluate.sources={list(SOURCES)}", "evaluate.fit.objects=0",
        *options.settings,
    ]  # fmt: skip
    status = cli.main(["train", *settings])
    if status:
        sys.exit(status)
    return directory


def rows(name: str, directory: Path) -> list[str]:
    """The lines of the table of one run, with what tells steps apart on the same objects."""
    results = json.loads((directory / "metrics.json").read_text())
    metrics, baselines = results["metrics"], results["baselines"]
    named = {str(steps): {k: metrics[f"psnr_k{k}_steps{steps}"]["value"] for k in SOURCES} for steps in STEPS}
    if "unprojection" in baselines:
        named["unprojection"] = {k: baselines["unprojection"][f"psnr_k{k}"] for k in SOURCES}
    lines = [f"| {name} | {what} | {' | '.join(f'{each[k]:.1f}' for k in SOURCES)} |" for what, each in named.items()]
    gains = [metrics[f"over_one_step_k{k}"] for k in SOURCES]
    told = [f"{g['value']:+.2f} ({g['interval'][0]:.2f} … {g['interval'][1]:.2f})" for g in gains]
    lines.append(f"| {name} | three over one | {' | '.join(told)} |")
    return lines


def white(directory: Path) -> str:
    """The line of what every view is at least."""
    found = json.loads((directory / "metrics.json").read_text())["baselines"]["white"]
    return "| white | | " + " | ".join(f"{found[f'psnr_k{k}']:.1f}" for k in SOURCES) + " |"


@torch.no_grad()
def column(directory: Path) -> tuple[Tensor, Tensor]:
    """A held-out view of each object of the picture, and what one run makes of it from four others."""
    run = Run.open(directory)
    config = resolve_run(run.dir).config
    model = models.load(run.model, TASK)
    judge = Judge(config.evaluate, load(config.dataset, "test"), torch.device("cpu"))
    chosen = judge.everything[:: max(1, len(judge.everything) // SHOWN)][:SHOWN]
    truth = select_views(judge.targets(chosen), slice(0, 1))
    forward_model = model.methods[model.best].forward_model
    found = forward_model(model.embed(model.best, judge.sources(chosen, 4)), truth.params)
    return torch.cat(list(truth.values[:, 0]), -2), torch.cat(list(found[:, 0]), -2)


def main() -> None:
    """Train what is not there, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--objects", type=int, default=16)
    parser.add_argument("--only", choices=PRESETS, nargs="+", default=list(PRESETS))
    parser.add_argument("settings", nargs="*", metavar="key=value", help="further settings of every run")
    options = parser.parse_args()
    runs = {name: train(name, options) for name in options.only}
    lines = ["| representation | steps | " + " | ".join(f"{k} view{'s' * (k > 1)}" for k in SOURCES) + " |"]
    lines += ["|---|---|" + "---|" * len(SOURCES)]
    for name, directory in runs.items():
        lines += rows(name, directory)
    table = "\n".join([*lines, white(directory)]) + "\n"
    (options.out / "table.md").write_text(table)
    print(table)
    columns = [column(directory) for directory in runs.values()]
    picture = torch.cat([columns[0][0], *(found for _, found in columns)], -1)
    large = torch.nn.functional.interpolate(picture[None], scale_factor=3)[0]
    Image.fromarray(to_uint8(2 * large - 1)).save(options.out / "picture.png")


if __name__ == "__main__":
    main()
