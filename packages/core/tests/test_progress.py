"""Lines of progress, as a log has them."""

from __future__ import annotations

import pytest
from goembed_core import progress
from goembed_core.progress import ProgressLine


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (50, 100, 25.0, "50/100 images, 2/s, 0:25 gone, 0:25 left"),
        (3, 4, 100.0, "3/4 images, 0.03/s, 1:40 gone, 0:33 left"),
        (7, 3, 0.1, "7/3 images, 70/s, 0:00 gone, 0:00 left"),
    ],
)
def test_a_line_tells_how_fast_and_how_long(monkeypatch, capsys, done, total, seconds, said):
    clock = iter([0.0, seconds, seconds])
    monkeypatch.setattr(progress, "time", type("Clock", (), {"monotonic": lambda: next(clock)}))
    with ProgressLine("train", total) as line:
        line.advance_to(done, "loss 1")
    assert capsys.readouterr().err == f"train: {said}, loss 1\n"
