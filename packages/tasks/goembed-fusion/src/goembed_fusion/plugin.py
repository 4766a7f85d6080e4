"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the baseline's encoder and the tasks."""
    register(
        "encoder",
        "unprojection",
        "goembed_fusion.unprojection:from_config",
        config="goembed_fusion.config:UnprojectionConfig",
        summary="mean and variance of the colours that views have of each place, in the grids of a representation",
    )
    register(
        "encoder",
        "plane-transformer",
        "goembed_fusion.transformer:from_config",
        config="goembed_fusion.config:PlaneTransformerConfig",
        summary="a transformer on the patches of another encoder's triplanes, un-patched without a checkerboard",
    )
    register(
        "encoder",
        "voxel-transformer",
        "goembed_fusion.volume:from_config",
        config="goembed_fusion.config:VoxelTransformerConfig",
        summary="convolutions around a transformer on the blocks of another encoder's voxels",
    )
    register(
        "task",
        "plenoptic_encoding",
        "goembed_fusion.tasks:PlenopticEncoding",
        config="goembed_fusion.config:PlenopticEncodingConfig",
        presets="goembed_fusion.config:PRESETS",
        sample_config="goembed_fusion.config:SampleConfig",
        summary="views of objects encoded without a network and decoded, judged by views that are held out",
    )
    register(
        "task",
        "sparse_view_reconstruction",
        "goembed_fusion.tasks:SparseViewReconstruction",
        config="goembed_fusion.config:SparseViewReconstructionConfig",
        presets="goembed_fusion.config:RECONSTRUCTION_PRESETS",
        sample_config="goembed_fusion.config:ReconstructionSampleConfig",
        summary="a few views of an object encoded into voxels or a triplane, which a transformer improves",
    )
