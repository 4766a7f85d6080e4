"""Converted checkpoints give the images of the originals, and hostile ones are refused without being obeyed."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.plugins import get
from goembed_stylegan_synth.convert import convert
from goembed_stylegan_synth.weights import load_generator


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.safetensors"


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
def test_official_checkpoint_keeps_its_images(
    tmp_path, target, oracle, checkpoints, new_generator, small_config, protocol
):
    config = small_config.model_copy(update={"conv_clamp": 0.9, "num_low_precision": 2})
    original = new_generator(config)
    convert(checkpoints.write_official(tmp_path / "in.pkl", original, config, protocol=protocol), target)
    loaded = load_generator(target)
    assert loaded.config == config
    assert loaded.facts["converted_from"] == "official pickle"
    ws = torch.randn(2, original.num_ws, config.w_dim)
    image = loaded.generator.synthesis(ws)
    assert torch.equal(image, original.synthesis(ws))
    torch.testing.assert_close(image, oracle.synthesis(original.state_dict(), ws, None, 0.9), rtol=1e-5, atol=1e-5)
    z = torch.randn(2, config.z_dim)
    assert torch.equal(loaded.generator.mapping(z), original.mapping(z))
    assert torch.equal(loaded.generator.mapping.w_avg, original.mapping.w_avg)


def test_source_in_a_checkpoint_is_not_executed(tmp_path, target, checkpoints, generator, small_config):
    source = f"import os\nos.mkdir({str(tmp_path / 'executed')!r})\n"
    convert(checkpoints.write_official(tmp_path / "in.pkl", generator, small_config, module_src=source), target)
    assert target.exists() and not (tmp_path / "executed").exists()


@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec, getattr, torch.load, pickle.loads])
def test_calls_are_refused(tmp_path, target, checkpoints, function):
    path = checkpoints.dump(tmp_path / "in.pkl", {"G_ema": Call(function, str(tmp_path / "executed"))})
    with pytest.raises(UserError, match=r"nothing in it was executed: it wants to use \S+, which no StyleGAN2 check"):
        convert(path, target)
    assert not (tmp_path / "executed").exists() and not target.exists()


def test_nested_tensor_files_are_read_as_weights_alone(tmp_path, target, checkpoints):
    inner = pickle.dumps(Call(os.mkdir, str(tmp_path / "executed")))
    path = checkpoints.dump(tmp_path / "in.pkl", {"G_ema": Call(torch.storage._load_from_bytes, inner)})
    with pytest.raises(UserError, match="not a whole StyleGAN2 pickle"):
        convert(path, target)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((9,), (1,), 0), ((2,), (1,), 7), ((10**9,), (0,), 0), ((2,), (-1,), 1), ((2,), (1,), -1)],
)
def test_tensors_beyond_their_numbers_are_refused(tmp_path, target, checkpoints, size, stride, offset):
    storage = torch.zeros(8).untyped_storage()
    storage = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    call = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    with pytest.raises(UserError, match=r"it has a tensor of shape .* over 8 numbers"):
        convert(checkpoints.dump(tmp_path / "in.pkl", {"G_ema": call}), target)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04N\x94r\xff\xff\xff\x7f.", "built to exhaust the memory"),
        (b"\x80\x04X\x01\x00\x00\x00aQ.", "uses the pickle instruction BINPERSID"),
        (b"\x80\x02\x82\x01.", "uses the pickle instruction EXT1"),
        (b"(ios\nsystem\n.", "uses the pickle instruction INST"),
    ],
)
def test_other_ways_in_are_refused(tmp_path, target, content, reason):
    path = tmp_path / "in.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"nothing in it was executed: it (is )?{reason}"):
        convert(path, target)


def test_modules_that_contain_themselves_are_refused(tmp_path, target, checkpoints, generator, small_config):
    record = checkpoints.persistent(generator, "", _init_kwargs=checkpoints.official_settings(small_config))
    state = record.meta["state"]
    inner = checkpoints.Persistent("Loop", {"_parameters": {}, "_buffers": {}, "_modules": state["_modules"]}, "")
    state["_modules"]["a"], state["_modules"]["b"] = inner, inner
    path = checkpoints.dump(tmp_path / "in.pkl", {"G_ema": record})
    with pytest.raises(UserError, match="more than 1000 modules"):
        convert(path, target)


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_truncated_official_checkpoint(tmp_path, target, checkpoints, generator, small_config, keep):
    path = checkpoints.write_official(tmp_path / "in.pkl", generator, small_config)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is not a whole StyleGAN2 pickle"):
        convert(path, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"c_dim": 10}, "is conditional on 10 labels; only unconditional generators are supported"),
        ({"synthesis_kwargs": {"architecture": "resnet"}}, "architecture='resnet': only 'skip' is supported"),
        ({"synthesis_kwargs": {"magnitude_ema_beta": 1}}, "magnitude_ema_beta=1: no setting of a StyleGAN2 generator"),
        ({"mapping_kwargs": {"lr_multiplier": 1}}, "mapping_kwargs.lr_multiplier=1: only 0.01 is supported"),
        ({"img_resolution": 48}, "resolution=48: expected a power of two"),
        ({"img_resolution": 32}, "does not hold the generator that its settings describe: missing: synthesis.b32"),
        ({"w_dim": 7}, r"of another shape: mapping.fc0.bias \(5,\) instead of \(7,\)"),
    ],
)
def test_other_networks_are_refused(tmp_path, target, checkpoints, generator, small_config, changes, reason):
    path = checkpoints.write_official(tmp_path / "in.pkl", generator, small_config, **changes)
    with pytest.raises(UserError, match=reason):
        convert(path, target)


def test_pickles_of_something_else(tmp_path, target, checkpoints):
    with pytest.raises(UserError, match="is a pickle without a G_ema"):
        convert(checkpoints.dump(tmp_path / "in.pkl", {"state": 1}), target)
    path = tmp_path / "tf.pkl"
    path.write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00.")
    with pytest.raises(UserError, match=r"TensorFlow network; convert it with the official legacy\.py first"):
        convert(path, target)
    with pytest.raises(UserError, match="there is no such checkpoint"):
        convert(tmp_path / "absent.pkl", target)


def test_another_filter_is_refused(tmp_path, target, checkpoints, generator, small_config):
    generator.synthesis.b8.conv0.resample_filter.fill_(1 / 16)
    with pytest.raises(UserError, match=r"b8.conv0.resample_filter is not the \[1, 3, 3, 1\] filter"):
        convert(checkpoints.write_official(tmp_path / "in.pkl", generator, small_config), target)


@pytest.mark.parametrize("zipped", [True, False])
def test_port_checkpoint_keeps_its_images(tmp_path, target, oracle, checkpoints, zipped):
    state = checkpoints.random_port_state()
    average = torch.randn(6)
    convert(checkpoints.write_port(tmp_path / "in.pt", state, zipped=zipped, latent_avg=average), target)
    loaded = load_generator(target)
    assert loaded.facts["converted_from"] == "PyTorch port"
    assert (loaded.config.resolution, loaded.config.w_dim, loaded.config.mapping_layers) == (32, 6, 3)
    z = torch.randn(3, 6)
    w = loaded.generator.mapping(z)
    torch.testing.assert_close(w, checkpoints.port_mapping(oracle, state, z), rtol=1e-5, atol=1e-5)
    ours, theirs = loaded.generator.synthesis(loaded.generator.broadcast(w)), checkpoints.port_image(oracle, state, w)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    assert torch.equal(loaded.generator.mapping.w_avg, average)


def test_port_without_mean_latent_or_noise(tmp_path, target, oracle, checkpoints):
    state = {name: value for name, value in checkpoints.random_port_state().items() if not name.startswith("noises")}
    torch.save(state, tmp_path / "in.pt")
    convert(tmp_path / "in.pt", target)
    generator = load_generator(target).generator
    w = checkpoints.port_mapping(oracle, state, torch.randn(20_000, 6))
    torch.testing.assert_close(generator.mapping.w_avg, w.mean(dim=0), atol=0.05, rtol=0)
    assert generator.synthesis.b32.conv1.noise_const.std().item() == pytest.approx(1, abs=0.1)


def test_port_hostile_and_damaged(tmp_path, target, checkpoints):
    torch.save({"g_ema": Call(os.mkdir, str(tmp_path / "executed"))}, tmp_path / "in.pt")
    with pytest.raises(UserError, match="is not weights alone, and nothing in it was executed"):
        convert(tmp_path / "in.pt", target)
    assert not (tmp_path / "executed").exists()
    path = checkpoints.write_port(tmp_path / "cut.pt", checkpoints.random_port_state())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not weights alone"):
        convert(path, target)


@pytest.mark.parametrize(
    ("remove", "reason"),
    [
        ("input.input", "a torch file without a g_ema"),
        ("convs.2.conv.weight", "the generator has no convs.2.conv.weight"),
        ("to_rgbs.0.conv.modulation.bias", "has no to_rgbs.0.conv.modulation.bias"),
        ("style.2.bias", "has no style.2.bias"),
    ],
)
def test_incomplete_port_checkpoint(tmp_path, target, checkpoints, remove, reason):
    state = checkpoints.random_port_state()
    del state[remove]
    with pytest.raises(UserError, match=reason):
        convert(checkpoints.write_port(tmp_path / "in.pt", state), target)


def test_is_registered():
    assert get("converter", "stylegan2").load() is convert
