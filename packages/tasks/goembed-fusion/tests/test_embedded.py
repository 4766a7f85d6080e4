"""The model that the package carries."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from goembed_core import cli
from goembed_core.metrics.images import psnr
from goembed_core.runs import Run
from goembed_core.trees import select_views
from goembed_fusion.embed import embed, embedded, load_embedded, main
from PIL import Image


@pytest.fixture(scope="module")
def carried():
    return load_embedded()


def test_it_samples_from_the_command_line(tmp_path, capsys):
    asked = ["sample", "task=plenoptic_encoding", f"out={tmp_path}", "size=16", "frames=2"]
    assert cli.main([*asked, "object=3", "sources=2"]) == 0
    with Image.open(tmp_path / "turntable.gif") as turntable:
        assert turntable.n_frames == 2 and turntable.size[1] == 16
    assert cli.main([*asked, "object=8"]) == 2
    assert "object=8: the package carries views of 8 objects; give one below" in capsys.readouterr().err
    assert cli.main([*asked, "sources=9"]) == 2
    assert "has 8 views of each object" in capsys.readouterr().err


@torch.no_grad()
def test_it_was_trained(carried):
    """What it makes of four views is nearer to others than white is, the more steps the nearer."""
    model, views = carried
    given, others = select_views(views, slice(0, 4)), select_views(views, slice(4, 6))

    def score(images):
        return psnr(images.flatten(0, 1), others.values.flatten(0, 1), data_range=1.0).mean().item()

    found = {
        name: score(method.forward_model(model.embed(name, given), others.params))
        for name, method in model.methods.items()
    }
    white = score(torch.ones_like(others.values))
    assert found["steps5"] > found["steps1"] + 1 > white + 3
    assert found["steps5"] > found["unprojection"] + 2


def test_it_is_small_and_says_whose_objects_these_are(carried):
    folder = embedded()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 1e6
    facts = json.loads((folder / "model" / "model.json").read_text())["facts"]
    assert facts["task"] == "plenoptic_encoding" and facts["images_seen"] >= 800
    words = (folder / "CREDITS.md").read_text()
    for maker in ("Scopia", "Kator Legaz", "Reallusion", "Jay-Artist", "Redsymbzone"):
        assert maker in words
    assert all(f"creativecommons.org/{part}" in words for part in ("publicdomain/zero/1.0", "licenses/by/3.0"))
    assert "CREDITS.md" in (folder / "README.md").read_text()
    assert carried[1].values.shape == (8, 8, 3, 32, 32)


def test_a_run_becomes_what_the_package_carries(objects, tmp_path, monkeypatch, capsys):
    run, views = tmp_path / "run", tmp_path / "views"
    shutil.copytree(objects, views)
    asked = [
        f"dataset.path={views}", "dataset.size=12", "dataset.packed=false", f"run.dir={run}", "train.images=2",
        "train.batch_size=2", "steps=[1]", "draw.sources=[1,2]", "draw.target_rays=8", "evaluate.sources=[1,3]",
        "evaluate.objects=2", "evaluate.fit.objects=0", "evaluate.intervals=9", "evaluate.pictures=1",
        "forward_model.resolution=4", "forward_model.channels=2", "forward_model.renderer.samples=4",
    ]  # fmt: skip
    assert cli.main(["train", "task=plenoptic_encoding", *asked]) == 0
    capsys.readouterr()
    place = tmp_path / "embedded"
    monkeypatch.setattr("goembed_fusion.embed.embedded", lambda: place)
    assert main([str(run)]) == 2
    assert "does not say who made its objects" in capsys.readouterr().err and not place.exists()
    about = {"name": "Box", "creator": "A. Maker", "library": "boxes", "licence": "CC0"}
    listing = json.loads((views / "objects.json").read_text())
    listing["objects"] = [entry | {"about": about} for entry in listing["objects"]]
    (views / "objects.json").write_text(json.dumps(listing))
    embed(Run.open(run), place)
    assert "| boxes | A. Maker | Box (12) |" in (place / "CREDITS.md").read_text()
    model, carried = load_embedded()
    assert carried.values.shape == (2, 3, 3, 12, 12) and set(model.methods) == {"steps1", "unprojection"}
    assert main([]) == 2
