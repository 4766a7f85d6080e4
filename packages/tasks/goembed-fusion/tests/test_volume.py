"""The transformer on voxels."""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.config import ConfigError

SMALL = {"patch_size": 4, "hidden_size": 8, "depth": 1, "num_heads": 2, "width": 4}


def transformer(model="voxels", side=8, **settings):
    renderer = {"samples": 4}
    encoder = {
        "name": "goembed",
        "forward_model": {"name": model, "resolution": side, "channels": 3, "renderer": renderer},
    }
    return plugins.build("encoder", "voxel-transformer", {"encoder": encoder, **SMALL, **settings})


def stirred(network):
    """With weights everywhere."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.3 * torch.randn(weights.shape, generator=generator))
    return network


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_at_first_it_gives_what_the_encoder_gives():
    network = transformer().eval()
    observations, _ = network.example(2, torch.Generator().manual_seed(0))
    assert torch.equal(network(observations), network.encoder(observations))
    assert torch.equal(network.signal(observations), network.encoder.signal(observations))


def test_what_one_corner_has_reaches_the_other_through_the_tokens():
    network, voxels = stirred(transformer(side=16)), noise(1, 3, 16, 16, 16)
    moved = voxels.clone()
    moved[..., 0, 0, 0] += 5

    def far():
        return (network.refine(moved) - network.refine(voxels))[..., -1, -1, -1].abs().max().item()

    with torch.no_grad():
        assert far() > 1e-5
        for block in network.network.blocks:
            block.modulation.weight.zero_()
            block.modulation.bias.zero_()  # the gates are shut: convolutions alone do not reach so far
        assert far() == 0


def test_equal_cells_stay_equal_but_at_the_border():
    """No weight knows where in a patch a cell is."""
    network = stirred(transformer(side=32, patch_size=2, depth=1))
    with torch.no_grad():
        network.network.positions.zero_()
        found = network.refine(torch.ones(1, 3, 32, 32, 32)) - 1
    inner = found[..., 6:-6, 6:-6, 6:-6]
    assert inner.std(dim=(2, 3, 4)).max() < 1e-5 < inner.abs().max()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"set forward_model\.name=voxels"):
        transformer("triplane")
    with pytest.raises(ConfigError, match="patch_size=4 does not divide the grid's resolution=6"):
        transformer(side=6)
    with pytest.raises(ConfigError, match="patch_size=6: expected a power of two"):
        transformer(patch_size=6)
    with pytest.raises(ConfigError, match="hidden_size=8 is not a multiple of num_heads=3"):
        transformer(num_heads=3)
