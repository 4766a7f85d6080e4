"""Figures on cases with known answers."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import resolve
from goembed_motion import model as models
from goembed_motion.evaluation import endpoint_error, evaluate, frequency_error, magnitude, nearest_future
from goembed_motion.solve import Motions, Solver
from goembed_softsplat_warp.model import MovingImage


def test_endpoint_error_is_of_the_mask_alone():
    flow, true = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    flow[:, 0, 0] = torch.tensor([3.0, 4.0])
    flow[:, 3, 3] = 100.0
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, :2] = 1
    assert endpoint_error(flow, true, mask).item() == 2.5
    assert magnitude(flow[None], mask[None]).item() == 2.5


def test_the_nearest_future_is_one_that_can_come():
    flow = torch.tensor([1.0, -1.0, 0.9]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 2)
    futures = torch.tensor([-1.0, 0.8, 1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 2)
    mask, probability = torch.ones(1, 1, 2, 2), torch.tensor([[0.5, 0.5, 0.0]])
    chosen, error = nearest_future(flow, futures, mask, probability)
    assert chosen.tolist() == [[1, 0, 1]]
    assert error[0].tolist() == pytest.approx([0.2 * 2**0.5, 0, 0.1 * 2**0.5], abs=1e-6)


def test_frequency_error_of_known_counts():
    chosen = torch.tensor([[0, 0, 0, 1], [0, 1, 0, 1]])
    probability = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert frequency_error(chosen, probability).tolist() == [0.25, 0.0]


class Oracle(Solver):
    """Gives true futures: each with its probability, or always the one that came."""

    def __init__(self, model, dataset, exact: bool):
        super().__init__(model, 0, 64)
        self.dataset, self.exact = dataset, exact

    def samples(self, images, count, sampler, stream="sample"):
        items = torch.arange(len(images))
        flows, mode = self.dataset.futures(items).flow, self.dataset.truth(items).mode
        drawn = torch.randint(0, 2, (len(items), count), generator=torch.Generator().manual_seed(5))
        drawn = drawn if self.exact else mode[:, None].expand(-1, count)
        motion = flows[torch.arange(len(items))[:, None], drawn].flatten(0, 1)
        colour = images.repeat_interleave(count, 0)
        signal = MovingImage(colour, motion, 10 * (motion.norm(dim=1, keepdim=True) > 0).float())
        target = self.show(signal, torch.ones(len(motion), 1))[:, 0]
        return Motions(signal, target, torch.ones(len(motion)))


@pytest.mark.parametrize("exact", [True, False])
def test_true_futures_are_exact_and_one_future_alone_is_found_out(exact, small):
    settings = ("evaluate.contexts=12", "evaluate.samples=64", "evaluate.steps=[]", "evaluate.batch_size=1024")
    config = resolve("motion", [*small, *settings]).config
    dataset = models.held_out(config.dataset).build()
    torch.manual_seed(0)
    results = evaluate(config, Oracle(models.build(config), dataset, exact), dataset).results
    figures = {name: metric.value for name, metric in results.metrics.items()}
    assert figures["mode_epe_px"] == figures["best_of_16_epe_px"] == figures["background_motion_px"] == 0
    assert results.baselines["no_motion"]["best_of_16_epe_px"] == pytest.approx(2.0, abs=1e-3)  # step_px
    assert results.baselines["exact"]["mode_frequency_error"] < 0.1
    if exact:
        assert figures["mode_frequency_error"] < 0.1 and figures["diversity_px"] > 1.5
    else:
        assert figures["mode_frequency_error"] == 0.5 and figures["diversity_px"] == 0
    assert figures["nearest_psnr"] > results.baselines["no_motion"]["nearest_psnr"] + 4
