"""How the project draws: figures whose ink reads on a white and on a black page, on transparent ground."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#7b818a"  # contrast 3.9 on the light page, 4.7 on the dark one
FAINT = "#7b818a40"
COLOURS = ("#3d85c6", "#e0873e", "#43a077", "#c95f56", "#8d72c4", "#a98a4b", "#4fa3b5", "#c46f9f")
DEVICE_PX = 2  # device pixels per CSS pixel
PAGE_WIDTH_PX = 880  # of the report's column


def new_figure(width_px: float, height_px: float) -> Figure:
    """An empty transparent figure of that many CSS pixels (100 to the inch)."""
    figure = Figure(figsize=(width_px / 100, height_px / 100), dpi=100 * DEVICE_PX)
    figure.patch.set_alpha(0)
    return figure


def quiet(axes: Axes) -> Axes:
    """Only what is needed to read the values: no box, faint grid, small grey labels."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=7, length=0, pad=4)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=INK, size=7.5)
    axes.yaxis.label.set(color=INK, size=7.5)
    for offset in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        offset.set(color=INK, size=7)
    return axes


def legend(axes: Axes) -> None:
    """The names of the lines, without a box."""
    axes.legend(frameon=False, fontsize=7, labelcolor=INK, loc="best", handlelength=1.2)
