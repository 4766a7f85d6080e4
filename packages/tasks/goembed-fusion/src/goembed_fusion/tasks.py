"""The tasks, each an experiment of its own settings."""

from __future__ import annotations

from pathlib import Path

from goembed_core.config import ConfigError
from goembed_core.metrics.results import Results
from goembed_core.runs import Run
from goembed_triplane.config import TriplaneConfig, VoxelsConfig

from goembed_fusion.config import (
    PlenopticEncodingConfig,
    ReconstructionSampleConfig,
    SampleConfig,
    SparseViewReconstructionConfig,
)
from goembed_fusion.experiment import Experiment
from goembed_fusion.sampling import sample


class PlenopticEncoding:
    """Encode views of objects, decode, and look from elsewhere; beside unprojection, trained as long."""

    def __init__(self, config: PlenopticEncodingConfig):
        self.experiment = Experiment(config, "Views encoded without a network")

    def train(self, run: Run) -> None:
        """Train all methods side by side; the run's model directory appears at the end."""
        self.experiment.train(run)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on objects and views that it has not seen, and write the report."""
        return self.experiment.evaluate(run)

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Write a turntable of a held-out object."""
        return sample(run, config)


class SparseViewReconstruction:
    """Encode views of objects into voxels or triplanes, improve these by a transformer, and look from elsewhere."""

    def __init__(self, config: SparseViewReconstructionConfig):
        if not isinstance(config.forward_model.settings, TriplaneConfig | VoxelsConfig):
            raise ConfigError(
                f"forward_model={config.forward_model.name}: the transformer works on voxels or planes; set "
                f"forward_model.name=voxels or triplane"
            )
        if config.compare_unpatching and isinstance(config.forward_model.settings, VoxelsConfig):
            raise ConfigError(
                f"compare_unpatching={list(config.compare_unpatching)} with voxels, whose tokens are convolved: "
                f"expected none, or forward_model.name=triplane"
            )
        self.experiment = Experiment(config, "Objects from a few views")

    def train(self, run: Run) -> None:
        """Train all methods side by side; the run's model directory appears at the end."""
        self.experiment.train(run)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model on objects and views that it has not seen, and write the report."""
        return self.experiment.evaluate(run)

    @staticmethod
    def sample(run: Run | None, config: ReconstructionSampleConfig) -> Path:
        """Write a turntable of a held-out object."""
        return sample(run, config)
