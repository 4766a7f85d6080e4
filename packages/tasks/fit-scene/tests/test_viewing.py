"""What `goembed view` is given of a run, and that the command serves it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from goembed_core import cli
from goembed_core.runs import Run
from goembed_fit_scene.viewing import viewables
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.viewing import look

BOX = 'box={"low":[-0.9,-0.9,-0.9],"high":[0.9,0.9,0.9]}'


@pytest.fixture(scope="module")
def run(balls_scene, tmp_path_factory):
    """A run of two fields that have seen next to nothing."""
    folder = tmp_path_factory.mktemp("view") / "run"
    words = [BOX, "dataset.size=24", "dataset.near_far=[2.0,4.0]", "train.images=512", "train.batch_size=256",
             "field.cells=6", "forward_model.samples=8", "forward_model.proposal_samples=[8]", "evaluate.lpips=false",
             "evaluate.turntable_frames=1", "evaluate.views=1", "against.rough.field.cells=3"]  # fmt: skip
    assert cli.main(["train", "task=fit_scene", f"run.dir={folder}", f"dataset.path={balls_scene}", *words]) == 0
    return folder


def test_all_fields_of_a_run_can_be_viewed(run, balls_scene, capsys):
    fine, rough = viewables(Run.open(run))
    assert (fine.name, rough.name) == ("voxel-grid", "rough")
    assert fine.signal.field.box.cells == (6, 6, 6) and rough.signal.field.box.cells == (3, 3, 3)
    assert fine.images.shape == (30, 3, 24, 24) and fine.size == (24, 24)
    assert torch.equal(fine.centre, torch.zeros(3)) and fine.distance == pytest.approx(3.0, abs=1e-4)
    picture = look(fine, Camera(*(leaf[0] for leaf in fine.views)), 12, 12)
    assert picture.colour.shape == (12, 12, 3) and picture.colour.isfinite().all()
    assert capsys.readouterr().out == ""


def test_without_the_photographs_it_is_told(run, balls_scene, capsys, monkeypatch):
    moved = balls_scene.rename(balls_scene.with_name("elsewhere"))
    try:
        assert all(shown.images is None for shown in viewables(Run.open(run)))
    finally:
        moved.rename(balls_scene)
    assert "cameras without their photographs: " in capsys.readouterr().out


def test_the_command_serves_until_it_is_stopped(run):
    pytest.importorskip("viser", reason="needs viser, of the extra view")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [str(Path(sys.executable).with_name("goembed")), "view", str(run), f"port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A job in the background of a shell is started with Ctrl-C ignored, and so is all that it starts.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **listening) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            told = next(line for line in process.stdout if "open " in line)
            assert told == f"voxel-grid, rough: open {address} (Ctrl-C ends it)\n"
            with urllib.request.urlopen(address, timeout=60) as page:
                assert b"<title>Viser" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 0
