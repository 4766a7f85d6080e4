"""The figures of boxes, from what is known."""

from __future__ import annotations

import pytest
import torch
from goembed_inverse_graphics.boxes import (
    average_colour,
    chosen_colour,
    exact_frequency_error,
    hidden_faces,
    mean_colour,
    variance_over,
    visible_pixels,
)
from goembed_inverse_graphics.evaluation import masked_psnr
from goembed_multiview_datasets.boxes import PALETTE, BoxDataset
from goembed_multiview_datasets.config import BoxesConfig

DATASET = BoxDataset(BoxesConfig(size=24, views=8, jitter_rad=0.0, split="test"))
ITEMS = torch.arange(12)


def test_what_the_context_shows_does_not_depend_on_what_is_hidden():
    """Visible pixels are the same in scenes with the other hidden colour, and no pixel of a hidden face is one."""
    views = DATASET.observations(ITEMS).values
    truth = DATASET.truth(ITEMS)
    other = DATASET.render(ITEMS, 1 - truth.colour)
    visible = visible_pixels(views[:, 0], views[:, 1:])
    assert torch.equal(visible, visible_pixels(other[:, 0], other[:, 1:]))
    assert not (visible & truth.mask[:, 1:].any(2)).any()
    assert torch.equal(views[:, 1:].movedim(2, -1)[visible], other[:, 1:].movedim(2, -1)[visible])
    faces = visible & (views[:, 1:] < 1).any(2)
    assert 0.05 < faces.float().mean() < 0.4


def test_the_true_scenes_have_their_own_colours_and_are_one_scene():
    views, truth = 2 * DATASET.observations(ITEMS).values - 1, DATASET.truth(ITEMS)
    hidden = hidden_faces(truth.mask, 4)
    assert len(hidden.item) == 12
    colour = mean_colour(views[hidden.item, 4], hidden.mask[:, 4])
    chosen, distance = chosen_colour(colour)
    assert torch.equal(chosen, truth.colour[:, 0]) and distance.max() < 1e-5
    half = (torch.tensor(PALETTE[0]) - torch.tensor(PALETTE[1])).norm() / 2
    assert chosen_colour(average_colour()[None])[1].item() == pytest.approx(half.item())


def test_variances_are_those_of_known_numbers():
    """Two units of two samples in three views, the last of which the second unit does not see."""
    values = torch.zeros(2, 2, 3, 3)
    values[0, 0, :, 0] = torch.tensor([0.0, 1.0, 2.0])  # variance 1, mean 1
    values[0, 1, :, 0] = 5.0  # variance 0, mean 5: 8 between the two
    values[1, 0, :2, 1] = torch.tensor([1.0, 3.0])  # variance 2, mean 2
    values[1, :, 2] = torch.nan
    known = torch.tensor([[True, True, True], [True, True, False]])
    within, across = variance_over(values, known)
    torch.testing.assert_close(within, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(across, torch.tensor([8.0, 2.0]))


def test_exact_draws_leave_an_error():
    assert exact_frequency_error(1) == 0.5 and exact_frequency_error(2) == 0.25
    draws = torch.distributions.Binomial(16, torch.tensor(0.5)).sample((200_000,)) / 16
    assert exact_frequency_error(16) == pytest.approx((draws - 0.5).abs().mean().item(), abs=1e-3)


def test_psnr_is_of_the_mask_alone():
    true = torch.zeros(1, 2, 3, 4, 4)
    images = true.clone()
    images[0, 0, :, 0, 0], images[0, 1, :, 1, 1] = 0.2, 1.0
    mask = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    mask[0, 0, 0, :2] = True  # one pixel off by 0.2, one right: 4 / 0.02
    assert masked_psnr(images, true, mask).item() == pytest.approx(23.0103, abs=1e-3)
