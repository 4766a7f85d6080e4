"""Signals of several motions: what they show, which is chosen, and why one motion is not enough."""

from __future__ import annotations

import torch
from goembed_motion.futures import MixedWarp, PossibleMotions
from goembed_softsplat_warp.config import SoftsplatWarpConfig
from goembed_softsplat_warp.model import MovingImage, SoftsplatWarp, WarpTime

SIZE = 8


def possible() -> PossibleMotions:
    """A bright column that goes 2 px to the left or to the right; the second image stays with certainty."""
    image = torch.zeros(2, 1, SIZE, SIZE)
    image[..., 3] = 1.0
    motion, metric = torch.zeros(2, 2, 2, SIZE, SIZE), torch.zeros(2, 2, 1, SIZE, SIZE)
    metric[..., 3] = 20.0
    motion[0, 0, 0, :, 3], motion[0, 1, 0, :, 3] = -2.0, 2.0
    return PossibleMotions(image, motion, metric, torch.tensor([[0.25, 0.75], [1.0, 0.0]]))


def warp() -> SoftsplatWarp:
    return SoftsplatWarp(SoftsplatWarpConfig(channels=1, height=SIZE, width=SIZE))


def test_what_is_shown_is_the_mean_of_the_futures_at_every_time():
    signal, time = possible(), WarpTime(torch.tensor([[0.5, 1.0], [1.0, 0.0]]))
    shown = MixedWarp(warp())(signal, time)
    single = [warp()(MovingImage(signal.colour, signal.motion[:, k], signal.metric[:, k]), time) for k in range(2)]
    expected = sum(
        p.view(-1, 1, 1, 1, 1) * image for p, image in zip(signal.probability.unbind(1), single, strict=True)
    )
    assert torch.allclose(shown, expected, atol=1e-6)
    assert torch.allclose(shown[0, 1, 0, 0, [1, 5]], torch.tensor([0.25, 0.75]), atol=1e-5)
    assert torch.allclose(shown[1], signal.colour[1].expand(2, -1, -1, -1), atol=1e-5)


def test_the_likeliest_is_chosen_item_by_item():
    chosen = possible().likeliest()
    assert chosen.motion[0, 0, 0, 3] == 2.0 and not chosen.motion[1].any()
    assert chosen.metric.shape == (2, 1, SIZE, SIZE)


def test_probabilities_learn_how_often_each_future_came():
    signal, logits = possible(), torch.zeros(1, 2, requires_grad=True)
    forward_model, end = MixedWarp(warp()), WarpTime(torch.ones(1, 1))
    first = PossibleMotions(*(leaf[:1] for leaf in signal))
    seen = [forward_model(first._replace(probability=torch.eye(2)[k : k + 1]), end) for k in (0, 1, 1, 1)]
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        shown = forward_model(first._replace(probability=logits.softmax(1)), end)
        loss = sum((shown - image).square().mean() for image in seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(logits.softmax(1), torch.tensor([[0.25, 0.75]]), atol=1e-3)
