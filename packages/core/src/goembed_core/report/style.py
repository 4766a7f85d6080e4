"""How the project draws: figures whose ink reads on a white and on a black page, on transparent ground."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#787d85"  # contrast 4.1 on the light page, 4.3 on the dark one
FAINT = "#787d8540"
COLOURS = ("#3d85c6", "#e0873e", "#43a077", "#c95f56", "#8d72c4", "#a98a4b", "#4fa3b5", "#c46f9f")
DEVICE_PX = 2  # device pixels per CSS pixel
PAGE_WIDTH_PX = 880  # of the report's column
TEXT_PT = 7.5


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
    axes.tick_params(colors=INK, labelsize=TEXT_PT, length=0, pad=4)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=INK, size=TEXT_PT)
    axes.yaxis.label.set(color=INK, size=TEXT_PT)
    for offset in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        offset.set(color=INK, size=TEXT_PT)
    return axes


def legend(axes: Axes, columns: int = 4) -> tuple[float, float]:
    """The names of the lines in rows above the plot, where they hide nothing; their width and height in CSS pixels."""
    names = axes.legend(
        frameon=False,
        fontsize=TEXT_PT,
        labelcolor=INK,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        handlelength=1.1,
        handletextpad=0.5,
        columnspacing=1.4,
        borderaxespad=0.2,
        borderpad=0,
    )
    extent = names.get_window_extent(FigureCanvasAgg(axes.figure).get_renderer())
    return extent.width / DEVICE_PX, extent.height / DEVICE_PX


def text_width(text: str) -> float:
    """The width of a text, its longest line if it has several, in CSS pixels."""
    figure = new_figure(1, 1)
    extent = figure.text(0, 0, text, size=TEXT_PT).get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return extent.width / DEVICE_PX
