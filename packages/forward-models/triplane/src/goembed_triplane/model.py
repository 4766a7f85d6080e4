"""Representations as forward models: decoded to a radiance field, and rendered."""

from __future__ import annotations

from typing import Any

import torch
from goembed_core.protocols import OriginView
from goembed_core.traits import ForwardModelTraits
from goembed_core.trees import named_leaves, tree_map
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
from goembed_triplane.grids import Factored, Representation, Triplane, Voxels, require_signal
from goembed_triplane.networks import Siren

REPRESENTATIONS = {TriplaneConfig: Triplane, VoxelsConfig: Voxels, FactoredConfig: Factored, SirenConfig: Siren}


def represent(config: TriplaneConfig | VoxelsConfig | FactoredConfig | SirenConfig) -> Representation:
    """The representation that settings, or settings that derive from its own, are of."""
    (build,) = (build for kind, build in REPRESENTATIONS.items() if isinstance(config, kind))
    return build(config)


class SceneModel(nn.Module):
    """`O = render(decode(ζ), φ)`: signals of one representation, seen by cameras.

    Twice differentiable in signal and decoder, so that gradient-origin embeddings can be trained through it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.decode = FieldDecoder(represent(config), config.decoder, config.box.low, config.box.high)
        self.renderer = VolumeRenderer(config.renderer.model_copy(update={"box": config.box}))
        own = named_leaves(self.decode.representation.origin(1, torch.device("cpu")), "signal").values()
        self.learned_origin = nn.ParameterList(own) if config.learned_origin else None
        self.conformance = ForwardModelTraits(
            ignored_params=("image_size",),
            twice_differentiable=True,
            compiles=config.renderer.chunk_points is None,
        )

    def forward(self, signal: Any, params: PosedPixels) -> Float[Tensor, "batch views 3 *shape"]:
        """The colour of each pixel on the renderer's background."""
        return self.renderer(self.decode(signal), params)

    def origin(self, batch_size: int, device: torch.device) -> Any:
        """The representation's origin: zeros; ones of a product; a fixed random network of sines.

        With `learned_origin` it is what has become of that, the same for the whole batch, and differentiable.
        """
        if self.learned_origin is not None:
            leaves = iter(self.learned_origin)
            shapes = self.decode.representation.origin(1, torch.device("meta"))
            return tree_map(lambda _: next(leaves).to(device).repeat_interleave(batch_size, 0), shapes)
        weight = self.decode.decoder.network[-1].weight
        return tree_map(lambda leaf: leaf.to(weight.dtype), self.decode.representation.origin(batch_size, device))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Any, PosedPixels]:
        """Signals around the origin, seen by two small cameras around the box."""

        def moved(leaf: Tensor) -> Tensor:
            size = 0.5 * leaf.abs().mean()
            return leaf + torch.where(size > 0, size, 0.5) * torch.randn(leaf.shape, generator=generator)

        signal = tree_map(moved, self.decode.representation.origin(batch_size, torch.device("cpu")))
        _, params = self.renderer.example(batch_size, generator)
        centre = 0.5 * (torch.tensor(self.config.box.low) + torch.tensor(self.config.box.high))
        pose = params.camera.camera_to_world.clone()
        pose[..., :3, 3] += centre
        return signal, params._replace(camera=params.camera._replace(camera_to_world=pose))

    @property
    def alike_at_origin(self) -> bool:
        """Whether all places look the same there, so that `origin_pullback` has a shortcut."""
        grid = not isinstance(self.decode.representation, Siren)
        return grid and self.decode.decoder.position_free and self.learned_origin is None

    def origin_pullback(self, origin: Any, params: PosedPixels) -> OriginView | None:
        """`∂⟨w, forward(ζ0, φ)⟩ / ∂ζ0 = splat(∂⟨w, O⟩/∂g · J)`, without a look at any feature.

        The features of a grid's origin are zero: the decoder's output `g` is one and the same at all samples, and so is
        its Jacobian `J`.  None where that does not hold: for a network of sines, for a decoder that knows the position,
        for a learned origin, and with `renderer.chunk_points`.  Values and what is pulled back are differentiable in
        decoder and background where gradients are recorded.

        **Arguments:**
        - `origin`: what `origin` gives; its values are not looked at, only its shapes and dtype.
        """
        representation, recorded = self.decode.representation, torch.is_grad_enabled()
        if not (self.alike_at_origin and self.config.renderer.chunk_points is None):
            return None
        shapes = representation.origin(len(params.pixels), torch.device("meta"))
        require_signal(
            origin, [tuple(leaf.shape[1:]) for leaf in named_leaves(shapes, "signal").values()], len(params.pixels)
        )
        field = _OriginField(self.decode)
        with torch.enable_grad():
            values = self.renderer(field, params)

        def pullback(weights: Float[Tensor, "batch views 3 *shape"]) -> Any:
            create = torch.is_grad_enabled()
            (slope,) = torch.autograd.grad(values, field.outputs, weights, create_graph=create, retain_graph=True)
            jacobian = self.decode.decoder.jacobian(field.feature)
            jacobian = jacobian if create else jacobian.detach()
            found = representation.splat(slope @ jacobian.to(slope), field.places)
            return tree_map(lambda leaf, like: leaf.to(like.dtype), found, origin)

        return OriginView(values if recorded else values.detach(), pullback)


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
