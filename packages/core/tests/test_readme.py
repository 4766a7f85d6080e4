"""The README's example finds what it says, and its other blocks run."""

import re
from pathlib import Path

import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


def test_the_example_finds_the_signals(capsys):
    exec(BLOCKS[0], {})
    found = [float(number) for number in re.findall(r"\d+\.\d+", capsys.readouterr().out)]
    wanted = [float(number) for number in re.findall(r"# about \[(\d), (\d)\]", BLOCKS[0])[0]]
    assert found == pytest.approx(wanted, abs=0.01)


def test_the_hook_of_the_readme_registers():
    namespace, calls = {}, []
    exec(BLOCKS[1], namespace)
    namespace["goembed_register"](lambda *arguments, **options: calls.append(arguments))
    assert calls == [("forward-model", "blur", "goembed_blur.model:Blur")]
