"""deepinv's operators as `O = forward(S, φ)`: what varies from view to view is φ, all else is the operator's own.

Three ways, by what the operator can vary:

| way | operators | φ |
|---|---|---|
| `Projections` | `Tomography` | the angle of each view |
| `Called` | those that take a mask or a blur kernel when called | the mask or kernel of each view |
| `Fixed` | all others | which of the operator's measurements each view sees |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from goembed_core.config import ConfigError
from goembed_core.errors import UserError
from jaxtyping import Float
from torch import Tensor, nn

from goembed_deepinv.config import DeepinvConfig
from goembed_deepinv.library import ANY_COMPLAINT
from goembed_deepinv.operator import at_least_float32, full_precision, operator_of

EXAMPLE_VIEWS = 3


class Angle(NamedTuple):
    """φ of tomography: each view is one projection."""

    angle_deg: Float[Tensor, "batch views"]


class Mask(NamedTuple):
    """φ of inpainting and of MRI: the pixels, or frequencies, that each view keeps."""

    mask: Float[Tensor, "batch views 1 height width"]


class Kernel(NamedTuple):
    """φ of the blurs: the point spread function of each view."""

    filter: Float[Tensor, "batch views 1 kernelheight kernelwidth"]


class Seen(NamedTuple):
    """φ of every other operator: a weight, 0 or 1, on each of its measurements."""

    seen: Float[Tensor, "batch views ..."]


CALLED = {"Inpainting": Mask, "MRI": Mask, "Blur": Kernel, "BlurFFT": Kernel, "Downsampling": Kernel}


def forward_model(config: DeepinvConfig) -> Projections | Called | Fixed:
    """The operator as a forward model; what `parameters` sets is fixed, and does not vary with the views."""
    given = config.parameters
    if config.operator == "Tomography" and "angles" not in given:
        return Projections(config)
    if config.half_ramp:
        raise ConfigError(
            "half_ramp=true: the filter is for operator=Tomography, without parameters.angles; leave it out"
        )
    phi = CALLED.get(config.operator)
    return Called(config, phi) if phi and phi._fields[0] not in given else Fixed(config)


class Projections(nn.Module):
    """Parallel-beam tomography, every item under its own angles: signals `(B, C, W, W)` to `(B, V, C, detectors)`.

    deepinv's operator holds one set of angles for the whole batch, as a sampling grid.  Here the grids of all items are
    computed at once, and its own code then samples along them.  Differentiable in the signal and in the angles.
    """

    def __init__(self, config: DeepinvConfig):
        super().__init__()
        if config.parameters.get("fan_beam") or config.parameters.get("normalize"):
            raise ConfigError(
                "parameters: the angles of a view vary for parallel beams without normalisation; "
                "with fan_beam or normalize, fix them: parameters.angles=60"
            )
        if not config.parameters.get("parallel_computation", True):
            raise ConfigError("parameters.parallel_computation=false: all angles are computed together; leave it out")
        self.config = config
        self.operator = operator_of(config, angles=1, normalize=False)
        self.num_detectors = self.operator.physics.radon.all_grids.shape[1]

    def forward(
        self, signal: Float[Tensor, "batch channels height width"], params: Angle
    ) -> Float[Tensor, "batch views channels detectors"]:
        """Project every signal along its angles."""
        _check(self.config, signal, params, Angle)
        x = at_least_float32(signal)
        angles = params.angle_deg.to(x)
        if angles.numel() == 0:
            return x.new_zeros(*angles.shape, x.shape[1], self.num_detectors)
        with full_precision(x.device):
            radon = {"physics.radon.all_grids": self.grids(angles), "physics.radon.theta": angles[0]}
        sinogram = self.operator.observe(x, {}, radon)  # (B, C, detectors, V)
        values = sinogram.permute(0, 3, 1, 2)
        return self.config.scale * (half_ramp(values) if self.config.half_ramp else values)

    def grids(self, angle_deg: Float[Tensor, "batch views"]) -> Float[Tensor, "batch width viewswidth 2"]:
        """Where deepinv's operator samples the image: its base grid, rotated by each angle, the views side by side."""
        batch, views = angle_deg.shape
        width = self.num_detectors  # as wide as the padded image
        cos, sin, zero = torch.deg2rad(angle_deg).cos(), torch.deg2rad(angle_deg).sin(), torch.zeros_like(angle_deg)
        rotation = torch.stack([cos, sin, zero, -sin, cos, zero], -1).view(batch * views, 2, 3)
        grids = F.affine_grid(rotation, [batch * views, 1, width, width], align_corners=True)
        return grids.view(batch, views, width, width, 2).transpose(1, 2).flatten(2, 3)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Angle]:
        """Random images, and angles over half a turn."""
        signal = torch.rand(batch_size, *self.config.signal_shape, generator=generator)
        return signal, Angle(180 * torch.rand(batch_size, EXAMPLE_VIEWS, generator=generator))


