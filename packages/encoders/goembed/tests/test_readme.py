"""The README's example runs and prints about what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme():
    pytest.importorskip("goembed_stylegan_synth", reason="the example's forward model")
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("".join(examples), README.name, "exec"), {})
    claimed = re.search(r"prints errors of ([\d.]+) at the origin and ([\d.]+) after", README.read_text())
    errors = [float(number) for number in printed.getvalue().split()]
    assert errors == pytest.approx([float(number) for number in claimed.groups()], rel=0.02)
