"""The baseline of an encoding: what views see of each place, gathered there and mapped to channels."""

from __future__ import annotations

import torch
from goembed_core.config import ConfigError
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.traits import EncoderTraits
from goembed_core.trees import tree_map
from goembed_nerf_renderer.cameras import PosedPixels, project
from goembed_triplane.config import FactoredConfig, TriplaneConfig, VoxelsConfig
from goembed_triplane.grids import Factored, Factors, Triplane, Voxels
from goembed_triplane.model import SceneModel
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.config import UnprojectionConfig

MOMENTS = 6  # mean and variance of red, green and blue


class Unprojection(nn.Module):
    """`ζ = A · gain (mean_v o_v(π_v x), var_v o_v(π_v x)) / rms + b`, at each cell `x` of a grid, of views that see it.

    A plane has the mean over the axis that it lacks, a line over the two that it lacks.  The moments are scaled as an
    encoding's gradients are: by their root mean square in the first batch of training, which is stored; `A` and `b` are
    learned.  Cells that no view sees have zero.

    **Arguments:**
    - `forward_model`: whose signals are made; trained and saved with the encoder.
    - `gain`: root mean square of the scaled moments.

    **Raises:** UserError for a representation without grids.
    """

    def __init__(self, forward_model: SceneModel, gain: float = 1.0):
        super().__init__()
        representation = forward_model.decode.representation
        if not isinstance(representation, Voxels | Triplane | Factored):
            raise UserError(
                f"unprojection into {type(representation).__name__}: expected a representation on "
                f"grids, whose cells are places (voxels, triplane or factored)"
            )
        self.forward_model = forward_model
        self.representation, self.gain = representation, gain
        self.channels = nn.Linear(MOMENTS, representation.config.channels)
        self.register_buffer("rms", torch.ones(MOMENTS))
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))
        self.conformance = EncoderTraits(uses_timestep=False, observations_are_a_set=True)

    def forward(self, observations: Observations, timestep: Tensor | None = None) -> Tensor | Factors:
        """How far from the origin the views lead: a tree as the forward model's signals, zero without views.

        Differentiable in the observations' values and the weights; not in the cameras.
        """
        if timestep is not None:
            raise UserError("unprojection knows clean observations alone: give no timestep")
        moments, seen = self._moments(observations)
        if self.training and not self.measured and seen.any():
            square = moments.detach().square().sum((0, 2, 3, 4)) / seen.sum()
            self.rms.copy_(square.sqrt().clamp(min=1e-3))
            self.measured.fill_(True)
        volume = self.gain * moments / self.rms.clone()[:, None, None, None]
        return self._gathered(volume, seen.to(volume.dtype))

    def signal(self, observations: Observations) -> Tensor | Factors:
        """The signal that the views lead to: the origin and `forward`."""
        origin = self.forward_model.origin(len(observations.values), observations.values.device)
        return tree_map(torch.add, origin, self(observations))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, None]:
        """Whole images from around the box."""
        _, params = self.forward_model.example(batch_size, generator)
        height, width = 8, 8
        size = torch.tensor([float(width), float(height)])
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixels = torch.stack([columns, rows], -1).expand(*params.pixels.shape[:2], height, width, 2)
        scale = size / params.image_size[0, 0]
        intrinsics = params.camera.intrinsics.clone()
        intrinsics[..., 0, :] *= scale[0]
        intrinsics[..., 1, :] *= scale[1]
        params = PosedPixels(
            params.camera._replace(intrinsics=intrinsics), pixels, size.expand(*params.pixels.shape[:2], 2)
        )
        values = torch.rand(*params.pixels.shape[:2], 3, height, width, generator=generator)
        return Observations(values, params), None

    def _moments(self, observations: Observations) -> tuple[Float[Tensor, "b 6 r r r"], Bool[Tensor, "b r r r"]]:
        """Mean and variance over the views that see a cell, and which cells are seen; `[z, y, x]`."""
        values, params = observations
        if values.dim() != 5 or values.shape[2] != 3 or tuple(values.shape[3:]) != tuple(params.pixels.shape[2:4]):
            raise UserError(f"unprojection of values {tuple(values.shape)}: expected whole images, (B, V, 3, H, W)")
        batch, views, _, height, width = values.shape
        side = self.representation.config.resolution
        box = self.forward_model.config.box
        axes = [
            torch.linspace(low, high, side, device=values.device) for low, high in zip(box.low, box.high, strict=True)
        ]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        places = torch.stack([x, y, z], -1).reshape(1, -1, 3).expand(batch, -1, -1)
        pixels, depth = project(params.camera, places.to(values))
        size = values.new_tensor([width, height])
        inside = (depth > 0) & (pixels >= 0).all(-1) & (pixels <= size).all(-1)
        lookups = torch.where(inside[..., None], 2 * pixels / size - 1, 0.0)
        colours = F.grid_sample(
            2 * values.flatten(0, 1) - 1, lookups.flatten(0, 1)[:, None], align_corners=False, padding_mode="border"
        )
        colours = colours[:, :, 0].unflatten(0, (batch, views))
        weight = inside[:, :, None].to(values.dtype)
        count = weight.sum(1).clamp(min=1)
        mean = (weight * colours).sum(1) / count
        variance = (weight * (colours - mean[:, None]).square()).sum(1) / count
        moments = torch.cat([mean, variance], 1).unflatten(2, (side, side, side))
        return moments, inside.any(1).unflatten(1, (side, side, side))

    def _gathered(self, volume: Float[Tensor, "b 6 r r r"], seen: Float[Tensor, "b r r r"]) -> Tensor | Factors:
        """The moments in the representation's grids, mapped to its channels."""
        if isinstance(self.representation, Voxels):
            return self._mapped(volume, seen, ())
        planes = torch.stack([self._mapped(volume, seen, (axis,)) for axis in (0, 1, 2)], 1)  # xy, xz, yz
        if isinstance(self.representation, Triplane):
            return planes
        return Factors(planes, torch.stack([self._mapped(volume, seen, axes) for axes in ((1, 2), (0, 2), (0, 1))], 1))

    def _mapped(self, volume: Tensor, seen: Tensor, axes: tuple[int, ...]) -> Tensor:
        """The mean over some of `z, y, x`, of what is seen; `(B, C, ...)`."""
        if axes:
            volume = (volume * seen[:, None]).sum([axis + 2 for axis in axes])
            count = seen.sum([axis + 1 for axis in axes])
            volume, seen = volume / count.clamp(min=1)[:, None], (count > 0).to(volume.dtype)
        return self.channels(volume.movedim(1, -1)).movedim(-1, 1) * seen[:, None]


def gridded(settings: object) -> bool:
    """Whether a forward model of these settings has cells that are places."""
    return isinstance(settings, VoxelsConfig | TriplaneConfig | FactoredConfig)


def from_config(config: UnprojectionConfig) -> Unprojection:
    """The encoder around the forward model that its settings name.

    **Raises:** ConfigError for a forward model without grids.
    """
    if not gridded(config.forward_model.settings):
        raise ConfigError(
            f"forward_model={config.forward_model.name} has no cells that are places: unprojection needs voxels, "
            f"triplane or factored"
        )
    return Unprojection(config.forward_model.build(), config.gain)
