"""The settings of the package's encoder and task; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from goembed_core.config import (
    ComponentConfig,
    Config,
    ConfigError,
    OptimizerConfig,
    TaskConfig,
    TrainConfig,
    component,
    resolve_model,
)
from goembed_core.config.resolve import Layer
from goembed_core.errors import UserError
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

Unpatch = Literal["convolutional", "overlapping", "linear"]
Steps = Annotated[int, Field(ge=1, le=10)]
TAKEN = ("steps", "detached", "plain", "unprojection", "mean_image", "white", "fit_same_views", *get_args(Unpatch))
MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z_]*[a-z]$", max_length=32)]


class UnprojectionConfig(Config):
    """Colours of views, back-projected into the grids of a forward model of its own."""

    forward_model: ComponentConfig = component(
        "forward-model", description="a representation on grids, decoded and rendered; it is trained with the encoder"
    )
    gain: PositiveFloat = Field(default=1.0, description="root mean square of the scaled moments")


class TransformerConfig(Config):
    """A transformer on patches of grids."""

    patch_size: Annotated[int, Field(ge=2, le=64)] = Field(default=4, description="cells along a patch's side; even")
    hidden_size: PositiveInt = Field(default=96, description="numbers in a token; a multiple of 4 and of num_heads")
    depth: PositiveInt = Field(default=3, description="blocks")
    num_heads: PositiveInt = Field(default=4, description="attention heads per block")

    @model_validator(mode="after")
    def _heads_are_whole(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}")
        return self


class PlaneNetworkConfig(TransformerConfig):
    """A transformer on the patches of a triplane."""

    unpatch: Unpatch = Field(
        default="convolutional",
        description="what tokens become: convolutional, smooth features that convolutions mix with the planes given; "
        "overlapping, patches twice as wide that fade out over their neighbours; linear, patches side by side, as DiT",
    )

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.patch_size % 2:
            raise ValueError(f"patch_size={self.patch_size}: expected an even number, as patches overlap by halves")
        return self


class PlaneTransformerConfig(PlaneNetworkConfig):
    """A transformer behind an encoder of triplanes."""

    encoder: ComponentConfig = component(
        "encoder", description="gives triplanes, and has a forward model: goembed or unprojection"
    )


class VoxelTransformerConfig(TransformerConfig):
    """Convolutions and a transformer behind an encoder of voxels."""

    encoder: ComponentConfig = component(
        "encoder", description="gives voxels, and has a forward model: goembed or unprojection"
    )
    width: PositiveInt = Field(default=16, description="features of a cell before the first halving; each doubles them")

    @model_validator(mode="after")
    def _halves_to_one(self) -> Self:
        if self.patch_size & (self.patch_size - 1):
            raise ValueError(f"patch_size={self.patch_size}: expected a power of two, as voxels are halved to tokens")
        return self


class NetworkConfig(PlaneNetworkConfig):
    """The transformer of a reconstruction, on planes (whose un-patching is chosen) or on voxels (whose width is)."""

    width: PositiveInt = Field(default=16, description="on voxels: features of a cell before the first halving")


class DrawConfig(Config):
    """What training sees of an object."""

    sources: tuple[PositiveInt, PositiveInt] = Field(
        default=(1, 4), description="fewest and most views that are encoded; their number is drawn for each batch"
    )
    fewest_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="share of the batches that have the fewest; the number of the others is drawn as it is, evenly",
    )
    source_rays: PositiveInt | None = Field(
        default=128,
        description="pixels of each view that gradient steps after the first look at, drawn anew; null for all",
    )
    targets: PositiveInt = Field(default=3, description="other views, which are rendered and compared")
    target_rays: PositiveInt = Field(default=128, description="pixels of each of them")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.sources[0] > self.sources[1]:
            raise ValueError(f"sources={list(self.sources)}: expected the fewest first")
        return self


class FitConfig(Config):
    """Fitting each object by itself to its source views: its signal, and a decoder that begins as it was trained."""

    objects: NonNegativeInt = Field(default=4, description="the first so many of the fixed list; 0 for none")
    steps: PositiveInt = Field(default=300, description="steps of Adam, whose rates fall to zero")
    rays: PositiveInt = Field(default=128, description="pixels of each source view in a step")
    lr: PositiveFloat = Field(default=0.05, description="learning rate of the signal")
    decoder_lr: PositiveFloat | None = Field(
        default=3e-3, description="learning rate of the decoder; null leaves it as it is"
    )
    start: Literal["origin", "encoding"] = Field(
        default="origin", description="where the signal begins: at the origin, or at what the most steps lead to"
    )
    smoothness: NonNegativeFloat = Field(
        default=0.02, description="weight of the mean difference of opacity and colour between neighbouring places"
    )


class EvaluateConfig(Config):
    """What is measured, on one list of held-out objects and views that all methods share."""

    sources: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 4, 8), min_length=1, description="numbers of views that are encoded"
    )
    targets: PositiveInt = Field(default=2, description="held-out views of each object")
    objects: Annotated[int, Field(ge=2)] = Field(default=24, description="held-out objects, at most")
    fit: FitConfig = Field(default=FitConfig(), description="fitting each object, the bound")
    views_at_once: PositiveInt = Field(default=16, description="views that are encoded together")
    intervals: PositiveInt = Field(default=1000, description="resamples of the bootstrap, over objects")
    pictures: PositiveInt = Field(default=6, description="objects that the report shows")


def _furniture(size: int) -> dict[str, Any]:
    return {"size": size, "packed": True, "split": "train"}


def _model(samples: int, proposals: tuple[int, ...] = (), **representation: Any) -> dict[str, Any]:
    renderer = {"samples": samples, "background": "white", "view_dependent": False}
    proposed = {"proposal_samples": list(proposals)} if proposals else {}
    return representation | {"renderer": renderer | proposed}


class ExperimentConfig(TaskConfig):
    """What the experiments have in common."""

    train: TrainConfig = Field(default=TrainConfig(), description="the training of every method, on the same batches")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=1e-2, betas=(0.9, 0.99), warmup_nimg=40, decay="cosine"),
        description="optimiser of every method",
    )
    dataset: ComponentConfig = component(
        "dataset", "omniobject3d", params=_furniture(32), description="objects to learn; its split test is held out"
    )
    forward_model: ComponentConfig = component(
        "forward-model",
        "voxels",
        params=_model(16, proposals=(24,), resolution=16, channels=12),
        description="the representation, its decoder and its renderer",
    )
    steps: tuple[Steps, ...] = Field(
        default=(1, 2, 3), min_length=1, description="gradient steps of an encoding, each number trained by itself"
    )
    gain: PositiveFloat = Field(
        default=3.0,
        description="root mean square, about, of what an encoding's steps together, and unprojection, give at first",
    )
    leaf_gain: dict[str, PositiveFloat] = Field(
        default={}, description="the same of some leaves of the signal, by their names, such as the layers of a network"
    )
    views: Literal["sum", "mean"] = Field(
        default="sum",
        description="the errors of an object's views are added up, or their mean is taken, so that gradients of four "
        "views are no longer than those of one: for signals that must not move far, as a network's weights",
    )
    draw: DrawConfig = Field(default=DrawConfig(), description="what training sees of an object")
    against: dict[MethodName, dict[str, Any] | None] = Field(
        default={},
        description="further encodings, to compare with the one of the most steps: their names, and in which of "
        "forward_model, steps and gain each differs",
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")

    @model_validator(mode="after")
    def _steps_differ(self) -> Self:
        if len(set(self.steps)) < len(self.steps):
            raise ValueError(f"steps={list(self.steps)}: expected different numbers")
        return self


class PlenopticEncodingConfig(ExperimentConfig):
    """Encode views of objects by gradients at an origin, decode, and look from elsewhere; no network in between."""

    task: str = Field(default="plenoptic_encoding", description="name of the task")
    detached: bool = Field(
        default=False, description="train each number of steps also without differentiating the encoding, to compare"
    )


class SparseViewReconstructionConfig(ExperimentConfig):
    """Encode views of objects into voxels or triplanes, improve these by a transformer, and look from elsewhere."""

    task: str = Field(default="sparse_view_reconstruction", description="name of the task")
    steps: tuple[Steps, ...] = Field(
        default=(1, 3), min_length=1, description="gradient steps of an encoding, each number trained by itself"
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99), warmup_nimg=80, decay="cosine"),
        description="optimiser of every method, with its transformer",
    )
    network: NetworkConfig = Field(default=NetworkConfig(), description="the transformer, the same for every method")
    encodings: str | None = Field(
        default=None,
        description="encodings that are trained already and stay as they are, so that networks alone learn: embedded, "
        "the package's own, or the folder of a run of plenoptic_encoding; null trains them with the networks",
    )
    compare_plain: bool = Field(
        default=True, description="train the encoding of the most steps without a network too, to compare"
    )
    compare_unpatching: tuple[Unpatch, ...] = Field(
        default=(), description="of a triplane: train the most steps with these other un-patchings too, to compare"
    )


COMPARED = ("forward_model", "gain", "steps")  # in which further encodings may differ


def rivals(config: ExperimentConfig) -> dict[str, ExperimentConfig]:
    """The settings of each further encoding: the experiment's own, but for those in which it differs.

    **Raises:** ConfigError, which names the encoding.
    """
    found = {}
    for name, differences in config.against.items():
        if differences is None:
            continue
        if name in TAKEN:
            raise ConfigError(f"against.{name}: so another method is called; choose another name")
        for key in differences.keys() - set(COMPARED):
            raise ConfigError(
                f"against.{name}.{key}: encodings are compared on the same batches; they differ in "
                f"{', '.join(COMPARED)}"
            )
        own = config.model_dump(mode="json") | {"against": {}}
        try:
            layers = (Layer("the run", own), Layer(f"against.{name}", differences))
            found[name] = resolve_model(type(config), [], layers).config
        except UserError as error:
            raise ConfigError(f"against.{name}: {error}") from error
    return found


class SampleConfig(Config):
    """What `goembed sample` can be told."""

    task: str = Field(default="plenoptic_encoding", description="name of the task")
    object: NonNegativeInt = Field(default=0, description="which of the held-out objects")
    sources: PositiveInt = Field(default=4, description="views of it that are encoded, the first of the fixed list")
    frames: PositiveInt = Field(default=36, description="frames of the turntable")
    size: Annotated[int, Field(ge=8, le=1024)] = Field(default=96, description="side of a frame in pixels")
    out: Path | None = Field(default=None, description="folder of the turntable; null for RUN/samples or ./samples")


class ReconstructionSampleConfig(SampleConfig):
    """What `goembed sample` of a reconstruction can be told."""

    task: str = Field(default="sparse_view_reconstruction", description="name of the task")


def _preset(images: int, clip_norm: float = 1.0, **settings: Any) -> dict[str, Any]:
    train = {"images": images, "batch_size": 2, "ema_halflife_nimg": 40, "log_every_nimg": 40,
             "checkpoint_every_nimg": 400, "mixed_precision": "no", "clip_norm": clip_norm}  # fmt: skip
    return {"train": train} | settings


TRIPLANE = {"name": "triplane", **_model(16, resolution=32, channels=12)}

ORIGINS = {
    "dense_origin": {"forward_model": {"decoder": {"density_bias": 1.0}}},
    "clear_origin": {"forward_model": {"decoder": {"density_bias": -4.0}}},
    "learned_origin": {"forward_model": {"learned_origin": True}},
}

PRESETS: dict[str, dict[str, Any]] = {
    "quick": _preset(800, steps=[1, 3, 5]),
    "triplane": _preset(600, forward_model=TRIPLANE),
    "factored": _preset(600, gain=0.4, forward_model={"name": "factored", **_model(16, resolution=32, channels=8)}),
    # Weights must not move far: sin(10 W h) of what moves by more than its size has forgotten where it began.
    "siren": _preset(
        600,
        views="mean",
        leaf_gain={"first": 0.002, "hidden": 0.001, "last": 0.5},
        optimizer={"lr": 5e-3, "module_lr": {"learned_origin": 1e-3}},
        forward_model={"name": "siren", "learned_origin": True, **_model(16, hidden_size=48, depth=2, channels=16)},
    ),
    "origins": _preset(400, steps=[3], against=ORIGINS, evaluate={"fit": {"objects": 0}}),
}

RECONSTRUCTION_PRESETS: dict[str, dict[str, Any]] = {
    "quick": _preset(
        1200,
        steps=[1, 5],
        encodings="embedded",
        clip_norm=0.02,
        optimizer={"lr": 1e-3, "betas": [0.9, 0.999]},
        draw={"fewest_share": 0.4},
        evaluate={"fit": {"objects": 0}},
    ),
    "triplane": _preset(600, forward_model=TRIPLANE, compare_unpatching=["linear"]),
}
