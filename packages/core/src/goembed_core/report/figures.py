"""Pictures for reports: grids of images and heat maps with labels, strips of a walk through a space, lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from goembed_core.errors import UserError
from goembed_core.report.style import (
    COLOURS,
    DEVICE_PX,
    INK,
    PAGE_WIDTH_PX,
    TEXT_PT,
    legend,
    new_figure,
    quiet,
    text_width,
)

LARGEST_TILE = 256  # device pixels that small images are enlarged to
LINE_PX = 13
LEGEND_COLUMNS = 4  # at most


def to_uint8(images: Float[Tensor, "*batch channels height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    """Images in [-1, 1], grey or RGB, as uint8 `(*batch, H, W, 3)`; values outside are clipped."""
    if images.ndim < 3 or images.shape[-3] not in (1, 3):
        raise UserError(f"images must be (..., 1 or 3 channels, H, W); got shape {tuple(images.shape)}")
    levels = ((images.detach().float().cpu().nan_to_num().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.movedim(-3, -1).expand(*levels.shape[:-3], *levels.shape[-2:], 3).numpy()


def image_grid(
    images: Float[Tensor, "rows columns channels height width"],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap_px: int = 4,
) -> Figure:
    """A grid of images in [-1, 1], enlarged by a whole factor without smoothing; a tile of NaN stays empty."""
    if images.ndim != 5:
        raise UserError(f"a grid needs images (rows, columns, channels, H, W); got shape {tuple(images.shape)}")
    opaque = images.detach().isfinite().flatten(2).all(2).cpu().numpy()
    alpha = np.broadcast_to(opaque[:, :, None, None, None] * np.uint8(255), (*opaque.shape, *images.shape[-2:], 1))
    return _grid(np.concatenate([to_uint8(images), alpha], axis=-1), row_labels, column_labels, gap_px)


def walk_strip(images: Float[Tensor, "walks steps channels height width"], labels: Sequence[str] = ()) -> Figure:
    """Walks through a space, one a row, the steps touching each other."""
    return image_grid(images, labels, gap_px=0)


def heatmap_grid(
    maps: Float[Tensor, "rows columns height width"],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    label: str = "",
    limits: tuple[float, float] | None = None,
    colours: str = "magma",
) -> Figure:
    """A grid of maps (standard deviations, say) on one scale, which a bar below explains; NaN stays empty.

    `limits` default to zero (or the least value, when negative) and the greatest value of all maps.
    """
    if maps.ndim != 4:
        raise UserError(f"a grid of maps needs (rows, columns, H, W); got shape {tuple(maps.shape)}")
    values = maps.detach().float().cpu().numpy()
    finite = values[np.isfinite(values)]
    low, high = limits or (min(0.0, finite.min(initial=0.0)), finite.max(initial=0.0) or 1.0)
    scale = ScalarMappable(Normalize(low, high), colours)
    figure = _grid(scale.to_rgba(np.ma.masked_invalid(values), bytes=True), row_labels, column_labels, footer_px=48)
    height = figure.get_size_inches()[1] * 100
    sheet = figure.axes[0].get_position()
    left, width = (
        sheet.x0 * figure.get_size_inches()[0] * 100,
        min(180.0, sheet.width * figure.get_size_inches()[0] * 100),
    )
    bar = figure.add_axes(_rectangle(figure, left, height - 24, width, 6))
    figure.colorbar(scale, cax=bar, orientation="horizontal").outline.set_visible(False)
    bar.tick_params(colors=INK, labelsize=TEXT_PT, length=0)
    bar.xaxis.set_major_locator(MaxNLocator(4))
    bar.set_title(label, loc="left", size=TEXT_PT, color=INK, pad=4)
    return figure


def line_plot(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x_label: str = "",
    y_label: str = "",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """Named lines over a common `x`; `bands` gives a line its interval as `(lower, upper)`."""
    left, head, width, height = 52, 26, 500, 230
    figure = new_figure(left + width + 8, head + height + 44)
    axes = quiet(figure.add_axes(_rectangle(figure, left, head, width, height)))
    for index, (name, values) in enumerate(series.items()):
        if len(values) != len(x):
            raise UserError(f"line {name!r} has {len(values)} values for {len(x)} places on the x axis")
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(x, values, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=name)
        if bands and name in bands:
            axes.fill_between(x, *bands[name], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(series) > 1:
        sizes = (legend(axes, columns) for columns in range(LEGEND_COLUMNS, 0, -1))
        above = next((size[1] for size in sizes if size[0] <= width), len(series) * LINE_PX)
        head = max(head, math.ceil(above) + 6)
        figure.set_size_inches((left + width + 8) / 100, (head + height + 44) / 100)
        axes.set_position(_rectangle(figure, left, head, width, height))
    return figure


def _grid(
    tiles: UInt8[np.ndarray, "rows columns height width 4"],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    gap_px: int = 4,
    footer_px: int = 0,
) -> Figure:
    rows, columns, height, width, _ = tiles.shape
    for name, labels, count in (("row", row_labels, rows), ("column", column_labels, columns)):
        if labels and len(labels) != count:
            raise UserError(f"{len(labels)} {name} labels {list(labels)} for {count} {name}s of images")
    left = math.ceil(max((text_width(label) + 10 for label in row_labels), default=0))
    top = max((LINE_PX * (label.count("\n") + 1) + 6 for label in column_labels), default=0)

    gap = gap_px * DEVICE_PX
    room = (PAGE_WIDTH_PX - left) * DEVICE_PX - gap * (columns - 1)
    factor = max(1, min(int(room / (columns * width)), LARGEST_TILE // max(width, height)))
    sheet = np.zeros((rows * (height * factor + gap) - gap, columns * (width * factor + gap) - gap, 4), np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = row * (height * factor + gap), column * (width * factor + gap)
            tile = tiles[row, column].repeat(factor, 0).repeat(factor, 1)
            sheet[y : y + height * factor, x : x + width * factor] = tile

    figure = new_figure(left + sheet.shape[1] / DEVICE_PX, top + sheet.shape[0] / DEVICE_PX + footer_px)
    axes = figure.add_axes(_rectangle(figure, left, top, sheet.shape[1] / DEVICE_PX, sheet.shape[0] / DEVICE_PX))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.set_axis_off()
    step = (height * factor + gap) / DEVICE_PX, (width * factor + gap) / DEVICE_PX
    size = figure.get_size_inches() * 100
    for row, label in enumerate(row_labels):
        y = top + row * step[0] + height * factor / DEVICE_PX / 2
        figure.text((left - 8) / size[0], 1 - y / size[1], label, ha="right", va="center", size=TEXT_PT, color=INK)
    for column, label in enumerate(column_labels):
        x = left + column * step[1] + width * factor / DEVICE_PX / 2
        figure.text(x / size[0], 1 - (top - 5) / size[1], label, ha="center", va="bottom", size=TEXT_PT, color=INK)
    return figure


def _rectangle(figure: Figure, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """A box given in CSS pixels from the top left corner, as matplotlib wants it."""
    total_width, total_height = figure.get_size_inches() * 100
    return x / total_width, 1 - (y + height) / total_height, width / total_width, height / total_height
