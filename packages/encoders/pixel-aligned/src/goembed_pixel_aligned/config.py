"""Settings of the pixel-aligned encoder, its fields and the denoiser; free of torch."""

from __future__ import annotations

from typing import Literal, Self

from goembed_core.config import Config
from goembed_dit.config import DiTConfig
from goembed_nerf_renderer.config import RendererConfig
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

SHOWN_CHANNELS = 5  # of the estimate that the noisy target is seen beside: colour, depth, opacity


class PixelAlignedConfig(Config):
    """An encoder of views, one by one: a transformer, and a convolution that keeps what is finer than its tokens."""

    network: DiTConfig = Field(
        default=DiTConfig(in_channels=3, height=32, width=32, patch_size=4, out_channels=64, head_std=0.02),
        description="the transformer; its out_channels are the features of a pixel",
    )
    kernel_px: PositiveInt = Field(default=3, description="side of the convolution's kernel; odd")
    upright: bool = Field(
        default=False,
        description="beside the image the encoder sees how steeply each pixel's ray rises in the world, and the sine "
        "of the camera's elevation: for scenes that stand upright about the origin, z up",
    )

    @model_validator(mode="after")
    def _gives_pixels(self) -> Self:
        if self.network.head != "pixels":
            raise ValueError(f"network.head={self.network.head}: features of pixels need network.head=pixels")
        if self.kernel_px % 2 == 0:
            raise ValueError(f"kernel_px={self.kernel_px} is even: the kernel needs a pixel in its middle")
        return self


class FieldConfig(Config):
    """The network that makes a radiance field of pixel-aligned features."""

    width: PositiveInt = Field(default=64, description="of every layer; features are projected to so many channels")
    view_blocks: NonNegativeInt = Field(default=1, description="residual blocks that see each view by itself")
    blocks: NonNegativeInt = Field(default=1, description="residual blocks behind the mean over the views")
    frequencies: NonNegativeInt = Field(default=4, description="octaves of sines and cosines of each coordinate")
    first_frequency: PositiveFloat = Field(default=1.5, description="of the lowest octave, in radians per unit")
    frame: Literal["camera", "upright"] = Field(
        default="camera",
        description="positions are those of each camera, as in pixelNeRF; or upright: those of the world, turned about "
        "z until x is the camera's right, for scenes about the origin",
    )
    middle: NonNegativeFloat = Field(default=4.0, description="depth from which the depths of points are counted")
    density_scale: PositiveFloat = Field(default=10.0, description="density per unit of length that 1 means")
    density_bias: float = Field(default=-2.0, description="added before the softplus: below 0, space begins emptier")
    pooling: Literal["mean", "weighted"] = Field(
        default="mean",
        description="what the views say of a point is averaged, as in pixelNeRF; or in the sampled field weighted by "
        "what each says and by its timestep, so that a noisy target counts for less",
    )
    time_size: PositiveInt = Field(default=64, description="numbers in the embedding of the timestep")
    surfaces: NonNegativeInt = Field(
        default=0,
        description="depths that the features tell for each pixel; how far behind each of them a point is, is encoded "
        "beside its position (pixelNeRF: 0)",
    )
    surface_frequency: PositiveFloat = Field(
        default=3.0, description="of the lowest octave of these distances, in radians per unit"
    )
    surface_spread: PositiveFloat = Field(
        default=0.6, description="at first the surfaces are so far before and behind the middle, evenly"
    )
    code_cells: NonNegativeInt = Field(
        default=8,
        description="an image's code acts on the weights of its layers as the timestep does, and on the first one's: "
        "linear in the means of its features over so many cells a side, each with weights of its own; pixelNeRF has "
        "features of pixels alone: 0",
    )


class EstimateConfig(Config):
    """How the deterministic estimate from the context is shown to the encoder of the noisy target."""

    downscale: PositiveInt = Field(default=2, description="it is rendered so many times smaller, and enlarged")
    features: NonNegativeInt = Field(default=0, description="features of the field that are rendered beside its colour")
    corrected: bool = Field(
        default=False,
        description="the sampled field is the estimate with a correction, added before density and colour are made of "
        "it; or a field by itself, as in the paper",
    )
    detach: bool = Field(
        default=True, description="no gradient of the sampled field passes into the rendering of the estimate"
    )

    @model_validator(mode="after")
    def _features_are_trained(self) -> Self:
        if self.features and self.detach:
            raise ValueError(f"features={self.features} get their gradient through the rendering: set detach=false")
        return self


class SceneDenoiserConfig(Config):
    """pixelNeRF of context and noisy target, with a deterministic estimate between them (DFM §4.1)."""

    context: PixelAlignedConfig = Field(
        default=PixelAlignedConfig(), description="the encoder of the context's views, at timestep 0"
    )
    target: PixelAlignedConfig = Field(
        default=PixelAlignedConfig(
            network=DiTConfig(in_channels=8, height=32, width=32, patch_size=4, out_channels=64, head_std=0.02)
        ),
        description="the encoder of the noisy target beside the estimate: 3 + 5 + estimate.features channels",
    )
    field: FieldConfig = Field(default=FieldConfig(), description="both fields: the estimate, and what is sampled")
    estimate: EstimateConfig = Field(default=EstimateConfig(), description="the deterministic estimate")
    renderer: RendererConfig = Field(
        default=RendererConfig(near=2.9, far=5.1, proposal_samples=(), samples=16, background="white"),
        description="how the estimate is rendered",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        wanted = 3 + SHOWN_CHANNELS + self.estimate.features
        if self.target.network.in_channels != wanted:
            raise ValueError(
                f"target.network.in_channels={self.target.network.in_channels}: the noisy target has 3 channels, the "
                f"estimate {SHOWN_CHANNELS} and estimate.features={self.estimate.features}; set it to {wanted}"
            )
        if self.context.network.in_channels != 3:
            raise ValueError(f"context.network.in_channels={self.context.network.in_channels}: images have 3 channels")
        sizes = {n: (c.network.height, c.network.width, c.network.out_channels)
                 for n, c in (("context", self.context), ("target", self.target))}  # fmt: skip
        if sizes["context"] != sizes["target"]:
            raise ValueError(
                f"context has (height, width, out_channels) {sizes['context']}, target {sizes['target']}: one field "
                f"reads both, make them equal"
            )
        height, width, _ = sizes["target"]
        if height % self.estimate.downscale or width % self.estimate.downscale:
            raise ValueError(
                f"estimate.downscale={self.estimate.downscale} does not divide height={height} and width={width}"
            )
        return self
