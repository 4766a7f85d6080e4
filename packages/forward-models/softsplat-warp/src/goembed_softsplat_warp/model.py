"""An image and its motion as a signal; what is observed is the image at any time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.shapes import require_views
from goembed_core.traits import ForwardModelTraits
from jaxtyping import Float
from torch import Tensor, nn

from goembed_softsplat_warp.config import SoftsplatWarpConfig
from goembed_softsplat_warp.holes import pull_push
from goembed_softsplat_warp.splatting import coverage_of, require_shape, splat

__all__ = ["MovingImage", "SoftsplatWarp", "WarpTime"]


class MovingImage(NamedTuple):
    """The signal: an image, and where each of its pixels goes."""

    colour: Float[Tensor, "batch channels height width"]  # in [-1, 1]; any number of channels
    motion: Float[Tensor, "batch 2 height width"]  # in pixels, x before y: where a pixel is at time 1, from where it is
    metric: Float[Tensor, "batch 1 height width"]  # where pixels meet, those of larger metric show


class WarpTime(NamedTuple):
    """`φ`: when the image is seen; 0 is the context, 1 the target, any real number is allowed."""

    time: Float[Tensor, "batch views"]


class SoftsplatWarp(nn.Module):
    """`O(u + t motion(u)) = colour(u)` by softmax splatting (DFM, single-image motion); at time 0 it is the identity.

    Nothing lands on some pixels.  With the coverage `c` of a pixel, its bilinear weights added up, the share
    `min(1, c / full_coverage)` of what is seen landed there, and `holes` says what the rest is:

    - pull-push: its neighbours, by a pyramid;
    - source: the unmoved colour;
    - zero: nothing, which is mid-grey.

    Differentiable in the signal, any number of times, and in the time.  Where a pixel lands exactly on a row or column,
    as at time 0, the derivative in its motion is the one to the right and downwards.
    """

    conformance = ForwardModelTraits(compiles=True, vmaps=True)

    def __init__(self, config: SoftsplatWarpConfig):
        super().__init__()
        self.config = config

    def forward(self, signal: MovingImage, params: WarpTime) -> Float[Tensor, "batch views channels height width"]:
        """See every image at each of its times; of the colour's dtype, computed in float32 at least."""
        views = _require_fitting(signal, params)
        flow = self.flow(signal, params)
        with without_autocast(flow.device):
            colour, metric = (_for_views(leaf, views) for leaf in (signal.colour, signal.metric))
            weight = self._share(coverage_of(flow))
            landed = weight * splat(at_least_float32(colour), flow, metric, "softmax")
            if self.config.holes == "pull-push":
                seen = pull_push(landed, weight)
            elif self.config.holes == "source":
                seen = landed + (1 - weight) * colour
            else:
                seen = landed
        return seen.to(colour.dtype).unflatten(0, (len(signal.colour), views))

    def flow(self, signal: MovingImage, params: WarpTime) -> Float[Tensor, "images 2 height width"]:
        """`t motion` of every view of every signal in turn, `batch * views` images, in float32 at least."""
        motion = at_least_float32(signal.motion)
        return (params.time.to(motion.dtype)[..., None, None, None] * motion[:, None]).flatten(0, 1)

    def coverage(self, signal: MovingImage, params: WarpTime) -> Float[Tensor, "batch views 1 height width"]:
        """The sum of bilinear weights of what lands on each pixel: 0 in holes, 1 where nothing moves."""
        views = _require_fitting(signal, params)
        return coverage_of(self.flow(signal, params)).unflatten(0, (len(signal.colour), views))

    def holes(self, signal: MovingImage, params: WarpTime) -> Float[Tensor, "batch views 1 height width"]:
        """How much of each pixel is filled in, from 0 (all of it landed there) to 1 (none)."""
        return 1 - self._share(self.coverage(signal, params))

    def _share(self, coverage: Tensor) -> Tensor:
        return (coverage / self.config.full_coverage).clamp(max=1)

    def origin(self, batch_size: int, device: torch.device) -> MovingImage:
        """Mid-grey that does not move, of the config's size."""
        channels, height, width = self.config.channels, self.config.height, self.config.width
        shapes = ((channels, height, width), (2, height, width), (1, height, width))
        return MovingImage(*(torch.zeros(batch_size, *shape, device=device) for shape in shapes))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[MovingImage, WarpTime]:
        """Random images of the config's size, which move by some pixels, seen at two random times up to 1."""
        like = self.origin(batch_size, generator.device)
        colour, motion, metric = (torch.randn(leaf.shape, generator=generator, device=leaf.device) for leaf in like)
        time = torch.rand(batch_size, 2, generator=generator, device=generator.device)
        return MovingImage(colour.tanh(), 2 * motion, metric), WarpTime(time)


def _require_fitting(signal: MovingImage, params: WarpTime) -> int:
    """The number of views."""
    if signal.colour.dim() != 4:
        shape = tuple(signal.colour.shape)
        raise UserError(f"the colour has shape {shape}, expected (batch, channels, height, width)")
    batch, _, *size = signal.colour.shape
    require_shape("motion", signal.motion, (batch, 2, *size))
    require_shape("metric", signal.metric, (batch, 1, *size))
    return require_views(params, batch, time=())


def _for_views(leaf: Tensor, views: int) -> Tensor:
    return leaf[:, None].expand(-1, views, -1, -1, -1).flatten(0, 1)