def half_ramp(values: Float[Tensor, "*batch detectors"]) -> Float[Tensor, "*batch detectors"]:
    """The filter `√|k|` along the detectors, padded to twice their number so that they do not wrap around.

    The zero frequency, which the ramp itself would lose, weighs as much as `|k|` does on average about it.
    """
    padded = 2 * values.shape[-1]
    frequency = torch.fft.rfftfreq(padded, dtype=values.dtype, device=values.device).clamp(min=1 / (4 * padded))
    return torch.fft.irfft(torch.fft.rfft(values, padded) * frequency.sqrt(), padded)[..., : values.shape[-1]]


class Called(nn.Module):
    """An operator that takes φ when it is called; views are folded into its batch, so that it is called once."""

    def __init__(self, config: DeepinvConfig, phi: type[Mask] | type[Kernel]):
        super().__init__()
        if phi is Kernel and config.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={config.kernel_size} is even: a kernel has a central pixel; say an odd one")
        self.config, self.phi = config, phi
        _, height, width = config.signal_shape
        if phi is Mask:
            neutral = torch.ones(1, 1, height, width)
        else:
            neutral = F.pad(torch.ones(1, 1, 1, 1), [config.kernel_size // 2] * 4)
        self.operator = operator_of(config, **{phi._fields[0]: neutral})

    def forward(
        self, signal: Float[Tensor, "batch channels height width"], params: Mask | Kernel
    ) -> Float[Tensor, "batch views channels ..."]:
        """Observe every signal under the mask or kernel of each view."""
        _check(self.config, signal, params, self.phi)
        (leaf,) = params
        x = at_least_float32(signal).repeat_interleave(leaf.shape[1], 0)
        observed = self.operator.observe(x, {self.phi._fields[0]: leaf.to(x).flatten(0, 1)})
        return self.config.scale * observed.unflatten(0, leaf.shape[:2])

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Mask | Kernel]:
        """Random images, and masks of a half, or kernels of sum 1."""
        signal = torch.rand(batch_size, *self.config.signal_shape, generator=generator)
        side = (self.config.kernel_size,) * 2 if self.phi is Kernel else self.config.signal_shape[1:]
        drawn = torch.rand(batch_size, EXAMPLE_VIEWS, 1, *side, generator=generator)
        drawn = drawn / drawn.sum((-2, -1), keepdim=True) if self.phi is Kernel else (drawn < 0.5).to(signal)
        return signal, self.phi(drawn)


class Fixed(nn.Module):
    """An operator without anything to vary: it is called once a signal, and each view sees a part of the outcome."""

    def __init__(self, config: DeepinvConfig):
        super().__init__()
        self.config = config
        self.operator = operator_of(config)
        try:
            self.measured_shape = tuple(self.measure(torch.zeros(1, *config.signal_shape)).shape[1:])
        except ANY_COMPLAINT as error:
            raise ConfigError(
                f"signal_shape={config.signal_shape}: deepinv's {config.operator} says of such images: "
                f"{' '.join(str(error).split())}"
            ) from None

    def forward(
        self, signal: Float[Tensor, "batch channels height width"], params: Seen
    ) -> Float[Tensor, "batch views ..."]:
        """What each view sees of the measurements, and zeros."""
        _check(self.config, signal, params, Seen)
        if tuple(params.seen.shape[2:]) != self.measured_shape:
            shape = ", ".join(map(str, self.measured_shape))
            raise UserError(
                f"φ.seen is {tuple(params.seen.shape)}, but {self.config.operator} measures ({shape}) of each signal: "
                f"expected (batch, views, {shape})"
            )
        measured = self.measure(signal)
        return measured[:, None] * params.seen.to(measured)

    def measure(self, signal: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch ..."]:
        """All that the operator measures; of complex numbers the real and the imaginary parts, as first dimension."""
        x = at_least_float32(signal)
        x = x.to(x.dtype.to_complex()) if self.config.as_complex else x
        return self.config.scale * self.operator.observe(x)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Seen]:
        """Random images, of whose measurements each view sees a half."""
        signal = torch.rand(batch_size, *self.config.signal_shape, generator=generator)
        drawn = torch.rand(batch_size, EXAMPLE_VIEWS, *self.measured_shape, generator=generator)
        return signal, Seen((drawn < 0.5).to(signal))


def _check(config: DeepinvConfig, signal: Tensor, params: NamedTuple, wanted: type) -> None:
    """Say which of signal and φ does not fit."""
    if tuple(signal.shape[1:]) != config.signal_shape:
        shape = ", ".join(map(str, config.signal_shape))
        raise UserError(
            f"the signal is {tuple(signal.shape)}, expected (batch, {shape}); set forward_model.signal_shape to "
            "the images that there are"
        )
    if not isinstance(params, wanted):
        raise UserError(f"φ is a {type(params).__name__}, but {config.operator} is given {wanted.__name__}")
    name, leaf, shape = wanted._fields[0], params[0], signal.shape[-2:]
    inner = {Angle: (), Mask: (1, *shape), Kernel: (1, *leaf.shape[-2:])}.get(wanted, leaf.shape[2:])
    if leaf.ndim < 2 or len(leaf) != len(signal) or tuple(leaf.shape[2:]) != tuple(inner):
        expected = ", ".join(map(str, ("views", *inner)))
        raise UserError(
            f"φ.{name} is {tuple(leaf.shape)}, expected ({len(signal)}, {expected}), as there are "
            f"{len(signal)} signals of {tuple(signal.shape[1:])}"
        )
