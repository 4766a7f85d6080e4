"""From a file's bytes to pixels: hostile or broken files end in a `UserError` that names them."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from goembed_core.errors import UserError, whereabouts
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from goembed_image_datasets.bounds import read_file

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # no decoder that starts another program
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B")
Fit = Literal["pad", "crop", "resize"]

# What Pillow's decoders are known to raise on damaged files, besides its own errors.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)


def decode(data: bytes, name: str) -> Image.Image:
    """The first frame of an image file, upright, as grey `L` or colour `RGB`; transparent pixels lie on black.

    **Arguments:**
    - `name`: what an error calls the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # Pillow's remarks on metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                image.load()
                return _plain(ImageOps.exif_transpose(image), name)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{name}: claims more than the {Image.MAX_IMAGE_PIXELS} pixels that Pillow takes for safe; "
            "scale the image down, or remove the file"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{name}: is not an image of the formats {', '.join(FORMATS)}; remove or convert it") from error
    except _DAMAGE as error:
        raise UserError(f"{name}: is damaged or truncated ({error}); remove it or fetch it again") from error


def fit_square(image: Image.Image, resolution: int, fit: Fit) -> Image.Image:
    """Bring an image to `resolution` x `resolution`, every change of scale antialiased.

    **Arguments:**
    - `fit`: `pad` never enlarges and fills up with black, `crop` takes the largest centred square, `resize` the whole.
    """
    size = (resolution, resolution)
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if fit == "resize":
        return image.resize(size, Image.Resampling.LANCZOS)
    if max(image.size) > resolution:
        image = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((resolution - image.width) // 2, (resolution - image.height) // 2))
    return canvas


def to_array(image: Image.Image, channels: int) -> UInt8[np.ndarray, "channels height width"]:
    """Pixels, converted to grey by luminance (ITU-R 601) or to colour by repetition where need be."""
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def to_float(pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Bytes 0...255 to -1...1, in one pass over the values."""
    return pixels.to(torch.float32).mul_(1 / 127.5).sub_(1)


def read_image(
    path: Path | str, channels: Literal[1, 3], resolution: int | None = None, fit: Fit = "crop"
) -> Float[Tensor, "channels height width"]:
    """One image of one's own, in [-1, 1]; `resolution=None` keeps its size."""
    path = Path(os.path.expanduser(path))  # Path's own raises where there is no such user
    if path.is_dir() or not os.path.exists(path):
        found = f"{path}: is a folder" if path.is_dir() else f"{whereabouts(path)}: no such file"
        raise UserError(f"{found}; expected one image file")
    image = decode(read_file(path), str(path))
    if resolution is not None:
        image = fit_square(image, resolution, fit)
    return to_float(torch.from_numpy(to_array(image, channels).copy()))


def _plain(image: Image.Image, name: str) -> Image.Image:
    """Any mode as `L` or `RGB`."""
    if image.mode in ("I;16", "I;16L", "I;16B"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"{name}: has Pillow's mode {image.mode!r}, which does not say what is white; store 8 or 16 bits a value"
        )
    if image.has_transparency_data:
        grey = image.mode in GREY_MODES
        image = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        return flat.convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")
