"""Registers the posed views, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "dataset",
        "blender",
        "goembed_multiview_datasets.blender:blender",
        config="goembed_multiview_datasets.config:BlenderConfig",
        summary="NeRF-synthetic scenes, and others with a transforms.json",
    )
    register(
        "dataset",
        "llff",
        "goembed_multiview_datasets.llff:llff",
        config="goembed_multiview_datasets.config:LlffConfig",
        summary="photographs with a poses_bounds.npy",
    )
    register(
        "dataset",
        "co3d",
        "goembed_multiview_datasets.co3d:co3d",
        config="goembed_multiview_datasets.config:Co3dConfig",
        summary="CO3D's sequences of single objects",
    )
    register(
        "dataset",
        "realestate10k",
        "goembed_multiview_datasets.realestate:realestate10k",
        config="goembed_multiview_datasets.config:RealEstateConfig",
        summary="RealEstate10k's clips, from frames or local videos",
    )
    register(
        "dataset",
        "omniobject3d",
        "goembed_multiview_datasets.objects:omniobject3d",
        config="goembed_multiview_datasets.config:OmniObjectConfig",
        summary="OmniObject3D's renderings by Blender",
    )
    register(
        "dataset",
        "srn",
        "goembed_multiview_datasets.objects:srn",
        config="goembed_multiview_datasets.config:SrnConfig",
        summary="cars and chairs of Scene Representation Networks",
    )
    register(
        "dataset",
        "boxes",
        "goembed_multiview_datasets.boxes:BoxDataset",
        config="goembed_multiview_datasets.config:BoxesConfig",
        summary="procedural scenes whose hidden side is random by construction",
    )
    register(
        "command",
        "check-cameras",
        "goembed_multiview_datasets.check_cameras:check_cameras",
        config="goembed_multiview_datasets.config:CheckCamerasConfig",
        summary="write a page on which wrong cameras of posed views are seen (dataset, dataset.KEY, item, view, out)",
    )
    register(
        "command",
        "render-meshes",
        "goembed_multiview_datasets.render_meshes:render_meshes",
        config="goembed_multiview_datasets.config:RenderMeshesConfig",
        summary="turn a folder of textured meshes into posed views (folder, out, views, size, workers)",
    )
