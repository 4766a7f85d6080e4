"""Pictures as part of the page: any figure, image or array as a `data:` address."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, features

from goembed_core.errors import UserError
from goembed_core.report.blocks import Picture
from goembed_core.report.style import DEVICE_PX

WEBP_LIMIT_PX = 16383


def picture(figure: Figure | Image.Image | np.ndarray, caption: str) -> Picture:
    """A matplotlib Figure, a PIL image, or a uint8 array (H, W), (H, W, 3) or (H, W, 4)."""
    if isinstance(figure, Figure):
        image = _rasterised(figure)
        width, height = math.ceil(image.width / DEVICE_PX), math.ceil(image.height / DEVICE_PX)
    else:
        image = figure if isinstance(figure, Image.Image) else _from_array(figure)
        width, height = image.size
    return Picture(_data_address(image), width, height, caption)


def animation(gif: bytes, caption: str) -> Picture:
    """An animated GIF, which is kept byte for byte."""
    try:
        image = Image.open(io.BytesIO(gif))
    except OSError:
        raise UserError("an animation must be the bytes of a GIF") from None
    if image.format != "GIF":
        raise UserError(f"an animation must be the bytes of a GIF; got {image.format}")
    return Picture(f"data:image/gif;base64,{base64.b64encode(gif).decode()}", *image.size, caption)


def _rasterised(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=100 * DEVICE_PX)  # 100 CSS pixels to the inch
    return Image.open(buffer)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UserError(
            f"a picture must be a uint8 array (H, W), (H, W, 3) or (H, W, 4); got {array.dtype} of shape {array.shape}"
        )
    return Image.fromarray(array)


def _data_address(image: Image.Image) -> str:
    """Without loss: WebP, half of PNG's size, where Pillow has it and the picture is not larger than it can be."""
    kind, options = "webp", {"lossless": True, "quality": 80}
    if not features.check("webp") or max(image.size) > WEBP_LIMIT_PX:
        kind, options = "png", {"optimize": True}
    buffer = io.BytesIO()
    (image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA")).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
