"""What the report of an encoding shows."""

from __future__ import annotations

import torch
from goembed_core.metrics.bootstrap import median
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid, line_plot
from goembed_triplane.grids import Triplane, Voxels
from jaxtyping import Float
from torch import Tensor

from goembed_fusion.config import EvaluateConfig
from goembed_fusion.evaluation import FITTED, UNPATCH, Evaluation, Judge, shown_sources
from goembed_fusion.methods import Model

KINDS = {"steps": ""} | {kind: f"\n{kind}" for kind in ("detached", "plain", *UNPATCH)}
LABELS = {
    "unprojection": "unprojection",
    "mean_image": "mean image",
    "white": "white",
    FITTED: "fitted",
}


def label(name: str) -> str:
    """What the report calls a method: `3 steps`; its own name, where the settings named it."""
    count = name.lstrip("abcdefghijklmnopqrstuvwxyz_")
    kind = name.removesuffix(count)
    if count and kind in KINDS:
        return f"{count} step{'' if count == '1' else 's'}{KINDS[kind]}"
    return LABELS.get(name, name.replace("_", " "))


@torch.no_grad()
def compose(report: Report, config: EvaluateConfig, model: Model, judge: Judge, found: Evaluation) -> None:
    """The sections between the figures and the training curves."""
    counts = list(config.sources)
    report.section(
        "Views and steps",
        f"PSNR in dB over {config.targets} views that no method sees of {len(found.held_out.objects)} objects that no "
        f"method has learned; fitting is of the first {config.fit.objects} of them.",
    )
    rows = [[label(name), *(scores[count].mean().item() for count in counts)] for name, scores in found.scores.items()]
    report.table(["method", *(f"{count} view{'s' * (count > 1)}" for count in counts)], rows)
    if found.at_sources:
        rows = [
            [label(name), *(scores[count].mean().item() for count in counts)]
            for name, scores in found.at_sources.items()
        ]
        caption = f"The same at the views that were encoded, of the {config.fit.objects} objects that were fitted"
        report.table(["method", *(f"{count} view{'s' * (count > 1)}" for count in counts)], rows, caption)
    lines = {label(name): [found.scores[name][count].mean().item() for count in counts] for name in model.methods}
    report.figure(line_plot(counts, lines, "source views", "PSNR, dB"), "More views, and more steps")
    count = shown_sources(config)
    rows_shown = judge.everything[: config.pictures]
    sources, targets = judge.sources(rows_shown, count), judge.targets(rows_shown)
    shown = [sources.values, targets.values[:, :1]]
    first = targets.params._replace(
        camera=type(targets.params.camera)(*(leaf[:, :1] for leaf in targets.params.camera)),
        pixels=targets.params.pixels[:, :1],
        image_size=targets.params.image_size[:, :1],
    )
    signals = {}
    for name, method in model.methods.items():
        signals[name] = model.embed(name, sources)
        shown.append(method.forward_model(signals[name], first))
    report.section(
        "Held-out objects",
        f"The {count} views that are encoded, a view that is not, and what each method shows from there.",
    )
    titles = [*(f"source {n + 1}" for n in range(count)), "truth", *map(label, model.methods)]
    names = [judge.scenes.names[int(item)] for item in found.held_out.objects[rows_shown]]
    report.figure(image_grid(2 * torch.cat(shown, 1).cpu() - 1, names, titles), "Sources, truth and renderings")
    representation = model.methods[model.best].forward_model.decode.representation
    kind = type(representation)
    if isinstance(representation, Triplane | Voxels):
        alike = {n: m for n, m in model.methods.items() if type(m.forward_model.decode.representation) is kind}
        maps = {label(name): planes_of(representation, signals[name]) for name in alike}
        report.section("Encodings", "The length of the features in each cell; of voxels, the mean along an axis.")
        for title, lengths in maps.items():
            report.figure(
                heatmap_grid(lengths[:4].cpu(), names[:4], ("xy", "xz", "yz"), "length of the feature"), title
            )
    if found.patterns:
        rows = [
            [label(name), *(median(found.patterns[kind + name].double()).item() for kind in ("", "added_"))]
            for name in model.methods
            if name in found.patterns
        ]
        caption = "Energy at the patches' frequency over that around it, median of objects; 1 where nothing repeats."
        report.table(["method", "its planes", "what it adds to those it is given"], rows, caption)


def planes_of(representation: Triplane | Voxels, signal: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch 3 r r"]:
    """The length of the features of a triplane, `(B, 3, C, R, R)`, or of voxels, `(B, C, R, R, R)`, along each axis."""
    if isinstance(representation, Triplane):
        return signal.norm(dim=2)
    length = signal.norm(dim=1)
    return torch.stack([length.mean(axis + 1) for axis in range(3)], 1)
