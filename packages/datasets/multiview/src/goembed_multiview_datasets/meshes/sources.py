"""Which meshes there are, what they are called, and what is known of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from goembed_core.errors import UserError, whereabouts

from goembed_multiview_datasets.meshes.archives import LIVERIES, MESHES, OBJECTS, read_aircraft, read_object
from goembed_multiview_datasets.meshes.files import SUFFIXES, UP, read_file
from goembed_multiview_datasets.meshes.model import Mesh

INDEX = "index.json"
ABOUT_ALL = ("SOURCES*", "LICEN[CS]E*", "Licen[cs]e*", "COPYING*", "NOTICE*")  # what goes with every copy
EXPECTED = "a folder of GLB, OBJ or PLY files, or one with objects_npz.zip, or meshes_npz.zip and textures256.zip"


class Entry(NamedTuple):
    """A mesh that is to be rendered."""

    category: str  # a folder's name
    object: str  # a folder's name, unique in the category
    about: Mapping[str, Any]  # its entry of `index.json`: name, licence, author
    kind: Literal["file", "object", "aircraft"]
    place: str  # the file, or the member of the zip

    @property
    def folder(self) -> str:
        """`<category>/<object>`."""
        return f"{self.category}/{self.object}"


def find_meshes(folder: Path) -> list[Entry]:
    """Every mesh of a folder, by category and name.

    **Raises:** UserError for a folder without meshes, an index that does not fit, and names that are not unique.
    """
    if not folder.is_dir():
        raise UserError(f"{whereabouts(folder)}: no such folder; give {EXPECTED}")
    index = _index(folder)
    if (folder / OBJECTS).is_file():
        entries = [_object(about, folder) for about in index]
    elif (folder / MESHES).is_file() and (folder / LIVERIES).is_file():
        entries = [_aircraft(about, folder) for about in index]
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        entries = [_file(path.relative_to(folder), folder, index) for path in files]
    if not entries:
        raise UserError(f"{folder}: holds no meshes; give {EXPECTED}")
    entries.sort(key=lambda entry: (entry.category, entry.object))
    for one, other in itertools.pairwise(entries):
        if one.folder.lower() == other.folder.lower():
            raise UserError(f"{folder}: {one.place} and {other.place} would both be {one.folder}; rename one of them")
    return entries


def read_mesh(entry: Entry, folder: Path) -> tuple[Mesh, Literal["y", "z"]]:
    """A mesh, and which of its axes is up.

    **Raises:** UserError, which names it.
    """
    where = entry.place if entry.kind == "file" else entry.folder
    if entry.kind == "file":
        path = folder / entry.place
        return read_file(path, where), UP[path.suffix.lower()]
    if entry.kind == "object":
        return read_object(folder, entry.place, where), "y"
    return read_aircraft(folder, entry.about, where), "y"


def attributions(folder: Path) -> list[Path]:
    """The files that say where the meshes are from and what may be done with them."""
    return sorted({path for pattern in ABOUT_ALL for path in folder.glob(pattern) if path.is_file()})


def as_folder(name: str) -> str:
    """A name that can be a folder's on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "unnamed"


def _object(about: Mapping[str, Any], folder: Path) -> Entry:
    name, category = (_required(about, key, folder) for key in ("id", "category"))
    return Entry(as_folder(category).lower(), as_folder(name), about, "object", f"{name}.npz")


def _aircraft(about: Mapping[str, Any], folder: Path) -> Entry:
    mesh, texture = (_required(about, key, folder) for key in ("mesh", "texture"))
    return Entry("aircraft", as_folder(f"{mesh}_{Path(texture).stem}"), about, "aircraft", f"{mesh}.npz, {texture}")


def _file(path: Path, folder: Path, index: list[Mapping[str, Any]]) -> Entry:
    known = {about.get("id"): about for about in index}
    about = known.get(path.as_posix()) or known.get(path.with_suffix("").as_posix()) or known.get(path.stem) or {}
    inner = len(path.parts) > 1
    category = about.get("category") or (path.parts[0] if inner else folder.resolve().name)
    name = "_".join(path.with_suffix("").parts[int(inner) :])
    return Entry(as_folder(str(category)).lower(), as_folder(name), about, "file", path.as_posix())


def _required(about: Mapping[str, Any], key: str, folder: Path) -> str:
    value = about.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{folder / INDEX}: an entry has no {key} ({dict(about)!s:.60}); fetch it again")
    return value


def _index(folder: Path) -> list[Mapping[str, Any]]:
    path = folder / INDEX
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(found, list) or not all(isinstance(about, dict) for about in found):
        raise UserError(f"{path}: is no list of objects; give one entry for each mesh, with its id")
    return found
