"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".incomplete-"
RETIRED = "retired"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file at `path`; a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which takes its place at `path` when the block ends well and vanishes when it does not.

    What stood at `path` before is replaced only then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            retired = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{RETIRED}-{path.name}"
            os.replace(path, retired)
            os.replace(temporary, path)
            shutil.rmtree(retired)
        else:
            os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_incomplete(directory: Path) -> None:
    """Delete what an interrupted writer left in a directory; what it had only moved aside goes back to its place."""
    for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
        _, retired, name = leftover.name.partition(f"-{RETIRED}-")
        if retired and not (directory / name).exists():
            os.replace(leftover, directory / name)
            continue
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _sync_directory(path: Path) -> None:
    """Make a rename in the directory outlive a loss of power; a system that cannot is none the worse."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
