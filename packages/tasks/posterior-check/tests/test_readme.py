"""The README's example runs and makes what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs():
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    namespace: dict = {}
    exec(example, namespace)
    samples = namespace["samples"]
    assert f"# {tuple(samples.shape)}" in example
    assert (samples[0] @ namespace["direction"] - 0.5).abs().max() < 1e-9
