"""The transformer on planes, how its patches are put together, and what is measured of that."""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.config import ConfigError
from goembed_fusion.checkerboard import checkerboard_energy
from goembed_fusion.patches import overlap

MODEL = {"name": "triplane", "resolution": 16, "channels": 2, "renderer": {"samples": 4}}
SMALL = {"hidden_size": 8, "depth": 1, "num_heads": 2}


def transformer(**settings):
    encoder = {"name": "goembed", "forward_model": MODEL}
    return plugins.build("encoder", "plane-transformer", {"encoder": encoder, **SMALL, **settings})


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def repeated(size):
    """A pattern of its own in every patch of that size, the same everywhere."""
    return noise(4, 3, 2, size, size, seed=1).repeat(1, 1, 1, 32 // size, 32 // size)


def test_noise_has_no_checkerboard_and_what_repeats_has():
    plain = noise(64, 3, 8, 32, 32)
    assert checkerboard_energy(plain, 4).mean().item() == pytest.approx(1, abs=0.1)
    assert checkerboard_energy(plain[:4, :, :2] + repeated(4), 4).min() > 20


def test_a_pattern_of_another_size_is_not_counted():
    other = noise(4, 3, 2, 32, 32) + noise(4, 3, 2, 1, 32, seed=2)[..., :5].repeat(1, 1, 1, 32, 7)[..., :32]
    assert checkerboard_energy(other, 4).max() < 3


def test_smooth_planes_have_none():
    place = torch.linspace(-1, 1, 32)
    smooth = (torch.exp(-4 * (place[:, None] ** 2 + place**2)) + 0.3 * place).expand(1, 3, 2, 32, 32)
    assert checkerboard_energy(smooth, 4) < 1.5


def test_planes_with_too_few_patches_are_refused():
    with pytest.raises(ValueError, match="at least 4 whole patches a side"):
        checkerboard_energy(noise(1, 3, 2, 8, 8), 4)


def test_overlapping_patches_weigh_one_everywhere():
    assert torch.allclose(overlap(torch.ones(2, 3, 4, 32, 32), 4, 4), torch.ones(2, 3, 4, 16, 16))


def test_a_patch_lands_around_its_own_place_and_fades_out():
    blocks = torch.zeros(1, 1, 1, 32, 32)
    blocks[..., 8:16, 16:24] = 1  # the token of row 1, column 2
    found = overlap(blocks, 4, 4)[0, 0, 0]
    rows, columns = found.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 9, 6, 13)
    assert found[5:7, 9:11].min() > 0.9 and found[2, 6] < 0.01


def test_the_same_patch_everywhere_leaves_less_of_a_seam_when_it_overlaps():
    """A gradient within each patch jumps at every border of those that lie beside each other."""
    ramp = torch.linspace(-1, 1, 8).expand(8, 8).repeat(4, 4)[None, None, None]
    beside = torch.linspace(-1, 1, 4).expand(4, 4).repeat(4, 4)
    over = overlap(ramp, 4, 4)[0, 0, 0]
    inner = slice(2, -2)  # the outermost cells have fewer patches
    assert over[:, inner].diff(dim=1).abs().max() < 0.5 * beside.diff(dim=1).abs().max()


def test_equal_tokens_leave_a_pattern_unless_they_are_interpolated():
    """What tokens add to planes that are the same everywhere."""
    planes, found = torch.ones(1, 3, 2, 16, 16), {}
    for unpatch in ("convolutional", "linear"):
        network = transformer(unpatch=unpatch).eval()
        with torch.no_grad():
            for weights in network.parameters():
                weights.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
            network.network.positions.zero_()
        found[unpatch] = (network.refine(planes) - planes).std(dim=(-2, -1)).max().item()
    assert found["convolutional"] < 1e-5 < 1e-2 < found["linear"]


@pytest.mark.parametrize("unpatch", ["convolutional", "overlapping", "linear"])
def test_at_first_it_gives_what_the_encoder_gives(unpatch):
    network = transformer(unpatch=unpatch).eval()
    observations, _ = network.example(2, torch.Generator().manual_seed(0))
    assert torch.equal(network(observations), network.encoder(observations))
    assert torch.equal(network.signal(observations), network.encoder.signal(observations))


@pytest.mark.parametrize("unpatch", ["convolutional", "overlapping", "linear"])
def test_planes_differ_where_their_tokens_do(unpatch):
    network = transformer(unpatch=unpatch).eval()
    with torch.no_grad():
        last = network.mix.last if unpatch == "convolutional" else network.network.head.linear
        last.weight.normal_(generator=torch.Generator().manual_seed(0))
    found = network.refine(noise(1, 3, 2, 16, 16)) - noise(1, 3, 2, 16, 16)
    assert found.shape == (1, 3, 2, 16, 16) and found.std() > 0


def test_what_is_no_triplane_is_refused():
    voxels = {"name": "goembed", "forward_model": {"name": "voxels", "resolution": 4}}
    with pytest.raises(ConfigError, match=r"set forward_model\.name=triplane"):
        plugins.build("encoder", "plane-transformer", {"encoder": voxels, **SMALL})
    with pytest.raises(ConfigError, match="patch_size=6 does not divide the grid's resolution=16"):
        transformer(patch_size=6)
