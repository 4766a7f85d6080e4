"""One of deepinv's operators, called without noise and without a trace."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from goembed_core.config import ConfigError
from goembed_core.errors import UserError
from torch import Tensor, nn
from torch.func import functional_call

from goembed_deepinv import library
from goembed_deepinv.config import DeepinvConfig


class Operator:
    """`A` of deepinv's `physics`, on the device and in the precision of what it is given.

    It is no module: its settings and seed say all that it is, and `Module.to(float64)` would take a complex matrix for
    a real one.  deepinv keeps the φ of a call as its own state; `functional_call` puts the old state back.
    """

    def __init__(self, physics: Any):
        self.physics = physics
        self._noiseless = _Noiseless(physics)
        self._placed: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def observe(
        self, x: Tensor, phi: dict[str, Tensor] | None = None, state: dict[str, Tensor] | None = None
    ) -> Tensor:
        """`A(x, φ)`, of complex numbers as real and imaginary parts in a new second dimension.

        **Arguments:**
        - `phi`: what `A` takes by name besides the image, as many as there are images.
        - `state`: tensors of the operator to be used in place of its own.
        """
        phi = phi or {}
        if len(x) == 0:  # of which deepinv knows no shape: take that of one image's observation
            one = self.observe(x.new_zeros(1, *x.shape[1:]), {k: v.new_zeros(1, *v.shape[1:]) for k, v in phi.items()})
            return one.new_zeros(0, *one.shape[1:])
        tensors = self._tensors(x) | (state or {})
        with full_precision(x.device):
            measured = functional_call(self._noiseless, tensors, (x, phi), tie_weights=False)
        if not isinstance(measured, Tensor):
            raise UserError(
                f"{type(self.physics).__name__} measures a list of tensors of several shapes, which is no observation; "
                "make a forward model of each of its parts"
            )
        return torch.view_as_real(measured).movedim(-1, 1) if measured.is_complex() else measured

    def _tensors(self, x: Tensor) -> dict[str, Tensor]:
        key = (x.device, x.dtype.to_real())
        if key not in self._placed:
            own = dict(self._noiseless.named_buffers(remove_duplicate=False))
            own |= dict(self._noiseless.named_parameters(remove_duplicate=False))
            self._placed[key] = {name: _place(tensor.detach(), *key) for name, tensor in own.items()}
        return self._placed[key]


class _Noiseless(nn.Module):
    """An operator without its noise, which would be drawn from torch's own numbers."""

    def __init__(self, physics: Any):
        super().__init__()
        self.physics = physics

    def forward(self, x: Tensor, phi: dict[str, Tensor]) -> Any:
        return self.physics.A(x, **phi)


def operator_of(config: DeepinvConfig, **arguments: Any) -> Operator:
    """The operator; the size of the image is filled in where its constructor wants one and none is given."""
    channels, height, width = config.signal_shape
    accepted = library.accepted(config.operator)
    if "img_width" in accepted and height != width:
        raise ConfigError(f"signal_shape={channels},{height},{width}: {config.operator} takes square images")
    sizes = {"img_size": (channels, height, width), "img_width": width}
    sizes = {name: size for name, size in sizes.items() if name in accepted}
    return Operator(library.build(config.operator, sizes | arguments | config.parameters, config.seed))


def at_least_float32(signal: Tensor) -> Tensor:
    """Fourier transforms and sampling know no half precision."""
    return signal if signal.dtype == torch.float64 else signal.float()


def full_precision(device: torch.device) -> AbstractContextManager:
    """Autocast would compute in bfloat16 what deepinv does by a convolution or a product."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _place(own: Tensor, device: torch.device, real: torch.dtype) -> Tensor:
    if own.is_complex():
        return own.to(device, real.to_complex())
    return own.to(device, real) if own.is_floating_point() else own.to(device)
