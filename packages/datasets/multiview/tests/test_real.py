"""The public scenes: their cameras agree with their pictures, which those of no other convention would."""

import torch
from goembed_multiview_datasets.blender import blender
from goembed_multiview_datasets.config import BlenderConfig, LlffConfig
from goembed_multiview_datasets.llff import llff
from goembed_nerf_renderer.cameras import Camera, project, unproject, whole_image
from torch.nn.functional import grid_sample


def look_up(images, pixels):
    """Images `(V, C, H, W)` at pixels `(V, n, 2)`; nothing outside."""
    size = torch.tensor([images.shape[3], images.shape[2]])
    grid = (2 * pixels / size - 1)[:, None]
    return grid_sample(images, grid, padding_mode="zeros", align_corners=False)[:, :, 0]


def hull_overlap(train, test):
    """Of the hull that the silhouettes of `train` leave and the silhouettes of `test`: intersection over union."""
    axis = torch.linspace(-1.5, 1.5, 48)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(1, -1, 3)

    def silhouettes(scene):
        pixels, depth = project(Camera(*(leaf[None] for leaf in scene.camera)), points)
        return (look_up(scene.alpha, pixels[0]) > 0.5)[:, 0] & (depth[0] > 0)

    inside = silhouettes(train).all(0)
    covered = torch.zeros_like(test.alpha[:, 0])
    pixels, _ = project(Camera(*(leaf[None] for leaf in test.camera)), points[:, inside])
    rows = torch.arange(len(covered))[:, None].expand(pixels.shape[1:3])
    x, y = (pixels[0, ..., axis].long().clamp(0, covered.shape[2] - 1) for axis in (0, 1))
    covered[rows, y, x] = 1
    covered, seen = covered > 0, test.alpha[:, 0] > 0.5
    return float((covered & seen).sum() / (covered | seen).sum())


def test_lego_has_one_hull(lego):
    train, test = (blender(BlenderConfig(split=split, size=32, views=20))[0] for split in ("train", "test"))
    assert train.images.shape == test.images.shape == (20, 3, 32, 32)
    assert hull_overlap(train, test) > 0.85
    turned = test.camera.camera_to_world * torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert hull_overlap(train, test._replace(camera=test.camera._replace(camera_to_world=turned))) < 0.65


def sweep_error(scene, camera):
    """How well the first view is found again in all others at once, at each pixel's best depth of many."""
    height, width = scene.images.shape[-2:]
    pixels = whole_image(Camera(*(leaf[None] for leaf in camera)), height, width).pixels[:, :1].flatten(2, 3)
    first, others = (Camera(*(leaf[None, part] for leaf in camera)) for part in (slice(1), slice(1, None)))
    errors = []
    for disparity in torch.linspace(1 / 80, 1 / 15, 32):
        points = unproject(first, pixels, torch.full(pixels.shape[:-1], float(1 / disparity)))[:, 0]
        found = look_up(scene.images[1:], project(others, points)[0][0])
        errors.append((found - scene.images[0].flatten(1)).abs().mean((0, 1)))
    return float(torch.stack(errors).amin(0).median())


def test_fern_is_seen_from_all_sides(fern):
    scenes = llff(LlffConfig(split="all", size=(84, 63)))
    scene = scenes[0]
    assert scenes.names == ["llff_fern"] and scene.images.shape == (20, 3, 63, 84)
    assert (scene.near_far[:, 0] > 10).all() and (scene.near_far[:, 1] < 120).all()
    right = sweep_error(scene, scene.camera)
    assert right < 0.06
    for mirror in ([-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]):
        turned = scene.camera.camera_to_world.clone()
        turned[:, :3, 3] *= torch.tensor(mirror)
        assert right < 0.4 * sweep_error(scene, scene.camera._replace(camera_to_world=turned)), mirror
