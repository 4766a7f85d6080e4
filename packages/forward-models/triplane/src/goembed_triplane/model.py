"""Representations as forward models: decoded to a radiance field, and rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from goembed_core.traits import ForwardModelTraits
from goembed_core.trees import tree_map
from goembed_nerf_renderer.cameras import PosedPixels
from goembed_nerf_renderer.fields import FieldSamples
from goembed_nerf_renderer.renderer import VolumeRenderer
from jaxtyping import Float
from torch import Tensor, nn

from goembed_triplane.config import (
    FactoredConfig,
    ModelConfig,
    SirenConfig,
    TriplaneConfig,
    VoxelsConfig,
)
from goembed_triplane.decoders import FieldDecoder
from goembed_triplane.grids import Factored, Representation, Triplane, Voxels
from goembed_triplane.networks import Siren

REPRESENTATIONS = {TriplaneConfig: Triplane, VoxelsConfig: Voxels, FactoredConfig: Factored, SirenConfig: Siren}


def represent(config: TriplaneConfig | VoxelsConfig | FactoredConfig | SirenConfig) -> Representation:
    """The representation that settings, or settings that derive from its own, are of."""
    (build,) = (build for kind, build in REPRESENTATIONS.items() if isinstance(config, kind))
    return build(config)


class AtOrigin(NamedTuple):
    """What is seen of the origin, and what any change of it that is wanted pulls on the origin."""

    values: Float[Tensor, "batch views 3 *shape"]
    pull: Callable[[Float[Tensor, "batch views 3 *shape"], bool], Any]  # (∂L/∂values, create_graph) to ∂L/∂ζ0


class SceneModel(nn.Module):
    """`O = render(decode(ζ), φ)`: signals of one representation, seen by cameras.

    Twice differentiable in signal and decoder, so that gradient-origin embeddings can be trained through it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.decode = FieldDecoder(represent(config), config.decoder, config.box.low, config.box.high)
        self.renderer = VolumeRenderer(config.renderer.model_copy(update={"box": config.box}))
        self.conformance = ForwardModelTraits(
            ignored_params=("image_size",),
            twice_differentiable=True,
            compiles=config.renderer.chunk_points is None,
        )

    def forward(self, signal: Any, params: PosedPixels) -> Float[Tensor, "batch views 3 *shape"]:
        """The colour of each pixel on the renderer's background."""
        return self.renderer(self.decode(signal), params)

    def origin(self, batch_size: int, device: torch.device) -> Any:
        """The representation's origin: zeros; ones of a product; a fixed random network of sines."""
        weight = self.decode.decoder.network[-1].weight
        return tree_map(lambda leaf: leaf.to(weight.dtype), self.decode.representation.origin(batch_size, device))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Any, PosedPixels]:
        """Signals around the origin, seen by two small cameras around the box."""
        signal = tree_map(
            lambda leaf: leaf + leaf.abs().mean().clamp(0.05, 0.5) * torch.randn(leaf.shape, generator=generator),
            self.decode.representation.origin(batch_size, torch.device("cpu")),
        )
        _, params = self.renderer.example(batch_size, generator)
        centre = 0.5 * (torch.tensor(self.config.box.low) + torch.tensor(self.config.box.high))
        pose = params.camera.camera_to_world.clone()
        pose[..., :3, 3] += centre
        return signal, params._replace(camera=params.camera._replace(camera_to_world=pose))

    @property
    def pulls(self) -> bool:
        """Whether `at_origin` holds: a grid, whose feature at the origin is zero; a decoder that knows no position."""
        grid = not isinstance(self.decode.representation, Siren)
        return grid and self.decode.decoder.position_free and self.config.renderer.chunk_points is None

    def at_origin(self, params: PosedPixels) -> AtOrigin:
        """`O0 = forward(ζ0, φ)` and `∂L/∂ζ0 = splat(∂L/∂g · J)` for any `∂L/∂O0`, without a look at the features.

        All features of the origin are zero: the decoder's output `g` is one and the same at all samples, and so is its
        Jacobian `J`.  Both the values and what is pulled can be differentiated, the latter with `create_graph`.

        **Raises:** ValueError unless `pulls`.
        """
        if not self.pulls:
            raise ValueError(
                f"no fast gradient at the origin of {type(self.decode.representation).__name__} with "
                f"position_frequencies={self.config.decoder.position_frequencies} and "
                f"chunk_points={self.config.renderer.chunk_points}: it needs a grid, 0 and null"
            )
        field = _OriginField(self.decode)
        with torch.enable_grad():
            values = self.renderer(field, params)

        def pull(slope: Float[Tensor, "batch views 3 *shape"], create_graph: bool = False) -> Any:
            with torch.set_grad_enabled(create_graph):
                (outputs,) = torch.autograd.grad(
                    values, field.outputs, slope, create_graph=create_graph, retain_graph=True
                )
                jacobian = self.decode.decoder.jacobian(field.feature)
                return self.decode.representation.splat(outputs @ jacobian, field.places)

        return AtOrigin(values, pull)


class _OriginField:
    """The field of the origin, which keeps where it was last asked and the decoder's output there."""

    def __init__(self, decode: FieldDecoder):
        self.decode = decode
        weight = decode.decoder.network[-1].weight
        self.feature = weight.new_zeros(decode.representation.channels)
        self.places = self.outputs = self.feature

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        self.places, inside = self.decode.places(points)
        one = self.decode.decoder(self.feature)
        one = one if one.requires_grad or not torch.is_grad_enabled() else one.requires_grad_()
        self.outputs = one.expand(*points.shape[:2], -1)
        return self.decode.decoder.shade(self.outputs, directions, inside)
