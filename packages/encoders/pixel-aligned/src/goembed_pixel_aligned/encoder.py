"""The encoder: features of every pixel of every view."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.shapes import require_views
from goembed_core.traits import EncoderTraits
from goembed_dit.network import DiT
from goembed_nerf_renderer.cameras import Camera, PosedPixels, camera_rays, look_at, make_intrinsics, whole_image
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_pixel_aligned.config import PixelAlignedConfig
from goembed_pixel_aligned.features import Features

UPRIGHT_CHANNELS = 2
DISTANCE = 4.0  # of the example's cameras from the middle


class PixelAlignedEncoder(nn.Module):
    """`DiT(O, t) + convolution(O)` of each view by itself, with one set of weights."""

    conformance = EncoderTraits(uses_timestep=True)

    def __init__(self, config: PixelAlignedConfig):
        super().__init__()
        self.config = config
        network = config.network
        channels = network.in_channels + UPRIGHT_CHANNELS * config.upright
        self.network = DiT(network.model_copy(update={"in_channels": channels}))
        self.detail = nn.Conv2d(channels, network.out_channels, config.kernel_px, padding=config.kernel_px // 2)

    def forward(self, observations: Observations, timestep: Num[Tensor, " batch"] | None = None) -> Features:
        """Features of whole images, with their cameras; `timestep` is 0 where none is given."""
        values, params = observations
        network = self.config.network
        batch, views = require_images(observations, "observations", self.config)
        if timestep is None:
            timestep = torch.zeros(batch, device=values.device)
        if timestep.shape != (batch,):
            raise UserError(f"timestep has shape {tuple(timestep.shape)}, expected ({batch},): one per signal")
        if self.config.upright:
            values = torch.cat([values, upright(params, network.height, network.width).to(values)], 2)
        images = values.flatten(0, 1)
        maps = self.network(images, timestep.repeat_interleave(views)) + self.detail(images)
        return Features(maps.unflatten(0, (batch, views)), params.camera, params.image_size)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Tensor]:
        """Noise, seen by two cameras around the middle, at any times."""
        timestep = torch.randperm(1000, generator=generator, device=generator.device)[:batch_size]
        return example_views(batch_size, 2, self.config, generator), timestep


def require_images(observations: Observations, name: str, config: PixelAlignedConfig) -> tuple[int, int]:
    """Signals and views, once these are known to be whole images of the network's size.

    **Raises:** UserError with the shapes that were given.
    """
    values, params = observations
    network = config.network
    expected = (network.in_channels, network.height, network.width)
    if values.dim() != 5 or tuple(values.shape[2:]) != expected:
        raise UserError(
            f"the {name} has values of shape {tuple(values.shape)}, expected (batch, views, "
            f"{', '.join(map(str, expected))}): images of the encoder's size"
        )
    return len(values), require_posed(params, name, values.shape[:2])


def require_posed(params: PosedPixels, name: str, expected: tuple[int, int]) -> int:
    """The number of views, once `φ` is known to be of as many signals and views."""
    leaves = {"camera.camera_to_world": (4, 4), "camera.intrinsics": (3, 3), "image_size": (2,)}
    views = require_views(params, expected[0], **leaves)
    if views != expected[1]:
        raise UserError(f"the {name} has {expected[1]} views, but φ of {views}: one camera for each image")
    return views


def example_views(batch_size: int, views: int, config: PixelAlignedConfig, generator: torch.Generator) -> Observations:
    """Noise in 3 channels or as many as the encoder has, under cameras all around that see the middle."""
    network = config.network
    shape = (batch_size, views, network.in_channels, network.height, network.width)
    device = generator.device
    values = torch.randn(shape, generator=generator, device=device)
    places = F.normalize(torch.randn(batch_size, views, 3, generator=generator, device=device), dim=-1) * DISTANCE
    pose = look_at(places, torch.zeros(3, device=device), torch.tensor([0.0, 0.02, 1.0], device=device))
    focal = (1.4 + 0.4 * torch.rand(batch_size, views, generator=generator, device=device)) * network.width
    middle = [torch.full_like(focal, 0.5 * side) for side in (network.width, network.height)]
    camera = Camera(pose, make_intrinsics(focal, focal, *middle))
    return Observations(values, whole_image(camera, network.height, network.width))


def upright(params: PosedPixels, height: int, width: int) -> Float[Tensor, "batch views 2 height width"]:
    """How steeply rays rise, by unit of depth, and the sine of the camera's elevation above the origin.

    Both stay as they are when the world turns about z.
    """
    whole = whole_image(params.camera, height, width)
    rays = camera_rays(whole.camera, whole.pixels)
    place = params.camera.camera_to_world[..., :3, 3]
    elevation = F.normalize(place, dim=-1)[..., 2, None, None]
    return torch.stack([rays.directions[..., 2], elevation.expand(rays.directions.shape[:-1])], 2)


def zoomed(features: Tensor, height: int, width: int) -> Tensor:
    """Maps `(B, V, C, h, w)` enlarged, bilinearly."""
    enlarged = F.interpolate(features.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
    return enlarged.unflatten(0, features.shape[:2])
