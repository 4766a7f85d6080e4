"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register encoders, the denoiser, the tasks, and what is viewed of their runs."""
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
        "denoiser",
        "plane-denoiser",
        "goembed_fusion.generation.denoiser:from_config",
        config="goembed_fusion.generation.config:PlaneDenoiserConfig",
        summary="planes that explain a context and a noisy target, by a transformer on the encodings of both",
    )
    register(
        "denoiser",
        "voxel-denoiser",
        "goembed_fusion.generation.voxels:from_config",
        config="goembed_fusion.generation.config:VoxelDenoiserConfig",
        summary="voxels that explain a context and a noisy target, each encoded by what it is worth",
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
    register(
        "task",
        "goembed_fusion",
        "goembed_fusion.generation.task:GOEmbedFusion",
        config="goembed_fusion.generation.config:GOEmbedFusionConfig",
        presets="goembed_fusion.generation.config:FUSION_PRESETS",
        sample_config="goembed_fusion.generation.config:FusionSampleConfig",
        summary="sample the objects that a few views, or none, could be of: diffusion over voxels or triplanes",
    )
    for name in ("plenoptic_encoding", "sparse_view_reconstruction"):
        register(
            "viewable",
            name,
            "goembed_fusion.viewing:encodings",
            summary="a held-out object as each method has decoded it",
        )
    register(
        "viewable",
        "goembed_fusion",
        "goembed_fusion.viewing:samples",
        summary="samples of a held-out object, and of any",
    )
