"""The README's example samples what it says from the embedded model."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    namespace: dict = {}
    exec(example, namespace)
    assert f"# {tuple(namespace['images'].shape)} in [-1, 1]" in example
    assert -1.5 < namespace["images"].min() < namespace["images"].max() < 1.5
