"""The pictures in reports: pixels where they belong, curves from the log of training."""

import json
import warnings

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.report.curves import curve_figures, read_curves, smooth
from goembed_core.report.figures import heatmap_grid, image_grid, line_plot, to_uint8, walk_strip
from goembed_core.report.style import DEVICE_PX, PAGE_WIDTH_PX, text_width
from matplotlib.backends.backend_agg import FigureCanvasAgg


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_levels_of_images():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(5, 1, 1, 1)
    assert to_uint8(images)[:, 0, 0].tolist() == [[level] * 3 for level in (0, 0, 128, 255, 255)]
    colour = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert to_uint8(colour).shape == (2, 4, 5, 3) and to_uint8(colour)[1, 3, 4].tolist() == [0, 128, 255]
    with pytest.raises(UserError, match=r"1 or 3 channels.*got shape \(2, 4, 4\)"):
        to_uint8(torch.zeros(2, 4, 4))


def test_a_grid_enlarges_every_pixel_to_a_whole_square():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 3, 5, 5, generator=generator) * 2 - 1
    sheet = pixels(image_grid(images, gap_px=4))
    gap, factor = 4 * DEVICE_PX, 256 // 5
    assert sheet.shape == (2 * 5 * factor + gap, 3 * 5 * factor + 2 * gap, 4)
    levels = to_uint8(images)
    for row in range(2):
        for column in range(3):
            y, x = row * (5 * factor + gap), column * (5 * factor + gap)
            tile = sheet[y : y + 5 * factor, x : x + 5 * factor]
            assert (tile[..., :3] == levels[row, column].repeat(factor, 0).repeat(factor, 1)).all()
            assert (tile[..., 3] == 255).all()
    assert (sheet[5 * factor : 5 * factor + gap, :, 3] == 0).all()


def test_labels_stand_beside_the_tiles_and_are_not_cut_off():
    images = torch.zeros(2, 3, 1, 8, 8)
    bare, figure = image_grid(images), image_grid(images, ["a long row label", "b"], ["one", "two\nlines", "three"])
    assert (figure.get_size_inches() > bare.get_size_inches()).all()
    assert [text.get_text() for text in figure.texts] == ["a long row label", "b", "one", "two\nlines", "three"]
    sheet = pixels(figure)
    assert (sheet[:, 0, 3] == 0).all() and (sheet[0, :, 3] == 0).all()  # no ink touches the border
    left = sheet.shape[1] - pixels(bare).shape[1]
    ink = np.nonzero(sheet[:, :left, 3].any(0))[0]
    assert 0 < ink.min() < ink.max() < left
    assert text_width("wide words") > text_width("ill") > 0 == text_width("")


def test_grids_fit_the_page_and_large_images_keep_their_pixels():
    assert pixels(image_grid(torch.zeros(1, 10, 1, 32, 32), ["label"])).shape[1] <= PAGE_WIDTH_PX * DEVICE_PX
    large = pixels(image_grid(torch.zeros(1, 2, 3, 300, 400), gap_px=0))
    assert large.shape == (300, 800, 4)


def test_an_image_of_nan_is_an_empty_tile():
    images = torch.zeros(1, 2, 1, 4, 4)
    images[0, 1] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alpha = pixels(image_grid(images, gap_px=0))[..., 3]
    half = alpha.shape[1] // 2
    assert (alpha[:, :half] == 255).all() and (alpha[:, half:] == 0).all()


def test_steps_of_a_walk_touch():
    sheet = pixels(walk_strip(torch.full((1, 4, 1, 8, 8), 1.0)))
    assert (sheet == 255).all()


