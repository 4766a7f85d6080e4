"""Motion as files and pictures: Middlebury's `.flo`, and its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_core.files import write_atomically
from jaxtyping import Float
from torch import Tensor

MAGIC = np.float32(202021.25)  # the first four bytes of every .flo: "PIEH"
LARGEST = 2**28  # numbers of a field that is read

# Where around the circle which colour lies: segments of the wheel of Baker et al. (IJCV 2011), red first.
SEGMENTS = (
    (15, (255, 0, 0), (255, 255, 0)), (6, (255, 255, 0), (0, 255, 0)), (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)), (13, (0, 0, 255), (255, 0, 255)), (6, (255, 0, 255), (255, 0, 0)),
)  # fmt: skip


def write_flo(path: Path, flow: Float[Tensor, "2 height width"]) -> None:
    """Write a field in pixels, x before y, as little-endian float32 (Baker et al. 2011)."""
    _, height, width = flow.shape
    body = flow.detach().cpu().permute(1, 2, 0).contiguous().numpy().astype("<f4")
    header = MAGIC.astype("<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    write_atomically(path, header + body.tobytes())


def read_flo(path: Path) -> Float[Tensor, "2 height width"]:
    """Read a field; UserError when the file is not a whole .flo."""
    data = path.read_bytes()
    if len(data) < 12 or np.frombuffer(data[:4], "<f4")[0] != MAGIC:
        raise UserError(f"{path} is not a .flo file: it does not begin with {MAGIC}")
    width, height = (int(n) for n in np.frombuffer(data[4:12], "<i4"))
    if width < 1 or height < 1 or 2 * width * height > LARGEST or len(data) != 12 + 8 * width * height:
        raise UserError(f"{path} says {width} x {height}, and has {len(data) - 12} bytes of motion: it is damaged")
    field = np.frombuffer(data[12:], "<f4").reshape(height, width, 2).astype(np.float32)
    return torch.from_numpy(field).permute(2, 0, 1).contiguous()


def flow_colours(
    flow: Float[Tensor, "*batch 2 height width"], largest_px: float
) -> Float[Tensor, "*batch 3 height width"]:
    """Motion as colours in [-1, 1]: hue is direction, saturation is speed up to `largest_px`; no motion is white."""
    wheel = _wheel().to(flow.device)
    speed = flow.norm(dim=-3).div(largest_px).clamp(max=1)
    turn = torch.atan2(flow[..., 1, :, :], flow[..., 0, :, :]) / (2 * torch.pi) % 1 * len(wheel)
    first = turn.long() % len(wheel)
    share = (turn - turn.floor())[..., None]
    colour = torch.lerp(wheel[first], wheel[(first + 1) % len(wheel)], share).movedim(-1, -3)
    return 2 * (1 - speed[..., None, :, :] * (1 - colour)) - 1


def _wheel() -> Float[Tensor, "hues 3"]:
    parts = [
        torch.lerp(torch.tensor(a).float(), torch.tensor(b).float(), torch.arange(n)[:, None] / n)
        for n, a, b in SEGMENTS
    ]
    return torch.cat(parts) / 255
