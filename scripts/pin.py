"""Pin every third-party package: writes `constraint-dependencies` of the root pyproject.toml anew.

`python scripts/pin.py` takes the newest versions that resolve together for every supported Python and platform.
`uv.lock` names hosts and is not kept, so these pins are what makes two installations alike.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = ["torch==2.13.0"]  # by hand; every build of this version will do
# Follow from torch's build: an installation without CUDA has none of them.
WITH_TORCH = re.compile(r"(torch|triton|nvidia|cuda)\b")
BLOCK = re.compile(r"^constraint-dependencies = \[.*?\]$", re.MULTILINE | re.DOTALL)
EXPORT = "uv export --no-hashes --no-emit-workspace --no-annotate --no-header --all-packages --all-groups"


def resolve(pins: list[str]) -> list[str]:
    """What uv resolves under some pins, in a copy of the workspace's metadata."""
    with tempfile.TemporaryDirectory() as folder:
        for path in [ROOT / "pyproject.toml", *ROOT.glob("packages/**/pyproject.toml")]:
            copy = Path(folder) / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        root = Path(folder, "pyproject.toml")
        root.write_text(with_pins(root.read_text(), pins))
        output = subprocess.run(EXPORT.split(), cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [re.sub(r"\+[^ ;]+", "", line) for line in output.splitlines() if not WITH_TORCH.match(line)]


def with_pins(text: str, pins: list[str]) -> str:
    """The root pyproject.toml with other pins."""
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    text, count = BLOCK.subn(lambda _: f"constraint-dependencies = [\n{lines}]", text)
    if count != 1:
        raise SystemExit(f"expected one list constraint-dependencies in pyproject.toml, found {count}")
    return text


def main() -> None:
    """Resolve without the old pins, and write the new."""
    path = ROOT / "pyproject.toml"
    pins = sorted(set(CHOSEN + resolve(CHOSEN)))
    path.write_text(with_pins(path.read_text(), pins))
    print(f"{len(pins)} pins in {path.name}")


if __name__ == "__main__":
    main()
