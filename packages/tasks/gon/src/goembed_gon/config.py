"""The settings of gradient origin networks; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_encoder.config import EncodingConfig
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class LatentConfig(Config):
    """What every decoder has."""

    latent: PositiveInt = Field(default=32, description="numbers of a latent")
    channels: Literal[1, 3] = Field(default=1, description="1 for grey images, 3 for colour")
    variational: bool = Field(
        default=False, description="mean and variance of a Gaussian are read off the latent, and it is sampled"
    )


class ImageDecoderConfig(LatentConfig):
    """Transposed convolutions to images of 32 x 32."""

    width: PositiveInt = Field(default=16, description="channels at 16 x 16; twice at 8 x 8, four times at 4 x 4")
    norm: Literal["none", "group"] = Field(default="none", description="none, or group normalisation of each image")


class SirenDecoderConfig(LatentConfig):
    """A network of sines, asked at every pixel's place (implicit GON)."""

    resolution: PositiveInt = Field(default=32, description="side of the images in pixels")
    hidden_size: PositiveInt = Field(default=64, description="width")
    depth: PositiveInt = Field(default=3, description="layers of sines")
    omega: PositiveFloat = Field(default=30.0, description="frequency of the first layer's sines (SIREN's ω0)")


class ImageEncoderConfig(Config):
    """The baseline's encoder: the transposed convolutions' mirror image."""

    latent: PositiveInt = Field(default=32, description="numbers of a latent")
    channels: Literal[1, 3] = Field(default=1, description="1 for grey images, 3 for colour")
    width: PositiveInt = Field(default=16, description="channels at 16 x 16; twice at 8 x 8, four times at 4 x 4")


class EvaluateConfig(Config):
    """What is measured."""

    images: Annotated[int, Field(ge=2)] = Field(default=10_000, description="test images that are reconstructed")
    fitted: Annotated[int, Field(ge=100)] = Field(
        default=5000, description="training images to whose latents a Gaussian is fitted, for samples"
    )
    batch_size: PositiveInt = Field(default=250, description="images at a time")
    intervals: PositiveInt = Field(default=500, description="resamples of the bootstrap")


class GONConfig(TaskConfig):
    """A decoder that is its own encoder, by the gradient at its origin, beside an auto-encoder of twice its size."""

    task: str = Field(default="gon", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=2e-3, warmup_nimg=2_000, decay="cosine"), description="optimiser of both"
    )
    dataset: ComponentConfig = component("dataset", "images", description="images to learn")
    test_dataset: ComponentConfig = component(
        "dataset", "images", params={"split": "test"}, description="images to be judged by"
    )
    decoder: ComponentConfig = component("forward-model", "image-decoder", description="decoder of both")
    encoding: EncodingConfig = Field(default=EncodingConfig(), description="the encoding of GON")
    kl_weight: NonNegativeFloat = Field(default=1.0, description="variational: weight of the divergence to the prior")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


class SampleConfig(Config):
    """What `goembed sample` can be told."""

    task: str = Field(default="gon", description="name of the task")
    num_samples: PositiveInt = Field(default=64, description="images to sample")
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    out: Path | None = Field(default=None, description="folder of the pictures; null for RUN/samples")


def _preset(**settings: Any) -> dict[str, Any]:
    train = {"images": 64_000, "batch_size": 64, "ema_halflife_nimg": 2_000, "log_every_nimg": 6_400,
             "checkpoint_every_nimg": 32_000, "mixed_precision": "no"}  # fmt: skip
    return {"train": {**train, **settings.pop("train", {})}, **settings}


PRESETS: dict[str, dict[str, Any]] = {
    "quick": _preset(),
    "multistep": _preset(encoding={"steps": 3}),
    "variational": _preset(decoder={"name": "image-decoder", "variational": True}),
    "implicit": _preset(
        decoder={"name": "siren-decoder"},
        train={"images": 16_000},
        optimizer={"lr": 1e-3, "warmup_nimg": 2_000, "decay": "cosine"},
    ),
}
