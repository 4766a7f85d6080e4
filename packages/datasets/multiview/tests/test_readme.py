"""The README's example runs and prints what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(lego, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "['nerf_lego'] torch.Size([25, 3, 100, 100]) torch.Size([25, 4, 4])\n"
