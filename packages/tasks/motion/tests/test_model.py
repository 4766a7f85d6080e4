"""What the network's output means, what training compares, and what does not fit."""

from __future__ import annotations

import pytest
import torch
from goembed_core import cli
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_motion.config import MotionFieldConfig
from goembed_motion.futures import PossibleMotions
from goembed_motion.model import MotionDenoiser, Regressor, build, pyramid_error, smoothness, split_clip
from goembed_softsplat_warp.model import WarpTime
from goembed_video_datasets.clips import ClipTime
from torch import nn


class Says(nn.Module):
    """A network that gives the mean of its target, and its own parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, context, noisy_target, timestep):
        mean = noisy_target.values.mean((1, 2), keepdim=True)[:, 0]
        return self.weight + mean.expand(-1, 3, *context.values.shape[3:])


def test_the_first_frame_is_context_the_second_target_and_others_are_novel():
    clip = Observations(torch.arange(5.0)[None, :, None, None, None], ClipTime(torch.tensor([[0, 1, 0.2, 0.4, 0.6]])))
    context, target, novel = split_clip(clip)
    assert context.values.item() == 0 and context.params == WarpTime(torch.tensor([[0.0]]))
    assert target.values.item() == 1 and target.params.time.item() == 1
    assert novel.values.flatten().tolist() == [2, 3, 4] and novel.params.time.shape == (1, 3)
    pair = Observations(clip.values[:, :2], ClipTime(clip.params.time[:, :2]))
    assert split_clip(pair).novel is None


def test_the_signal_is_the_context_and_scaled_motion_and_metric():
    denoiser = MotionDenoiser(Says(), MotionFieldConfig(scale_px=3.0, metric_scale=2.0), NoiseSchedule())
    context = Observations(torch.rand(2, 1, 3, 4, 4), WarpTime(torch.zeros(2, 1)))
    noisy = Observations(torch.full((2, 1, 3, 4, 4), 0.5), WarpTime(torch.ones(2, 1)))
    signal = denoiser(context, noisy, torch.zeros(2).long())
    assert torch.equal(signal.colour, context.values[:, 0])
    assert signal.motion.unique().tolist() == [4.5] and signal.metric.unique().tolist() == [3.0]
    assert signal.motion.shape == (2, 1, 2, 4, 4) and signal.metric.shape == (2, 1, 1, 4, 4)
    assert signal.probability.tolist() == [[1.0], [1.0]]
    blind = Regressor(denoiser)(context)
    assert blind.motion.unique().tolist() == [3.0]  # it has no target to look at


def test_futures_begin_in_evenly_spread_directions_and_equally_probable():
    class Silent(nn.Module):
        def forward(self, context, noisy_target, timestep):
            assert context.values.shape[2] == 3 + 8 and noisy_target.values.shape[2] == 3
            return context.values.new_zeros(2, 4 * 4, 4, 4)

    field = MotionFieldConfig(futures=4, spread_px=2.0, evidence_radius_px=1, evidence_stride_px=1)
    images = Observations(torch.rand(2, 1, 3, 4, 4), WarpTime(torch.zeros(2, 1)))
    signal = MotionDenoiser(Silent(), field, NoiseSchedule())(images, images, torch.zeros(2).long())
    expected = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    assert torch.allclose(signal.motion[1, :, :, 2, 3], expected, atol=1e-6)
    assert torch.equal(signal.probability, torch.full((2, 4), 0.25)) and signal.metric.shape == (2, 4, 1, 4, 4)


def test_smoothness_of_a_ramp_and_of_an_edge():
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    motion = torch.cat([0.5 * x, torch.zeros_like(x)], 1)
    flat = PossibleMotions(torch.zeros(1, 3, 8, 8), motion[:, None], torch.zeros_like(x)[:, None], torch.ones(1, 1))
    assert smoothness(flat, 4.0).item() == pytest.approx(0.25)  # 0.5 a step in x, in one of two channels
    striped = flat._replace(colour=x.expand(-1, 3, -1, -1) / 4)
    assert smoothness(striped, 4.0).item() == pytest.approx(0.25 * torch.tensor(-1.0).exp().item(), rel=1e-5)
    assert smoothness(flat._replace(motion=torch.ones_like(motion)[:, None]), 4.0) == 0
    either = flat._replace(motion=torch.stack([motion, 0 * motion], 1), probability=torch.tensor([[0.25, 0.75]]))
    assert smoothness(either, 4.0).item() == pytest.approx(0.25 / 4)  # the second is smooth, and three times as likely


def test_pyramid_error_is_that_of_block_means():
    a, b = torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    expected = torch.zeros(2)
    for side in (2, 4, 8):
        blocks = (a - b).reshape(2, 3, 3, 8 // side, side, 8 // side, side).mean((4, 6))
        expected += blocks.square().mean((1, 2, 3, 4))
    assert torch.allclose(pyramid_error(a, b, 3), expected, atol=1e-6)


def test_dfm_and_baseline_have_the_same_terms_and_train_all_parameters(config):
    torch.manual_seed(0)
    model = build(config)
    for network in (model.dfm.denoiser.network, model.regressor.denoiser.network):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.05)
    clip = config.dataset.build().observations(torch.arange(4))
    split = split_clip(clip)
    terms = model.dfm.losses(split, ItemRandom(0, range(4))).losses
    baseline = model.regressor.losses(split, model.dfm.forward_model)
    assert terms.keys() == baseline.keys() == {"target", "novel", "pyramid", "smoothness"}
    for losses, network in ((terms, model.dfm.denoiser.network), (baseline, model.regressor.denoiser.network)):
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_network_that_does_not_fit_is_refused_with_what_to_say(capsys, tmp_path, small):
    run = f"run.dir={tmp_path / 'r'}"
    assert cli.main(["train", "task=motion", run, *small, "denoiser.height=32", "denoiser.out_channels=2"]) == 2
    error = capsys.readouterr().err
    assert "denoiser.out_channels=2" in error and "2 motions, metrics and probabilities 4 each" in error
    assert "say denoiser.out_channels=8 denoiser.height=16" in error
    assert cli.main(["train", "task=motion", run, *small, "field.futures=1", "field.evidence_radius_px=0"]) == 2
    assert "motion and metric 3; say denoiser.in_channels=6 denoiser.out_channels=3" in capsys.readouterr().err
    assert cli.main(["train", "task=motion", run, *small, "denoiser.head_std=0", "field.spread_px=0"]) == 2
    assert "futures that begin alike stay alike; say field.spread_px=1.5" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
