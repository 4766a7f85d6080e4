"""Evidence of displacements against Gaussian log-densities, written out pixel by pixel."""

from __future__ import annotations

import torch
from goembed_core.schedule import NoiseSchedule
from goembed_motion.evidence import displacement_evidence, displacements
from torch.distributions import Normal


def test_displacements_are_a_grid_about_nothing():
    assert displacements(1, 1) == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert len(displacements(6, 2)) == 48 and displacements(5, 2) == displacements(4, 2)
    assert displacements(1, 2) == []


def test_evidence_is_the_log_likelihood_ratio_of_moved_and_unmoved():
    random, size, t = torch.Generator().manual_seed(0), 6, torch.tensor([30, 700])
    context, noisy = torch.randn(2, 2, 3, size, size, generator=random).double()
    scale, variance = (x.double() for x in NoiseSchedule().observed_as(t))
    found = displacement_evidence(context, noisy, scale, 4, 2)
    sigma = scale * variance.sqrt()
    checked = 0
    for item in range(2):
        for number, (dy, dx) in enumerate(displacements(4, 2)):
            for y in range(size):
                for x in range(size):
                    v, u = y + dy, x + dx
                    if not (0 <= v < size and 0 <= u < size):
                        assert found[item, number, y, x] == 0
                        continue
                    moved = Normal(scale[item] * context[item, :, y, x], sigma[item])
                    stayed = Normal(scale[item] * context[item, :, v, u], sigma[item])
                    target = noisy[item, :, v, u]
                    ratio = (moved.log_prob(target) - stayed.log_prob(target)).sum()
                    expected = ratio * sigma[item] ** 2 / scale[item]
                    assert torch.allclose(found[item, number, y, x], expected, atol=1e-9)
                    checked += 1
    assert checked > 500


def test_summed_over_an_object_evidence_finds_where_it_went():
    random, schedule = torch.Generator().manual_seed(1), NoiseSchedule()
    context = 0.2 * torch.randn(32, 3, 24, 24, generator=random)
    context[..., 8:16, 8:16] += 1.0
    target = context.clone()
    target[..., 8:16, 8:16] = 0.2 * torch.randn(32, 3, 8, 8, generator=random)
    target[..., 8:16, 12:20] = context[..., 8:16, 8:16]
    t = torch.full((32,), 850)  # a signal-to-noise ratio of a quarter
    noisy = schedule.add_noise(target, torch.randn(target.shape, generator=random), t)
    evidence = displacement_evidence(context, noisy, schedule.observed_as(t)[0], 4, 2)[..., 8:16, 8:16].sum((2, 3))
    right, left = (displacements(4, 2).index((0, dx)) for dx in (4, -4))
    assert (evidence.argmax(1) == right).float().mean() > 0.4  # of 24, whose neighbours overlap by three quarters
    assert (evidence[:, right] > evidence[:, left]).float().mean() > 0.75
