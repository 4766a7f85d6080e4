"""The README's example runs and makes what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(capsys):
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    exec(example, {})
    assert capsys.readouterr().out.startswith("torch.Size([3, 3, 32, 32]) tensor([0.0000, 1.0000, 0.")
