"""`metrics.json`: its exact form, what is refused, and how it is shown."""

import io
import json
import math

import pytest
from goembed_core.errors import UserError
from goembed_core.metrics.results import MetricValue, Results, metric_name, number
from rich.console import Console


@pytest.fixture
def results():
    return Results(
        "gan_inversion",
        4_000_000,
        {
            "psnr_db": MetricValue(21.5, True, 512, "one view given", (21.1, 21.9)),
            "frechet": MetricValue(14.25, False, 5000),
        },
        {"untrained": {"psnr_db": 11.0, "frechet": 180.0}, "optimised": {"psnr_db": 21.7, "frechet": 9.5}},
    )


def test_the_file_has_the_documented_form(results, tmp_path):
    results.write(tmp_path / "deep/metrics.json")
    assert json.loads((tmp_path / "deep/metrics.json").read_text()) == {
        "task": "gan_inversion",
        "images_seen": 4000000,
        "metrics": {
            "psnr_db": {
                "value": 21.5,
                "higher_is_better": True,
                "n": 512,
                "note": "one view given",
                "interval": [21.1, 21.9],
            },
            "frechet": {"value": 14.25, "higher_is_better": False, "n": 5000, "note": "", "interval": None},
        },
        "baselines": {
            "untrained": {"psnr_db": 11.0, "frechet": 180.0},
            "optimised": {"psnr_db": 21.7, "frechet": 9.5},
        },
    }
    assert Results.read(tmp_path / "deep/metrics.json") == results


def test_a_failed_write_leaves_the_old_file(results, tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        results.write(path)
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_numbers_that_json_does_not_have(tmp_path):
    Results("t", 0, {"psnr_db": MetricValue(math.inf, True, 1, "", (1.0, math.inf))}).write(tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["metrics"]["psnr_db"]["value"] is None
    metric = Results.read(tmp_path / "m.json").metrics["psnr_db"]
    assert math.isnan(metric.value) and metric.interval[0] == 1.0 and math.isnan(metric.interval[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"m.json is not a metrics.json: the file: Invalid JSON"),
        ('{"task": "t", "images_seen": -1, "metrics": {}}', "images_seen: Input should be greater than or equal to 0"),
        ('{"task": "t", "images_seen": 1, "metrics": {"a": {"value": 1}}}', r"metrics\.a\.higher_is_better: Field req"),
        ('{"task": "t", "images_seen": 1, "metrics": {}, "more": 1}', "more: Unexpected keyword argument"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Results.read(tmp_path / "m.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.json: No such file or directory; `goembed evaluate` writes them"):
        Results.read(tmp_path / "none.json")


def test_a_baseline_is_beaten_only_outside_the_interval(results):
    psnr, frechet = results.rows()
    assert (psnr.beats("untrained"), psnr.beats("optimised")) == (True, None)  # 21.7 lies in 21.1…21.9
    assert (frechet.beats("untrained"), frechet.beats("optimised")) == (True, False)
    assert (psnr.arrow, frechet.arrow) == ("↑", "↓")
    nothing = Results("t", 0, {"x": MetricValue(math.nan, True, 1)}, {"b": {"x": 1.0}}).rows()[0]
    assert nothing.beats("b") is None


def test_a_figure_may_have_no_good_direction(tmp_path):
    """A ratio that should be 1: no arrow, beaten by nobody, and null in the file."""
    Results("t", 0, {"ratio": MetricValue(0.9, None, 5)}, {"b": {"ratio": 1.4}}).write(tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["metrics"]["ratio"]["higher_is_better"] is None
    (row,) = Results.read(tmp_path / "m.json").rows()
    assert (row.metric.higher_is_better, row.arrow, row.beats("b")) == (None, "·", None)


def test_the_table_shows_every_figure(results):
    console = Console(file=io.StringIO(), width=120)
    console.print(results.table())
    text = console.file.getvalue()
    for expected in ("gan_inversion, 4,000,000 images seen", "psnr_db ↑", "21.50", "21.10 … 21.90", "512"):
        assert expected in text
    for expected in ("frechet ↓", "14.25", "5,000", "untrained", "11.00", "180.0", "optimised", "9.500"):
        assert expected in text


def test_markup_in_names_is_text(results):
    console = Console(file=io.StringIO(), width=120)
    console.print(Results("[red]t", 1, {"a[b]": MetricValue(1.0, True, 1)}, {"[bold]c": {"a[b]": 2.0}}).table())
    text = console.file.getvalue()
    assert "[red]t" in text and "a[b]" in text and "[bold]c" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0.000"), (21.456, "21.46"), (1234.56, "1,235"), (0.08123, "0.08123"), (-3.14159, "-3.142")),
        *((3.4e-5, "3.40e-05"), (2.5e7, "2.50e+07"), (math.nan, "–"), (math.inf, "–"), (9.9996, "10.00")),
    ],
)
def test_numbers_as_people_write_them(value, text):
    assert number(value) == text


def test_names_say_features_and_count():
    assert metric_name("frechet", "efficientnet-lite0", 5000) == "frechet_efficientnet-lite0_5k"
    assert metric_name("kernel", "fashion-classifier", 1234) == "kernel_fashion-classifier_1234"
    assert metric_name("kernel", "inception", 500) == "kernel_inception_500"
