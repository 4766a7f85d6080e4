"""What is known of each video, kept in a folder of the user's choice; nothing is written beside the videos."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from goembed_core.errors import UserError
from goembed_core.files import write_atomically

from goembed_video_datasets.containers import VideoIndex, index_video

FORMAT = 1
log = logging.getLogger(__name__)


def known_index(path: Path, decode: bool, folder: Path | None) -> VideoIndex:
    """`index_video`, or what it found before in the same file (by path, size and time of change)."""
    if folder is None:
        return index_video(path, decode)
    name = hashlib.blake2b(str(path.absolute()).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    entry = folder / f"{name}.json"
    found = _load(entry, path, decode)
    if found is None:
        found = index_video(path, decode)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(entry, json.dumps(_stamp(path) | {"decoded": decode} | _plain(found)))
        except OSError as error:
            raise UserError(f"index={folder}: cannot be written to ({error.strerror}); name another folder") from error
    return found


def _load(entry: Path, path: Path, decode: bool) -> VideoIndex | None:
    """What was kept, if it is of this very file; whoever wants every frame decoded needs that it was."""
    try:
        kept = json.loads(entry.read_bytes())
        if any(kept[key] != value for key, value in _stamp(path).items()) or (decode and not kept["decoded"]):
            return None
        pts, keys = (np.array(kept[key], np.int64) for key in ("pts", "keys"))
        index = VideoIndex(pts, keys, float(kept["tick_s"]))
        if pts.ndim != 1 or keys.ndim != 1 or not len(pts) or not (np.diff(pts) > 0).all() or not index.tick_s > 0:
            raise ValueError("no times in order")
        return index
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        log.warning("%s: cannot be used (%s); looking through %s again", entry, error, path)
        return None


def _stamp(path: Path) -> dict[str, object]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remove it or repair the link") from error
    return {"format": FORMAT, "path": str(path.absolute()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _plain(index: VideoIndex) -> dict[str, object]:
    return {"tick_s": index.tick_s, "pts": index.pts.tolist(), "keys": index.keys.tolist()}
