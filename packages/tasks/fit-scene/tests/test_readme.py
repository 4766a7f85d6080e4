"""The README's example runs and prints what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    namespace: dict = {}
    exec(example, namespace)
    samples = namespace["samples"]
    assert f"# {tuple(samples.density.shape)} {tuple(samples.colour.shape)}" in example
    assert (samples.density > 0).all() and ((samples.colour > 0) & (samples.colour < 1)).all()
