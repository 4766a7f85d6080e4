"""Checkpoints: whole or absent, and damage is named."""

from __future__ import annotations

import json

import pytest
import torch
from goembed_core.checkpoints import Checkpoint, CheckpointFolder, load_checkpoint, load_modules, module_tensors
from goembed_core.errors import UserError
from goembed_core.files import TEMPORARY_PREFIX, new_directory, write_atomically
from torch import nn


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"modules": {"w": torch.full((3,), value)}}, {"images_seen": int(value)})


def test_round_trip_and_keep(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    assert folder.newest(print) is None
    for images in (10, 20, 30):
        folder.save(images, checkpoint(images))
    assert [path.name for path in folder.all()] == ["000000020", "000000030"]
    newest = folder.newest(print)
    assert newest.state["images_seen"] == 30 and torch.equal(newest.groups["modules"]["w"], torch.full((3,), 30.0))


@pytest.mark.parametrize("damage", ["truncate", "delete", "json", "list", "empty", "files"])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, damage):
    folder = CheckpointFolder(tmp_path)
    folder.save(10, checkpoint(10))
    newest = folder.save(20, checkpoint(20))
    if damage == "truncate":
        path = newest / "modules.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "delete":
        (newest / "modules.safetensors").unlink()
    else:
        text = {"json": "{", "list": "[]", "empty": '{"format": 1}', "files": '{"format": 1, "checksums": 3}'}[damage]
        (newest / "state.json").write_text(text)
    said = []
    assert folder.newest(said.append).state["images_seen"] == 10
    assert len(said) == 1 and "000000020" in said[0]


def test_a_run_without_a_whole_checkpoint_is_not_begun_again(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for images in (10, 20):
        (folder.save(images, checkpoint(images)) / "modules.safetensors").write_bytes(b"")
    said = []
    with pytest.raises(UserError, match="no checkpoint is whole, of 2; restore one, or delete that folder"):
        folder.newest(said.append)
    assert len(said) == 2 and len(folder.all()) == 2


def test_another_format_is_refused(tmp_path):
    path = CheckpointFolder(tmp_path).save(10, checkpoint(10))
    state = json.loads((path / "state.json").read_text()) | {"format": 99}
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="checkpoint format 99 is not the format 1"):
        load_checkpoint(path)


def test_modules_must_fit(tmp_path):
    tensors = module_tensors({"net": nn.Linear(2, 3)})
    same = nn.Linear(2, 3)
    load_modules({"net": same}, tensors)
    assert torch.equal(same.weight, tensors["net.weight"])
    with pytest.raises(UserError, match=r"the saved weights do not fit net: .*size mismatch for weight"):
        load_modules({"net": nn.Linear(2, 4)}, tensors)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "folder"
    with new_directory(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(OSError, match="full"), new_directory(target) as folder:
        (folder / "a").write_text("new")
        raise OSError("disk full")
    assert (target / "a").read_text() == "old"
    write_atomically(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
