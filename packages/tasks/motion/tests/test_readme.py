"""The README's example runs and makes what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs():
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    namespace: dict = {}
    exec(example, namespace)
    colours = namespace["colours"]
    assert f"# {tuple(colours.shape)}" in example
    assert colours[:, 10, 0].tolist() == [1, -1, -1] and colours[:, 0, 0].tolist() == [1, 1, 1]
