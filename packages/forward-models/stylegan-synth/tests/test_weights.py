"""Weights are read back as they were written, and what is wrong with a file is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from goembed_core.errors import UserError
from goembed_stylegan_synth.weights import FORMAT, build_generator, load_generator, save_generator
from safetensors import safe_open
from safetensors.torch import save_file


def rewrite(path: str, change) -> None:
    """Change tensors and metadata of a file in place."""
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_round_trip(weights, generator, small_config):
    loaded = load_generator(weights)
    assert loaded.config == small_config and loaded.facts == {"data": "random"}
    assert loaded.generator.state_dict().keys() == generator.state_dict().keys()
    for name, value in generator.state_dict().items():
        assert torch.equal(loaded.generator.state_dict()[name], value), name


def test_half_precision_is_read_as_float32(weights):
    rewrite(weights, lambda tensors, _: tensors.update({n: v.half() for n, v in tensors.items()}))
    assert {value.dtype for value in load_generator(weights).generator.state_dict().values()} == {torch.float32}


def test_building_leaves_the_global_random_numbers_alone(small_config):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_generator(small_config)
    assert torch.equal(torch.rand(3), expected)


def test_absent(tmp_path):
    with pytest.raises(UserError, match=r"no such file; part of the package are: fashion32$"):
        load_generator(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="did you mean 'fashion32'"):
        load_generator("fashion64")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated(weights, keep):
    path = Path(weights)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"small\.safetensors' is not a whole safetensors file"):
        load_generator(weights)


def test_of_another_format(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"of format None instead of 'goembed-stylegan2'; .* goembed convert stylegan2"):
        load_generator(path)


def test_missing_and_unexpected(weights):
    def change(tensors, _):
        tensors["synthesis.b4.other"] = tensors.pop("synthesis.b4.const")

    rewrite(weights, change)
    with pytest.raises(UserError, match=r"missing: synthesis.b4.const; unexpected: synthesis.b4.other"):
        load_generator(weights)


def test_of_another_shape(weights):
    rewrite(weights, lambda tensors, _: tensors.update({"mapping.w_avg": torch.zeros(7)}))
    with pytest.raises(UserError, match=r"of another shape: mapping.w_avg \(7,\) instead of \(5,\)"):
        load_generator(weights)


def test_settings_of_another_network(weights):
    def change(_, metadata):
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"resolution": 32})

    rewrite(weights, change)
    with pytest.raises(UserError, match=r"does not fit the settings that it carries: missing: synthesis.b32.conv0"):
        load_generator(weights)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "Expecting"),
        ('{"resolution": 33}', "resolution=33: expected a power of two from 8 to 1024"),
        ('{"resolutoin": 32}', "did you mean resolution"),
        ('{"channel_max": 1000000000}', "channel_max"),
    ],
)
def test_settings_that_cannot_be_used(weights, config, reason):
    rewrite(weights, lambda _, metadata: metadata.update(config=config))
    with pytest.raises(UserError, match=f"carries settings that cannot be used: .*{reason}"):
        load_generator(weights)


def test_no_settings(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": FORMAT})
    with pytest.raises(UserError, match="carries settings that cannot be used"):
        load_generator(path)


def test_diverged(weights):
    rewrite(weights, lambda tensors, _: tensors["mapping.fc0.bias"].fill_(torch.nan))
    with pytest.raises(UserError, match=r"mapping.fc0.bias not finite; the training that wrote it had diverged"):
        load_generator(weights)


def test_writing_over_an_old_file_is_atomic(weights, generator, small_config):
    before = Path(weights).read_bytes()
    with pytest.raises(AttributeError):
        save_generator(Path(weights), generator, None)
    assert Path(weights).read_bytes() == before
    assert [path.name for path in Path(weights).parent.iterdir()] == ["small.safetensors"]
