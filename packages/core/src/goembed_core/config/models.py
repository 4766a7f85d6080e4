"""The settings that every task has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from goembed_core.config.base import MAX_NAME_BYTES, Config

Fraction = Annotated[float, Field(ge=0, lt=1)]

# Accelerate's names of what can follow a training.
Tracker = Literal[
    "all", "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]


def _read_no(value: Any) -> Any:
    """YAML 1.1 reads Accelerate's own word `no` as false."""
    return "no" if value is False else value


Precision = Annotated[Literal["auto", "no", "fp16", "bf16", "bf16-if-native"], BeforeValidator(_read_no)]


def _folder_name(value: str) -> str:
    """The name of a run is that of a folder under its task; elsewhere is `run.dir`."""
    if value in (".", "..") or "/" in value or "\\" in value or len(value.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"expected the name of one folder, of at most {MAX_NAME_BYTES} bytes; for another place give run.dir=PATH"
        )
    return value


class OptimizerConfig(Config):
    """Adam with decoupled weight decay, or Muon beside it, and the learning rates over the images seen."""

    lr: PositiveFloat = Field(description="learning rate after the warm-up")
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), description="decay of the two moments")
    eps: PositiveFloat = Field(default=1e-8, description="added to the root of the second moment")
    weight_decay: NonNegativeFloat = Field(default=0.0, description="decoupled weight decay")
    warmup_nimg: NonNegativeInt = Field(default=0, description="images over which lr grows from 0")
    decay: Literal["constant", "cosine"] = Field(
        default="constant", description="lr after the warm-up; cosine ends at 0"
    )
    muon_lr: PositiveFloat | None = Field(
        default=None, description="learning rate of Muon for hidden weight matrices; null for Adam alone"
    )
    muon_modules: tuple[str, ...] = Field(
        default=("blocks",), description="Muon: modules whose matrices it updates; not the first or the last layers"
    )
    module_lr: dict[str, PositiveFloat] = Field(
        default={}, description="Adam: modules, by their names, with learning rates of their own in place of lr"
    )


class TrainConfig(Config):
    """One training; everything is counted in images seen, so that the number of processes changes nothing."""

    images: PositiveInt = Field(default=100_000, description="observations to see in total")
    batch_size: PositiveInt = Field(default=16, description="observations per step, over all processes")
    micro_batch_size: PositiveInt | None = Field(
        default=None, description="observations per process at a time; null for all of its share"
    )
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    mixed_precision: Precision = Field(
        default="auto",
        description="arithmetic of the networks; auto obeys accelerate's launcher, "
        "bf16-if-native is bf16 on processors that compute in it",
    )
    clip_norm: PositiveFloat | None = Field(default=1.0, description="largest norm of a gradient; null for any")
    ema_halflife_nimg: NonNegativeInt = Field(
        default=10_000, description="half-life of the averaged weights, in images; 0 for no average"
    )
    ema_rampup: NonNegativeFloat = Field(
        default=0.05, description="the half-life is never longer than this fraction of the images seen; 0 for no limit"
    )
    log_every_nimg: PositiveInt = Field(default=1_000, description="images between lines of metrics.jsonl")
    preview_every_nimg: NonNegativeInt = Field(default=0, description="images between previews; 0 for never")
    checkpoint_every_nimg: NonNegativeInt = Field(
        default=10_000, description="images between checkpoints; 0 for the last"
    )
    evaluate_every_nimg: NonNegativeInt = Field(
        default=0, description="images between evaluations; 0 for only at the end"
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        default="stop", description="a loss or gradient that is not finite: stop the run, or skip the step and count it"
    )
    trackers: list[Tracker] = Field(default=[], description="where to log to as well, by Accelerate's names")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; null for torch's own choice")
    keep_checkpoints: PositiveInt = Field(default=2, description="how many of the latest checkpoints to keep")

    @model_validator(mode="after")
    def _check_batches(self) -> TrainConfig:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of micro_batch_size={self.micro_batch_size}"
            )
        return self


class RunConfig(Config):
    """Where a run is kept."""

    dir: Path | None = Field(default=None, description="the run's folder; null for ROOT/TASK/NAME")
    name: Annotated[str, AfterValidator(_folder_name)] = Field(
        default="default", min_length=1, description="name of the run under its task"
    )
    root: Path = Field(default=Path("runs"), description="folder of all runs")


class TaskConfig(Config):
    """What every task can be told; a task adds its own sections."""

    task: str = Field(description="name of the task")
    preset: str = Field(default="quick", description="named group of settings of the task")
    run: RunConfig = Field(default=RunConfig(), description="where the run is kept")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.run.dir or self.run.root / self.task.rpartition(":")[2] / self.run.name
