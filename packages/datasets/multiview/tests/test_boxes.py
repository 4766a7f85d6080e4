"""Boxes: pictures against one ray and one face at a time, and a hidden side that the context knows nothing of."""

import numpy as np
import pytest
import torch
from goembed_multiview_datasets.boxes import DISTANCE, EXTENT, PALETTE, BoxDataset
from goembed_multiview_datasets.config import BoxesConfig
from goembed_multiview_datasets.slabs import NOTHING, Boxes, first_faces


def first_face(centre, half, azimuth, origin, direction):
    """The slow way: where the ray meets the plane of each face, and whether that is within the face."""
    nearest, found = np.inf, NOTHING
    for box in range(len(half)):
        cos, sin = np.cos(azimuth[box]), np.sin(azimuth[box])
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        start, step = turn @ (origin - centre[box]), turn @ direction
        for axis in range(3):
            for positive in (False, True):
                if step[axis] == 0:
                    continue
                distance = ((half[box, axis] if positive else -half[box, axis]) - start[axis]) / step[axis]
                place = np.delete(np.abs(start + distance * step) - half[box], axis)
                if 0 < distance < nearest and (place <= 0).all():
                    nearest, found = distance, 6 * box + 2 * axis + positive
    return found


def test_every_ray_meets_what_it_meets_face_by_face():
    draw = np.random.default_rng(0)
    centre, half = draw.uniform(-1, 1, (2, 3, 3)), draw.uniform(0.1, 0.6, (2, 3, 3))
    azimuth, origins = draw.uniform(0, 6, (2, 3)), np.array([[[4, 0.5, 1], [-2, -4, 0.3]], [[0, 4, 3], [0.1, 0.2, 5]]])
    directions = draw.uniform(-1, 1, (2, 2, 400, 3)) - origins[:, :, None]
    directions[:, 0, :40, 2] = 0  # along the slabs of tops and bottoms
    boxes = Boxes(*(torch.from_numpy(leaf) for leaf in (centre, half, azimuth)))
    found = first_faces(boxes, torch.from_numpy(origins), torch.from_numpy(directions))
    for b, v, n in np.ndindex(2, 2, 400):
        expected = first_face(centre[b], half[b], azimuth[b], origins[b, v], directions[b, v, n])
        assert int(found[b, v, n]) == expected, (b, v, n)
    assert {int(face) for face in found.unique()} >= {NOTHING, 1, 3, 5, 7, 9, 11, 13, 15, 17}


def test_rays_along_a_slab():
    boxes = Boxes(torch.zeros(1, 1, 3), torch.full((1, 1, 3), 0.5), torch.zeros(1, 1))
    origin = torch.tensor([[[2.0, 0.0, 0.0]]])
    towards = torch.tensor([[[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]])
    assert first_faces(boxes, origin, towards).tolist() == [[[1, NOTHING, NOTHING]]]
    assert first_faces(boxes, origin + torch.tensor([0.0, 0.6, 0.0]), towards).tolist() == [[[NOTHING] * 3]]


@pytest.fixture(scope="module", params=[1, 3])
def scenes(request):
    return BoxDataset(BoxesConfig(boxes=request.param, views=4, size=24))


def test_the_context_is_the_same_whichever_follows(scenes):
    indices = torch.arange(40)
    shape = (40, scenes.config.boxes)
    truth = scenes.truth(indices)
    red, blue = (scenes.render(indices, torch.full(shape, colour)) for colour in (0, 1))
    assert torch.equal(red[:, 0], blue[:, 0]) and not truth.mask[:, 0].any()
    somewhere = truth.mask.any(2)[:, :, None].expand(-1, -1, 3, -1, -1)
    assert ((red != blue) == somewhere).all() and truth.mask.flatten(3).any(-1).any(1).float().mean() > 0.97
    values = scenes.observations(indices).values
    for box in range(shape[1]):
        for colour, case in ((0, red), (1, blue)):
            rows = truth.colour[:, box] == colour
            seen = truth.mask[rows][:, :, box][:, :, None].expand(-1, -1, 3, -1, -1)
            assert torch.equal(values[rows][seen], case[rows][seen]) and rows.any()
            pixels = values[rows].permute(0, 1, 3, 4, 2)[truth.mask[rows][:, :, box]]
            assert torch.allclose(pixels, torch.tensor(PALETTE[colour]).expand_as(pixels))


def test_hidden_colours_are_even_and_independent():
    truth = BoxDataset(BoxesConfig(boxes=2, views=2, size=4)).truth(torch.arange(4000)).colour
    counts = torch.bincount(truth[:, 0] + 2 * truth[:, 1], minlength=4)
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_scenes_lie_within_their_distances_and_their_images(scenes):
    for index in range(20):
        item = scenes[index]
        assert item.near_far.tolist() == [pytest.approx([DISTANCE - EXTENT, DISTANCE + EXTENT])] * 4
        border = torch.cat([item.alpha[..., side, :] for side in (0, -1)] + [item.alpha[..., side] for side in (0, -1)])
        assert not border.any() and item.alpha.any()
        distance = item.camera.camera_to_world[:, :3, 3].norm(dim=-1)
        assert torch.allclose(distance, torch.tensor(DISTANCE))


def test_views_stand_all_around():
    camera = BoxDataset(BoxesConfig(views=4, jitter_rad=0.2)).observations(torch.arange(50)).params.camera
    azimuth = torch.atan2(*camera.camera_to_world[..., :2, 3].flip(-1).unbind(-1))
    off = azimuth - azimuth[:, :1] - torch.arange(4) * torch.pi / 2
    off = torch.remainder(off + torch.pi, 2 * torch.pi) - torch.pi
    assert off.abs().max() <= 0.2 + 1e-4 and off.abs().max() > 0.15


def test_splits_and_seeds_are_other_scenes():
    first = BoxDataset(BoxesConfig())[5].images
    assert torch.equal(first, BoxDataset(BoxesConfig())[5].images)
    for other in ({"split": "test"}, {"seed": 1}):
        assert not torch.equal(first, BoxDataset(BoxesConfig(**other))[5].images)
    black = BoxDataset(BoxesConfig(background="black"))[5]
    assert torch.allclose(black.images + 1 - black.alpha, first)
    with pytest.raises(IndexError):
        BoxDataset(BoxesConfig(length=3)).render(torch.tensor([3]), torch.zeros(1, 1, dtype=torch.int64))
