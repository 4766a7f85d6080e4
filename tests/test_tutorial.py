"""`docs/write-a-forward-model.md`, executed from an empty folder to a trained model, as it is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TUTORIAL = Path(__file__).parent.parent / "docs" / "write-a-forward-model.md"


class Block(NamedTuple):
    """One block of the tutorial."""

    language: str
    text: str


def blocks() -> list[Block]:
    """What the reader types, in order; `text` is what the reader sees."""
    found = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```", TUTORIAL.read_text(), re.M | re.S)]
    assert {block.language for block in found} == {"sh", "python", "text"}
    return [block for block in found if block.language != "text"]


def follow(overlay, block: Block) -> str:
    """Do what one block says; a block that begins with the name of a file is that file."""
    if block.language == "sh":
        return overlay.run("bash", "-euo", "pipefail", "-c", block.text)
    if name := re.match(r"# (\S+\.py)\n", block.text):
        path = overlay.folder / name[1]
        assert path.is_file(), f"{name[1]} is not what `goembed new` wrote"
        path.write_text(block.text.partition("\n")[2])
        return ""
    output = overlay.run("python", "-c", block.text)
    assert f"# {output}" in block.text
    return output


@pytest.mark.slow
def test_from_an_empty_folder_to_a_trained_model(overlay):
    outputs = {block.text: follow(overlay, block) for block in blocks()}
    told = "".join(outputs.values())
    assert len(outputs) == 6
    assert len(re.findall(r"\d+ passed", told)) >= 2 and " failed" not in told
    checked = json.loads((overlay.folder / "checked.json").read_text())
    assert checked["conforms"] and checked["settings"] == ["width_px=3"]

    run = overlay.folder / "runs/deblur/default"
    settings = (run / "config.yaml").read_text()
    assert "name: blur" in settings and "width_px: 2" in settings
    results = json.loads((run / "metrics.json").read_text())
    assert results["images_seen"] == 8000
    found, seen = results["metrics"]["signal_psnr"]["value"], results["baselines"]["context"]["signal_psnr"]
    assert found > seen + 1, "sampling has to beat looking at the blurred view"
    assert (run / "report.html").read_text().count("<img") >= 3
    assert (run / "samples/grid.png").stat().st_size > 1000
    assert json.loads((run / "environment.json").read_text())["plugins"]["goembed-blur"] == "0.1.0"

    again = overlay.run("goembed", "train", "task=deblur", "forward_model=blur", "forward_model.width_px=2")
    assert "resumed at 8000 of 8000 images" in again

    # The run is there, the plugin is not.
    overlay.run("uv", "pip", "uninstall", "goembed-blur", "goembed-deblur")
    for command in ("sample", "evaluate"):
        refused = overlay.run("goembed", command, "runs/deblur/default", status=2)
        assert refused.startswith("error: task 'deblur' is not registered; ")
        for name in ("goembed-blur", "goembed-deblur"):
            assert f"{name} 0.1.0, which is not installed: uv pip install '{name}==0.1.*'" in refused
