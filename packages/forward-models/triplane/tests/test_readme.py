"""The README's examples run, and print what they say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_of_the_readme():
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    torch.manual_seed(0)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in examples:
            exec(compile(example, README.name, "exec"), names)
    first, second = printed.getvalue().splitlines()
    assert first == "torch.Size([2, 3, 16, 32, 32])"
    error, shape = second.split(" ", 1)
    assert float(error) < 0.002 and shape == "torch.Size([2, 2, 3, 3, 4])"
    assert names["photographs"].var() > 0.01  # there was something to fit


def test_the_fit_and_render_example_is_short():
    _, second = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert sum(bool(line.strip()) for line in second.splitlines()) <= 10


def test_the_links_of_the_readme():
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link
