"""The generator: names and shapes of the official state_dict, the oracle's images, noise, truncation and precision."""

from __future__ import annotations

import pytest
import torch
from goembed_core.randomness import ItemRandom
from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.networks import channels_by_resolution
from goembed_stylegan_synth.weights import build_generator


def official_table() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published 256² generators."""
    table = {"mapping.w_avg": (512,)}
    for index in range(8):
        table |= {f"mapping.fc{index}.weight": (512, 512), f"mapping.fc{index}.bias": (512,)}

    def conv(name: str, side: int, i: int, o: int) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.weight": (o, i, 3, 3),
            f"{name}.noise_strength": (),
            f"{name}.bias": (o,),
            f"{name}.resample_filter": (4, 4),
            f"{name}.noise_const": (side, side),
            f"{name}.affine.weight": (i, 512),
            f"{name}.affine.bias": (i,),
        }

    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}
    for side, o in channels.items():
        block = f"synthesis.b{side}"
        table[f"{block}.resample_filter"] = (4, 4)
        if side == 4:
            table[f"{block}.const"] = (512, 4, 4)
        else:
            table |= conv(f"{block}.conv0", side, channels[side // 2], o)
        table |= conv(f"{block}.conv1", side, o, o)
        table |= {f"{block}.torgb.weight": (3, o, 1, 1), f"{block}.torgb.bias": (3,)}
        table |= {f"{block}.torgb.affine.weight": (o, 512), f"{block}.torgb.affine.bias": (o,)}
    return table


@pytest.fixture(scope="module")
def published():
    return build_generator(GeneratorConfig())


def test_state_dict_has_the_official_names_and_shapes(published):
    found = {name: tuple(value.shape) for name, value in published.state_dict().items()}
    assert found == official_table()
    assert len(found) == 144


def test_published_size(published):
    assert sum(parameter.numel() for parameter in published.parameters()) == pytest.approx(24.77e6, rel=1e-3)
    assert sum(parameter.numel() for parameter in published.mapping.parameters()) == pytest.approx(2.10e6, rel=1e-2)
    assert published.num_ws == 14


def test_channels_of_the_larger_networks():
    assert channels_by_resolution(1024, 32768, 512) == {
        4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32
    }  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_images_equal_the_oracles(oracle, new_generator, small_config, dtype, tolerance, clamp):
    generator = new_generator(small_config.model_copy(update={"conv_clamp": clamp})).to(dtype)
    state = generator.state_dict()
    z = torch.randn(3, small_config.z_dim, dtype=dtype)
    w = generator.mapping(z)
    torch.testing.assert_close(w, oracle.mapping(state, z), rtol=tolerance, atol=tolerance)
    ws = torch.randn(3, generator.num_ws, small_config.w_dim, dtype=dtype)
    ours, theirs = generator.synthesis(ws), oracle.synthesis(state, ws, None, clamp)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item())
    assert ours.shape == (3, 3, 16, 16)


def test_explicit_noise_goes_to_its_convolution(oracle, generator, small_config):
    noises = generator.synthesis.draw_noise(ItemRandom(0, range(2)))
    assert [tuple(noise.shape) for noise in noises] == [(2, 1, s, s) for s in (4, 8, 8, 16, 16)]
    ws = torch.randn(2, generator.num_ws, small_config.w_dim)
    theirs = oracle.synthesis(generator.state_dict(), ws, noises)
    torch.testing.assert_close(generator.synthesis(ws, noises), theirs, rtol=1e-5, atol=1e-5)


def test_no_noise_is_noise_of_strength_zero(generator, small_config):
    ws = torch.randn(2, generator.num_ws, small_config.w_dim)
    without, const = generator.synthesis(ws, "none"), generator.synthesis(ws, "const")
    assert not torch.allclose(without, const)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.zero_()
    torch.testing.assert_close(generator.synthesis(ws, "const"), without)


def test_drawn_noise_belongs_to_the_item(generator):
    whole = generator.synthesis.draw_noise(ItemRandom(0, range(4)))
    half = generator.synthesis.draw_noise(ItemRandom(0, range(2, 4)))
    assert all(torch.equal(a[2:], b) for a, b in zip(whole, half, strict=True))


def test_truncation_moves_towards_the_mean(generator, small_config):
    w, mean = torch.randn(2, small_config.w_dim), generator.mapping.w_avg
    torch.testing.assert_close(generator.broadcast(w, 0.5)[:, 3], (w + mean) / 2)
    torch.testing.assert_close(generator.broadcast(w, 0.0)[0], mean.expand(generator.num_ws, -1))
    cut = generator.broadcast(w, 0.0, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, 1], mean.expand(2, -1))
    torch.testing.assert_close(cut[:, 2], w)


def test_forward_is_mapping_then_truncation_then_synthesis(generator, small_config):
    z = torch.randn(2, small_config.z_dim)
    ws = generator.broadcast(generator.mapping(z), 0.7, 3)
    torch.testing.assert_close(generator(z, 0.7, 3, "none"), generator.synthesis(ws, "none"))


def test_each_row_of_ws_reaches_its_own_layers(generator, small_config):
    """Row `r` steers a convolution and the block before's image; the last row the last image only."""
    ws = torch.randn(1, generator.num_ws, small_config.w_dim, requires_grad=True)
    generator.synthesis(ws).square().sum().backward()
    assert (ws.grad.abs().amax(dim=(0, 2)) > 0).all()
    changed = ws.detach().clone()
    changed[:, -1] += 1
    last_only = generator.synthesis(changed) - generator.synthesis(ws.detach())
    features = small_config.channel_base // small_config.resolution
    assert torch.linalg.matrix_rank(last_only[0].flatten(1)) <= min(3, features)


def test_running_mean_of_w(generator, small_config):
    before, w = generator.mapping.w_avg.clone(), torch.randn(8, small_config.w_dim)
    generator.mapping.track_average(w)
    torch.testing.assert_close(generator.mapping.w_avg, 0.995 * before + 0.005 * w.mean(dim=0))


def test_bfloat16_is_close_and_is_what_autocast_chooses(generator, small_config):
    ws = torch.randn(4, generator.num_ws, small_config.w_dim)
    full = generator.synthesis(ws)
    low = generator.synthesis(ws, low_precision=torch.bfloat16)
    assert low.dtype == torch.float32
    assert 0 < (low - full).square().mean() < 1e-3 * full.square().mean()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator.synthesis(ws), low)
        assert generator.mapping(torch.randn(2, small_config.z_dim)).dtype == torch.float32


def test_only_the_highest_resolutions_lose_precision(new_generator, small_config):
    ws = torch.randn(2, 6, small_config.w_dim)
    errors = []
    for count in (0, 1, 2, 3):
        generator = new_generator(small_config.model_copy(update={"num_low_precision": count}))
        low = generator.synthesis(ws, low_precision=torch.bfloat16)
        errors.append((low - generator.synthesis(ws)).norm().item())
    assert errors[0] == 0 < errors[1] and len(set(errors)) == 4


def test_float16_does_not_overflow(new_generator, small_config):
    generator = new_generator(small_config)
    ws = 3000 * torch.randn(2, generator.num_ws, small_config.w_dim)
    full, low = generator.synthesis(ws, "none"), generator.synthesis(ws, "none", torch.float16)
    assert low.isfinite().all()
    assert (low - full).square().mean() < 1e-3 * full.square().mean()
