"""Pictures with what is transparent in them, and how they are cut and resized together with their cameras."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_image_datasets.bounds import read_file
from goembed_image_datasets.decode import FORMATS, SUFFIXES
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # of 8 bits a value


def read_rgba(path: Path) -> Float[Tensor, "4 height width"]:
    """An image file in [0, 1]: colour over black, and opacity; as it is stored, whatever its EXIF says.

    **Raises:** UserError, which names the file.
    """
    return from_bytes(read_pixels(path))


def read_pixels(path: Path) -> UInt8[np.ndarray, "height width c"]:
    """The bytes of an image file, colour alone or with opacity.

    A camera belongs to the stored pixels, so that nothing is turned upright.

    **Raises:** UserError, which names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # Pillow's remarks on metadata
            with Image.open(io.BytesIO(read_file(path)), formats=FORMATS) as image:
                image.load()
                if image.mode not in _MODES:
                    raise UserError(f"{path}: has Pillow's mode {image.mode!r}; store 8 bits a value")
                return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path}: claims more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image of the formats {', '.join(FORMATS)}; fetch it again") from error
    except _DAMAGE as error:
        raise UserError(f"{path}: is damaged or truncated ({error}); fetch it again") from error


def from_bytes(values: UInt8[np.ndarray, "*views height width c"]) -> Float[Tensor, "*views 4 height width"]:
    """Bytes of three or four channels in [0, 1]: colour over black, and opacity."""
    pixels = torch.from_numpy(np.moveaxis(values, -1, -3).astype(np.float32, order="C")).mul_(1 / 255)
    if pixels.shape[-3] == 3:
        return torch.cat([pixels, torch.ones_like(pixels[..., :1, :, :])], -3)
    pixels[..., :3, :, :] *= pixels[..., 3:, :, :]
    return pixels


def find_picture(folder: Path, name: str, where: str) -> Path:
    """The image file of a name that may lack its suffix.

    **Raises:** UserError, which says `where` the name stands.
    """
    path = folder / name
    for candidate in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{where}: its image {path} is not there; fetch it, or take the frame out")


def pictures_of(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def part_of_shape(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred part that has the shape of `size` (width, height): left, top, width and height in pixels."""
    scale = min(width / size[0], height / size[1])
    across, down = min(width, max(1, round(scale * size[0]))), min(height, max(1, round(scale * size[1])))
    return (width - across) // 2, (height - down) // 2, across, down


def resize_area(image: Float[Tensor, "*c height width"], size: tuple[int, int]) -> Float[Tensor, "*c new_h new_w"]:
    """Bring an image to a width and height: each new pixel is the mean of exactly what it covers."""
    width, height = size
    down, across = _shares(image.shape[-2], height), _shares(image.shape[-1], width)
    return down.to(image) @ image @ across.to(image).mT


def require_aspect(where: str, found: Sequence[float], stated: Sequence[float]) -> None:
    """Refuse an image of another shape than its camera was made for, `(width, height)` each; a percent is rounding."""
    if abs(found[0] * stated[1] / (found[1] * stated[0]) - 1) > 0.01:
        raise UserError(
            f"{where}: the image is {found[0]:g}x{found[1]:g} pixels, its camera is of one of {stated[0]:g}x"
            f"{stated[1]:g}; give the images that the cameras were made for, or those resized as a whole"
        )


def _shares(old: int, new: int) -> Float[Tensor, "new old"]:
    """How much of each new pixel every old one makes up, along one axis."""
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    pixels = torch.arange(old, dtype=torch.float64)
    covered = edges[1:, None].minimum(pixels + 1) - edges[:-1, None].maximum(pixels)
    return covered.clamp_(min=0) * (new / old)
