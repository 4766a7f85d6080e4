"""The example of the README, run as it is printed."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(fashion_mnist, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(example, {})
    assert float(re.search(r"0\.\d+|1\.0*", capsys.readouterr().out)[0]) >= 0.85
