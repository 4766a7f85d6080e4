"""The README's example runs and makes what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs():
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    namespace: dict = {}
    exec(example, namespace)
    assert f"# {tuple(namespace['clip'].shape)}" in example
