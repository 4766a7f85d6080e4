"""The discriminator: official names, the oracle's logits, and the minibatch's standard deviation."""

from __future__ import annotations

import pytest
import torch
from goembed_stylegan_synth.discriminator import Discriminator, minibatch_std


def build(**changes) -> Discriminator:
    torch.manual_seed(0)
    sizes = {"resolution": 16, "img_channels": 3, "channel_base": 64, "channel_max": 8, "conv_clamp": None}
    network = Discriminator(**sizes | changes)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_state_dict_has_the_official_names_and_shapes():
    network = Discriminator(
        resolution=256, img_channels=3, channel_base=16384, channel_max=512, conv_clamp=256, mbstd_group_size=8
    )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    channels = {256: 64, 128: 128, 64: 256, 32: 512, 16: 512, 8: 512, 4: 512}
    expected = {"b256.fromrgb.weight": (64, 3, 1, 1), "b256.fromrgb.bias": (64,)}
    expected["b256.fromrgb.resample_filter"] = (4, 4)
    for side, i in list(channels.items())[:-1]:
        o = channels[side // 2]
        expected |= {f"b{side}.resample_filter": (4, 4), f"b{side}.skip.weight": (o, i, 1, 1)}
        expected |= {f"b{side}.conv0.weight": (i, i, 3, 3), f"b{side}.conv0.bias": (i,)}
        expected |= {f"b{side}.conv1.weight": (o, i, 3, 3), f"b{side}.conv1.bias": (o,)}
        expected |= {f"b{side}.{name}.resample_filter": (4, 4) for name in ("conv0", "conv1", "skip")}
    expected |= {"b4.conv.weight": (512, 513, 3, 3), "b4.conv.bias": (512,), "b4.conv.resample_filter": (4, 4)}
    expected |= {"b4.fc.weight": (512, 8192), "b4.fc.bias": (512,), "b4.out.weight": (1, 512), "b4.out.bias": (1,)}
    assert shapes == expected


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_logits_equal_the_oracles(oracle, dtype, tolerance):
    network = build().to(dtype)
    images = torch.randn(8, 3, 16, 16, dtype=dtype)
    logits = network(images)
    assert logits.shape == (8,)
    theirs = oracle.discriminator(network.state_dict(), images, 4)
    torch.testing.assert_close(logits, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", [1, 2, 6, 8])
def test_minibatch_std_equals_the_oracles(oracle, batch):
    x = torch.randn(batch, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(minibatch_std(x, 4), oracle.minibatch_std(x, 4))


def test_without_groups_items_are_judged_alone():
    network = build(mbstd_group_size=1)
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_and_is_what_autocast_chooses():
    network, images = build(), torch.randn(4, 3, 16, 16)
    low = network(images, torch.bfloat16)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, network(images), rtol=0.05, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(images), low)
