"""Which scenes there have to be, said before there is a run."""

from __future__ import annotations

from pathlib import Path

from goembed_core.config import ComponentConfig
from goembed_core.errors import UserError, whereabouts

MADE = ("furniture", "aircraft")  # what `goembed render-meshes` makes of the shared meshes


def require_dataset(dataset: ComponentConfig) -> None:
    """Raise UserError where a folder of rendered objects is not there, with the command that makes it."""
    path = getattr(dataset.settings, "path", None)
    if dataset.name.rpartition(":")[2] != "omniobject3d" or path is None or Path(path).expanduser().exists():
        return
    name = next((known for known in MADE if known in Path(path).name), None)
    raise UserError(
        f"dataset.path={whereabouts(Path(path))}: no such folder of rendered objects; make it with "
        f"`goembed render-meshes {name or 'FOLDER'} out={path} size=64`, or give dataset.path"
    )