def test_heat_maps_share_one_scale():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 2.0), torch.full((4, 4), torch.nan)])[None]
    figure = heatmap_grid(maps, ["std"], label="units")
    sheet = pixels(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", "units"]
    assert tuple(figure.axes[1].get_xlim()) == (0.0, 2.0)
    middle = sheet[sheet.shape[0] // 4]
    colours = {tuple(int(level) for level in pixel) for pixel in middle if pixel[3] == 255}
    assert {(0, 0, 3, 255), (251, 252, 191, 255)} <= colours  # the ends of magma
    assert tuple(heatmap_grid(maps - 1, limits=(-3, 3)).axes[1].get_xlim()) == (-3, 3)
    assert tuple(heatmap_grid(maps - 1).axes[1].get_xlim()) == (-1, 1)
    heatmap_grid(torch.zeros(1, 1, 4, 4))


def test_lines_and_their_bands():
    figure = line_plot([1, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}, "n", "dB", {"a": ([0, 1, 2], [2, 3, 4])})
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["a", "b"] and len(axes.collections) == 1
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("n", "dB")
    with pytest.raises(UserError, match="line 'a' has 2 values for 3 places"):
        line_plot([1, 2, 3], {"a": [1, 2]})


@pytest.mark.parametrize(("names", "taller"), [
    (["a", "b", "c", "d"], False),
    ([f"{n} steps" for n in range(9)], True),
    ([f"{n} steps,\nlinear un-patching" for n in range(6)], True),
    ([f"an encoding whose name is longer than most, number {n}" for n in range(5)], True),
])  # fmt: skip
def test_the_names_of_many_lines_are_within_the_figure(names, taller):
    figure = line_plot([1, 2, 3], {name: [1, 2, 3] for name in names}, "n", "dB")
    width, height = figure.get_size_inches() * 100
    assert width == 560 and (height > 310) == taller
    scale = figure.dpi / 100
    shown = figure.axes[0].get_legend().get_window_extent()
    assert shown.x0 >= 0 and shown.x1 <= width * scale and shown.y1 <= height * scale
    assert shown.y0 >= figure.axes[0].get_window_extent().y1  # above the lines
    plot = figure.axes[0].get_window_extent()
    assert (plot.width / scale, plot.height / scale) == pytest.approx((500, 230))


def test_shapes_are_checked_in_words():
    with pytest.raises(UserError, match=r"rows, columns, channels, H, W\); got shape \(1, 8, 8\)"):
        image_grid(torch.zeros(1, 8, 8))
    with pytest.raises(UserError, match=r"1 row labels \['a'\] for 2 rows"):
        image_grid(torch.zeros(2, 1, 1, 8, 8), ["a"])
    with pytest.raises(UserError, match=r"rows, columns, H, W\); got shape \(8, 8\)"):
        heatmap_grid(torch.zeros(8, 8))


@pytest.fixture
def log(tmp_path):
    def write(*rows, tail=""):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
        return path

    return write


def test_curves_of_a_log(log):
    path = log(
        {"images": 10, "g/loss": 1.0, "note": "text", "flag": True, "nested": {"inner": 3}},
        {"images": 10, "eval/psnr": 20.0},
        {"images": 20, "g/loss": 2, "nested": {"inner": 4}},
    )
    curves = {key: (x.tolist(), y.tolist()) for key, (x, y) in read_curves(path).items()}
    assert curves == {
        "g/loss": ([10, 20], [1, 2]),
        "nested/inner": ([10, 20], [3, 4]),
        "eval/psnr": ([10], [20]),
    }


def test_a_resumed_run_replaces_what_it_did_again(log):
    rows = [{"images": n, "loss": float(n)} for n in (10, 20, 30)]
    again = [{"images": n, "loss": -float(n)} for n in (20, 25)]
    images, values = read_curves(log(*rows, *again))["loss"]
    assert images.tolist() == [10, 20, 25] and values.tolist() == [10, -20, -25]


def test_a_line_cut_off_by_a_crash_is_passed_over(log):
    path = log({"images": 10, "loss": 1.0}, tail='{"images": 20, "lo')
    assert read_curves(path)["loss"][0].tolist() == [10]
    path = log(tail='{"images": 10, "lo\n{"images": 20, "loss": 1}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1: expected a JSON object with 'images'"):
        read_curves(path)


def test_smoothing_is_an_average_over_images():
    images, values = np.array([0.0, 10.0, 20.0]), np.array([1.0, 3.0, 5.0])
    assert smooth(images, values, 10.0).tolist() == pytest.approx([1, (0.5 + 3) / 1.5, (0.25 + 1.5 + 5) / 1.75])
    assert smooth(images, values, 0.0).tolist() == values.tolist()
    assert smooth(images, np.array([np.nan, 3.0, np.inf]), 10.0)[1:].tolist() == pytest.approx([3, 3])
    assert smooth(images, np.full(3, 0.1), 10.0).tolist() == pytest.approx([0.1] * 3)


def test_one_plot_a_group(log):
    rows = [{"images": 100 * i, "g/loss": 1 / i, "g/penalty": 0.1, "d/loss": 2.0, "lr": 1e-3} for i in range(1, 2000)]
    rows[5]["g/loss"] = 1e9  # a spike
    rows[9]["g/loss"] = float("nan")
    figures = curve_figures(log(*rows))
    assert list(figures) == ["g", "d", "lr"]
    axes = figures["g"].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "penalty"]
    assert figures["lr"].axes[0].get_legend() is None
    assert all(len(line.get_xdata()) <= 1500 for line in axes.lines)
    assert np.nanmax(axes.lines[0].get_ydata()) <= 1e9
    bottom, top = figures["d"].axes[0].get_ylim()
    assert bottom < 2 < top


def test_a_spike_does_not_flatten_the_curve(log):
    rows = [{"images": 100 * i, "loss": 1.0 + 0.1 * (i % 7)} for i in range(1, 2000)]
    rows[1000]["loss"] = 1e3
    bottom, top = curve_figures(log(*rows))["loss"].axes[0].get_ylim()
    assert 0 < bottom < 1 and 1.6 < top < 2


def test_a_log_of_one_line_or_of_no_numbers(log):
    figure = curve_figures(log({"images": 64, "loss": 0.5}))["loss"]
    assert pixels(figure)[..., 3].any()
    assert curve_figures(log({"images": 64, "loss": float("nan")})).keys() == {"loss"}
    assert curve_figures(log({"images": 64})) == {}
    assert curve_figures(log()) == {}
