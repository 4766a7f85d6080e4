"""`goembed render-meshes`: a folder of textured meshes as a set of posed views, in OmniObject3D's layout."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_core.files import remove_incomplete, write_atomically
from goembed_core.progress import ProgressLine
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import look_at
from jaxtyping import Float
from PIL import Image

from goembed_multiview_datasets.config import RenderMeshesConfig
from goembed_multiview_datasets.meshes.sources import Entry, attributions, find_meshes
from goembed_multiview_datasets.meshes.writing import DISTANCE, Order, Outcome, carry_out, end_with_parent
from goembed_multiview_datasets.objects import OBJECTS

SETTINGS = "render.json"
CONTACT = "contact.png"
FORMAT = 1  # of what is rendered: raise it when the same settings give other pictures
FREE = ("folder", "out", "workers", "categories", "limit")  # settings that change no picture
CONTACT_OBJECTS, CONTACT_SIDE = 900, 64


def render_meshes(config: RenderMeshesConfig) -> int:
    """The command: render what is not there yet, and exit with 1 where meshes could not be."""
    source, out = (Path(os.path.expanduser(path)) for path in (config.folder, config.out))
    entries = find_meshes(source)
    wanted = _wanted(entries, config)
    _claim(out, source, config)
    known = {entry.folder: {"category": entry.category, "object": entry.object, **_kept(entry)} for entry in entries}
    _describe(out, known)
    for path in attributions(source):
        shutil.copyfile(path, out / path.name)
    for category in {entry.category for entry in wanted}:
        (out / category).mkdir(exist_ok=True)
        remove_incomplete(out / category)
    missing = [entry for entry in wanted if not _is_there(out, entry)]
    errors = {}
    orders = [_order(entry, source, out, config) for entry in missing]
    with ProgressLine("render", len(wanted), len(wanted) - len(missing), "objects") as line:
        for outcome in _carried_out(orders, config.workers):
            if outcome.error is not None:
                errors[outcome.folder] = outcome.error
                print(f"left out: {outcome.error}", file=sys.stderr, flush=True)
            line.advance_to(line.done + 1)
    for folder, error in errors.items():
        known[folder]["error"] = error
    _describe(out, known)
    done = [entry for entry in wanted if _is_there(out, entry)]
    if done:
        _contact_sheet(out, done)
    told = f"{len(done)} objects of {config.views} views in {out}"
    print(f"{told}; {len(errors)} meshes left out" if errors else f"{told}; look at {out / CONTACT}")
    return 1 if errors else 0


def draw_cameras(entry: Entry, config: RenderMeshesConfig) -> Float[np.ndarray, "views 4 4"]:
    """Where an object is seen from, whatever else is rendered: evenly over the sphere, or its upper half.

    More views are the same ones and others.
    """
    random = ItemRandom(config.seed, [0], f"render/{entry.folder}")
    height, turn = random.rand(config.views, 2)[0].double().unbind(-1)
    height = 2 * height - 1 if config.views_on == "sphere" else height
    flat, azimuth = (1 - height.square()).sqrt(), 2 * math.pi * turn
    position = DISTANCE * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], -1)
    return look_at(position, torch.zeros_like(position), position.new_tensor([0.0, 0.0, 1.0])).numpy()


def _wanted(entries: Sequence[Entry], config: RenderMeshesConfig) -> list[Entry]:
    there = sorted({entry.category for entry in entries})
    unknown = sorted(set(config.categories or ()) - set(there))
    if unknown:
        raise UserError(f"categories: there is no {unknown[0]}; there are {', '.join(there)}")
    wanted = [entry for entry in entries if config.categories is None or entry.category in config.categories]
    return wanted[: config.limit]


def _order(entry: Entry, source: Path, out: Path, config: RenderMeshesConfig) -> Order:
    cameras = draw_cameras(entry, config)
    return Order(entry, source, out, cameras, config.size, config.samples, config.shading, config.up)


def _carried_out(orders: Sequence[Order], workers: int) -> Iterator[Outcome]:
    """The outcomes, as they come."""
    if workers == 1 or len(orders) < 2:
        yield from map(carry_out, orders)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(orders)), context, initializer=end_with_parent)
    try:
        for future in as_completed([pool.submit(carry_out, order) for order in orders]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _claim(out: Path, source: Path, config: RenderMeshesConfig) -> None:
    """Make the folder ours, or see that it was begun with the same settings."""
    settings: dict[str, Any] = {"format": FORMAT, "source": source.resolve().name}
    settings |= {key: value for key, value in config.model_dump(mode="json").items() if key not in FREE}
    file = out / SETTINGS
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out}: is a file; give a folder")
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"out={out}: holds other things, and no {SETTINGS} of an earlier run; give a new folder")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(settings, indent=1))
        return
    try:
        earlier = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}); give a new folder `out`") from error
    for key in settings:
        if earlier.get(key) != settings[key]:
            raise UserError(
                f"out={out}: was begun with {key}={earlier.get(key)}, not {settings[key]}; give that, or a new folder"
            )


def _is_there(out: Path, entry: Entry) -> bool:
    return (out / entry.folder / "render" / "transforms.json").is_file()


def _kept(entry: Entry) -> dict[str, Any]:
    return {"from": entry.place, "about": dict(entry.about)}


def _describe(out: Path, known: dict[str, dict[str, Any]]) -> None:
    """All objects of the source in their order, rendered or not: which ones are held out hangs on nothing else."""
    write_atomically(out / OBJECTS, json.dumps({"objects": list(known.values())}, indent=1, ensure_ascii=False))


def _contact_sheet(out: Path, entries: Sequence[Entry]) -> None:
    """The first view of each object over white, in their order; of very many, of some at even distances."""
    chosen = [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, CONTACT_OBJECTS).round().astype(int))]
    across = math.ceil(math.sqrt(len(chosen)))
    sheet = Image.new("RGB", (across * CONTACT_SIDE, math.ceil(len(chosen) / across) * CONTACT_SIDE), "white")
    for number, entry in enumerate(chosen):
        with Image.open(out / entry.folder / "render" / "images" / "r_0.png") as image:
            small = image.convert("RGBA").resize((CONTACT_SIDE, CONTACT_SIDE), Image.Resampling.LANCZOS)
        row, column = divmod(number, across)
        sheet.paste(small, (column * CONTACT_SIDE, row * CONTACT_SIDE), small)
    temporary = out / f".{CONTACT}"
    sheet.save(temporary, format="PNG")
    os.replace(temporary, out / CONTACT)
