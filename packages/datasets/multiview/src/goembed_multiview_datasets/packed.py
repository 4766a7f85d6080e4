"""All views of a set of objects in one file beside their folder, so that they are in memory within a second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_core.files import write_atomically
from goembed_core.progress import ProgressLine
from goembed_nerf_renderer.cameras import Camera
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from goembed_multiview_datasets.blender import camera_of
from goembed_multiview_datasets.pictures import from_bytes, read_pixels
from goembed_multiview_datasets.scenes import View

if TYPE_CHECKING:
    from goembed_multiview_datasets.objects import OmniObjectSource

FORMAT = "1"


class PackedSource:
    """The same scenes and views as those of the source, to the last bit, out of `<folder>.packed.safetensors`.

    The file holds every object of the folder, whatever split is asked for.  It belongs to the content of the files
    that it was made from: when one of these changes, it is made anew.
    """

    def __init__(self, source: OmniObjectSource):
        self.names = source.names
        self._source = source
        root = source.root.resolve()
        self.path = root.with_name(f"{root.name}.packed.safetensors")
        digest = _digest(source)
        self._held = _read(self.path, digest) or _pack(source, self.path, digest)

    def count(self, scene: int) -> int:
        """How many views an object has."""
        return self._held["rgba"].shape[1]

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of an object."""
        place = self._source.chosen[scene]
        file, chosen = self._source.files[place], list(views)
        rgba = from_bytes(self._held["rgba"][place, chosen].numpy())
        pose, intrinsics = (self._held[name][place, chosen] for name in ("camera_to_world", "intrinsics"))
        found = []
        for row, view in enumerate(chosen):
            frame = self._source.frames(place)[view][2]
            where = f"{file}: frame {view} ({frame['file_path']})"
            near_far = self._source.near_far(frame, where)
            found.append(View(where, rgba[row], Camera(pose[row], intrinsics[row]), near_far))
        return found


def _digest(source: OmniObjectSource) -> str:
    """Of the names and the content of all files."""
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=20)
    for file in source.files:
        pictures = (file.parent / "images").glob("[!.]*")
        for path in (file, *sorted(pictures)):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(source.root)}\x1f{len(content)}\x1f".encode())
            digest.update(content)
    return digest.hexdigest()


def _read(path: Path, digest: str) -> dict[str, Tensor] | None:
    """What was packed of this very content, or nothing."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("digest") != digest:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None  # damaged: it is made anew


def _pack(source: OmniObjectSource, path: Path, digest: str) -> dict[str, Tensor]:
    pixels, cameras = [], []
    with ProgressLine("pack", len(source.files), unit="objects") as line:
        for place in range(len(source.files)):
            shown = [source.picture(*frame) for frame in source.frames(place)]
            pixels.append([_with_opacity(read_pixels(picture)) for picture, _ in shown])
            shapes = {image.shape for image in pixels[-1]} | {pixels[0][0].shape}
            if len(shapes) > 1 or len(pixels[-1]) != len(pixels[0]):
                raise UserError(
                    f"{source.files[place]}: its views are not as many and as large as those of {source.files[0]}, "
                    f"and can not be packed with them; leave out packed=true"
                )
            height, width, _ = pixels[0][0].shape
            frames = zip(source.frames(place), shown, strict=True)
            cameras.append([camera_of(frame, width, height, where) for (_, _, frame), (_, where) in frames])
            line.advance_to(place + 1)
    held = {"rgba": torch.from_numpy(np.array(pixels))}
    for name in Camera._fields:
        held[name] = torch.stack([torch.stack([getattr(view, name) for view in views]) for views in cameras])
    try:
        write_atomically(path, save(held, {"digest": digest}))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); leave out packed=true") from error
    return held


def _with_opacity(image: np.ndarray) -> np.ndarray:
    """Four channels."""
    return image if image.shape[2] == 4 else np.concatenate([image, np.full_like(image[..., :1], 255)], 2)
