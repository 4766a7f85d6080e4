"""The README's example runs and prints what it says, and so do its other lines of Python."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_of_the_readme():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(BLOCKS[0], README.name, "exec"), {})
    assert printed.getvalue() == "torch.Size([1, 4, 3, 48, 64]) tensor(True)\n"


def test_splatting_alone():
    names = {"image": torch.rand(2, 3, 5, 6), "flow": torch.randn(2, 2, 5, 6), "metric": torch.randn(2, 1, 5, 6)}
    exec(compile(BLOCKS[1], README.name, "exec"), names)
    assert names["moved"].shape == names["values"].shape == (2, 3, 5, 6)
    assert names["coverage"].shape == (2, 1, 5, 6) and names["ignored"].tolist() == [0, 0]
