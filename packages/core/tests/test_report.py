"""The report: one page, everything in it, nothing outside it, and no text that becomes markup."""

import base64
import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.report import Report
from goembed_core.report.strip import MARGIN_PX, WIDTH_PX, strip
from matplotlib.figure import Figure
from PIL import Image

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }} <img src=http://example.com/x.png>"


class Page(HTMLParser):
    """What a browser would make of the page."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words, self.unclosed = [], [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def results():
    return Results(
        "gan_inversion",
        4_000_000,
        {
            "psnr_db": MetricValue(21.5, True, 512, "one view given", (21.1, 21.9)),
            "frechet": MetricValue(14.25, False, 5000),
            "lonely": MetricValue(float("nan"), False, 7),
        },
        {"untrained": {"psnr_db": 11.0, "frechet": 180.0}, "optimised": {"psnr_db": 21.7, "frechet": 9.5}},
    )


@pytest.fixture
def log(tmp_path):
    rows = [{"images": 64 * i, "g/loss": 1 / i, "g/penalty": 0.1, "lr": 1e-3} for i in range(1, 20)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def report(results, log):
    report = Report("A title", "A subtitle")
    report.command("goembed train task=gan_inversion train.images=4000000")
    report.environment({"python": "3.11", "gpu": {"name": "H200", "count": 2}, "packages": ["torch 2.13", "numpy 2"]})
    report.section("Results", "First paragraph.\n\nSecond\nparagraph.")
    report.metrics(results)
    report.section("Training", "")
    report.curves(log, "Over images.")
    report.section("Results", "Again.")
    report.table(["stage", "seconds"], [["train", 5123.4], ["sample", 61]], "Times.")
    report.figure(np.zeros((4, 6), np.uint8), "A black picture.")
    report.text("Closing words.")
    return report


def test_everything_is_on_the_page(report):
    page = Page(report.html(datetime(2026, 3, 1, 10, 30, tzinfo=UTC)))
    assert not page.open
    for expected in (
        *("A title", "A subtitle", "goembed train task=gan_inversion train.images=4000000"),
        *("python 3.11", "gpu.name H200", "gpu.count 2", "packages torch 2.13, numpy 2"),
        *("First paragraph. Second paragraph.", "g", "lr", "Over images.", "Closing words.", "A black picture."),
        *("stage seconds train 5,123 sample 61", "Times.", "Written by goembed, 2026-03-01 10:30 UTC."),
        *("psnr_db ↑ one view given 21.50 21.10 – 21.90 512 11.00 21.70", "frechet ↓ 14.25 5,000 180.0 9.500"),
        *("lonely ↓ – 7", "After 4,000,000 images. Ranges are 95 % intervals. A baseline is green"),
    ):
        assert expected in page.text
    assert len(page.all("p")) == 1 + 2 + 1 + 1  # the subtitle, two paragraphs, "Again.", the closing words


def test_baselines_are_coloured_by_the_comparison(report):
    found = re.findall(r'<span class="(won|lost)"[^>]*>([\d.]+)</span>|<span>([\d.]+)</span>', report.html())
    assert found == [("won", "11.00", ""), ("", "", "21.70"), ("won", "180.0", ""), ("lost", "9.500", "")]


def test_sections_can_be_reached(report):
    page = Page(report.html())
    targets = [attributes["href"] for attributes in page.all("a")]
    assert targets == ["#results", "#training", "#results-2"]
    assert ["#" + attributes["id"] for attributes in page.all("h2")] == targets


def test_the_page_needs_nothing_from_outside(report):
    html = report.html()
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "href", "xlink:href", "action", "poster"):
                assert value.startswith(("data:image/", "#"))
    assert not re.search(r"@import|url\(|https?://", re.sub(r"base64,[\w+/=]+", "", html))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme: dark" in html


def test_no_text_becomes_markup(tmp_path):
    report = Report(HOSTILE, HOSTILE)
    report.command(HOSTILE)
    report.environment({HOSTILE: HOSTILE}, title=HOSTILE)
    report.section(HOSTILE, HOSTILE)
    report.table([HOSTILE], [[HOSTILE]], HOSTILE)
    report.figure(np.zeros((2, 2, 3), np.uint8), HOSTILE)
    report.metrics(Results(HOSTILE, 1, {HOSTILE: MetricValue(1.0, True, 1, HOSTILE)}, {HOSTILE: {HOSTILE: 2.0}}))
    (tmp_path / "log.jsonl").write_text(json.dumps({"images": 1, HOSTILE: 1.0, f"{HOSTILE}/a": 2.0}) + "\n")
    report.curves(tmp_path / "log.jsonl", HOSTILE)
    page = Page(report.html())
    assert not page.all("script")
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert page.text.count("alert('x')") >= 14 and "{{ 7 * 7 }}" in page.text


def decode(html, index=0):
    address = re.findall(r'src="data:image/(\w+);base64,([^"]+)" width="(\d+)" height="(\d+)"', html)[index]
    return np.array(Image.open(io.BytesIO(base64.b64decode(address[1])))), int(address[2]), int(address[3])


def test_pictures_survive_without_loss():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    report = Report("t")
    for picture in (array, Image.fromarray(array), np.dstack([array, array[..., :1]]), array[..., 0]):
        report.figure(picture)
    html = report.html()
    for index in (0, 1):
        found, width, height = decode(html, index)
        assert (found == array).all() and (width, height) == (7, 5)
    assert decode(html, 2)[0].shape == (5, 7, 4)
    assert (decode(html, 3)[0].reshape(5, 7, -1)[..., 0] == array[..., 0]).all()


def test_a_matplotlib_figure_has_its_size_and_twice_the_pixels():
    figure = Figure(figsize=(3, 2))
    figure.add_axes((0, 0, 1, 1)).plot([0, 1])
    report = Report("t")
    report.figure(figure)
    found, width, height = decode(report.html())
    assert (width, height) == (300, 200) and found.shape[:2] == (400, 600)


def test_a_picture_too_large_for_webp_is_a_png():
    report = Report("t")
    report.figure(np.zeros((1, 16384), np.uint8))
    assert "data:image/png" in report.html()


def test_writing_is_atomic(report, tmp_path, monkeypatch):
    report.write(tmp_path / "deep" / "report.html")
    before = (tmp_path / "deep" / "report.html").read_text()
    assert before.startswith("<!doctype html>") and before.rstrip().endswith("</html>")

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    report.text("more")
    with pytest.raises(OSError, match="disk full"):
        report.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text() == before
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_errors_say_what_is_wrong(tmp_path):
    report = Report("t")
    with pytest.raises(UserError, match=r"2 columns \['a', 'b'\] got a row of 1"):
        report.table(["a", "b"], [[1]])
    with pytest.raises(UserError, match=r"uint8 array.*got float64 of shape \(2, 2\)"):
        report.figure(np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"training curves .*none\.jsonl: No such file"):
        report.curves(tmp_path / "none.jsonl")


def test_a_report_without_anything_is_a_page():
    page = Page(Report("only a title").html())
    assert page.text.startswith("only a title") and not page.open and not page.all("nav")


def row(value, higher_is_better, baselines, interval=None):
    metrics = {"m": MetricValue(value, higher_is_better, 1, "", interval)}
    return Results("t", 0, metrics, {name: {"m": other} for name, other in baselines.items()}).rows()[0]


def test_the_strip_has_better_at_the_right():
    left, right = MARGIN_PX, WIDTH_PX - MARGIN_PX
    higher = strip(row(3.0, True, {"a": 1.0, "b": 2.0}, (2.5, 3.0)))
    assert higher.value == right and [mark.x for mark in higher.baselines] == [left, (left + right) / 2]
    assert higher.interval == (left + 0.75 * (right - left), right)
    lower = strip(row(3.0, False, {"a": 1.0, "b": 2.0}))
    assert lower.value == left and lower.baselines[0] == (right, "a: 1.000") and lower.interval is None


def test_a_figure_without_a_good_direction_grows_to_the_right_and_beats_nobody():
    ratio = row(3.0, None, {"a": 1.0})
    assert strip(ratio).value == WIDTH_PX - MARGIN_PX
    report = Report("t")
    report.metrics(Results("t", 0, {"ratio": ratio.metric}, {"a": {"ratio": 1.0}}))
    page = report.html()
    assert 'title="neither higher nor lower is better">·</span>' in page
    assert 'class="won"' not in page and 'class="lost"' not in page


def test_the_strip_is_logarithmic_when_a_baseline_is_far():
    far = strip(row(10.0, True, {"a": 1.0, "b": 100.0}))
    assert far.value == WIDTH_PX / 2
    assert strip(row(10.0, True, {"a": -1.0, "b": 100.0})).value < WIDTH_PX / 4


def test_the_strip_of_nothing_to_compare():
    assert strip(row(1.0, True, {})) is None
    assert strip(row(float("nan"), True, {"a": 1.0})) is None
    assert strip(row(1.0, True, {"a": float("nan")})) is None
    assert strip(row(2.0, True, {"a": float("nan"), "b": 1.0})).baselines[0].label == "b: 1.000"
