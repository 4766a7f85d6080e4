"""Feature networks: their weights, what they make of pictures, and the way from images to features."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.metrics.config import EfficientNetLite0Config, InceptionConfig
from goembed_core.metrics.efficientnet import EfficientNetLite0, same_padding
from goembed_core.metrics.features import as_rgb, features_of
from goembed_core.metrics.frozen_norm import FrozenBatchNorm
from goembed_core.metrics.inception import Inception
from goembed_core.metrics.weights import fill, read_weights
from goembed_core.plugins import PluginHost
from PIL import Image
from safetensors.torch import save_file

DATA = os.environ.get("GOEMBED_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="GOEMBED_DATA is not set: the ImageNet weights are there")


def picture(path, box=None):
    with Image.open(path) as image:
        levels = torch.from_numpy(np.array(image.convert("RGB").crop(box) if box else image.convert("RGB")))
    return levels.permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def lite0():
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def photographs():
    fern = [picture(path, (63, 0, 441, 378)) for path in sorted((Path(DATA) / "llff_fern/images_8").glob("*.png"))[::4]]
    hopper = picture(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg", (0, 0, 512, 512))
    return [hopper, *fern]


@needs_data
def test_lite0_recognises_photographs(lite0, photographs):
    """Classes by ImageNet's numbers: 652 military uniform, 738 flower pot."""
    probabilities = torch.cat([lite0.logits(image) for image in photographs]).softmax(1)
    assert probabilities.argmax(1).tolist() == [652] + [738] * (len(photographs) - 1)
    assert probabilities[0, 652] > 0.2 and (probabilities[1:, 738] > 0.15).all()


@needs_data
def test_lite0_activations_have_the_statistics_that_its_batch_norms_stored(lite0, photographs):
    """An oracle for everything in between: with a rectifier not cut at six it is 0.30."""
    deviations = []

    def compare(norm, inputs):
        mean = inputs[0].mean((0, 2, 3))
        deviations.append(((mean - norm.running_mean) / norm.running_var.sqrt()).abs().median())

    norms = [module for module in lite0.modules() if isinstance(module, FrozenBatchNorm)]
    handles = [norm.register_forward_pre_hook(compare) for norm in norms]
    resized = [torch.nn.functional.interpolate(i, (224, 224), mode="bilinear", antialias=True) for i in photographs]
    lite0(torch.cat(resized))
    for handle in handles:
        handle.remove()
    assert len(deviations) == 49
    assert torch.stack(deviations).mean() < 0.2


@needs_data
def test_lite0_has_the_published_size_and_is_frozen(lite0):
    parameters = sum(p.numel() for p in lite0.parameters())
    norms = sum(m.weight.numel() + m.bias.numel() for m in lite0.modules() if isinstance(m, FrozenBatchNorm))
    assert parameters + norms == 4_652_008  # "4.7M"
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = lite0(image)
    assert features.shape == (1, lite0.num_features) and lite0.name == "efficientnet-lite0"
    torch.testing.assert_close(lite0.train()(image), features)


@needs_data
def test_lite0_takes_grey_images_and_tells_its_gradient(lite0):
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(lite0(grey), lite0(grey.expand(-1, 3, -1, -1)))
    grey.requires_grad_()
    lite0(grey).sum().backward()
    assert grey.grad.abs().max() > 0


@needs_data
def test_lite0_through_the_plugin_host(lite0):
    host = PluginHost([EntryPoint("core", "goembed_core.builtin", "goembed")], strict=True)
    assert host.names("feature-network") == ["efficientnet-lite0", "inception"]
    built = host.build("feature-network", "efficientnet-lite0")
    image = torch.zeros(1, 3, 224, 224)
    torch.testing.assert_close(built(image), lite0(image))


def test_core_is_itself_a_plugin():
    assert entry_points(group="goembed", name="core")["core"].value == "goembed_core.builtin"


def test_lite0_without_weights_says_where_they_belong(monkeypatch, tmp_path):
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"GOEMBED_DATA to a folder with efficientnet_lite0/.*or give their file"):
        EfficientNetLite0()
    with pytest.raises(UserError, match="there is no such file"):
        EfficientNetLite0(EfficientNetLite0Config(weights=tmp_path / "none.npz"))


def test_same_padding_puts_the_odd_zero_last():
    conv = torch.nn.Conv2d(1, 1, 3, stride=2)
    padded = same_padding(torch.ones(1, 1, 4, 5), conv)
    assert padded.shape == (1, 1, 5, 7)  # 4 → 2 outputs from 5 pixels, 5 → 3 outputs from 7
    assert padded[0, 0, -1].sum() == 0 and padded[0, 0, 0].sum() == 5
    assert padded[0, 0, :, 0].sum() == 0 and padded[0, 0, :, -1].sum() == 0


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Random weights in a file, so that the network can be built without its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inception, "_load", lambda self, config: None)
        network = Inception()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        scale = (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.1
        state[key] = torch.randn(value.shape, generator=generator) * scale
        if key.endswith(("bn.weight", "running_var")):
            state[key] = 1 + 0.5 * torch.rand(value.shape, generator=generator)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(state | {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}, path)
    return path


def test_inception_has_the_published_shape(inception_weights, monkeypatch):
    network = Inception(InceptionConfig(weights=inception_weights))
    parameters = sum(p.numel() for p in network.parameters())
    norms = sum(m.weight.numel() + m.bias.numel() for m in network.modules() if isinstance(m, FrozenBatchNorm))
    assert parameters + norms == 23_850_960
    image = torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = network(image)
    assert features.shape == (1, 2048) and (features >= 0).all() and features.std() > 0
    torch.testing.assert_close(network.train()(image), features)
    monkeypatch.setenv("GOEMBED_INCEPTION_WEIGHTS", str(inception_weights))
    torch.testing.assert_close(Inception()(image), features)


def test_inception_pools_do_not_count_the_padding(inception_weights):
    """The average pools of the FID's Inception keep a constant constant, also at the border."""
    network = Inception(InceptionConfig(weights=inception_weights))
    ones = torch.ones(1, 1, 5, 5)
    pools = {name: getattr(network, name).branches[-1][0] for name in ("Mixed_5b", "Mixed_6c", "Mixed_7b", "Mixed_7c")}
    assert all(torch.equal(pool(ones), ones) for pool in pools.values())
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert pools["Mixed_7b"](ramp)[0, 0, 0, 0] == 3 and pools["Mixed_7c"](ramp)[0, 0, 0, 0] == 6


def test_inception_without_weights_says_what_to_fetch(monkeypatch):
    monkeypatch.delenv("GOEMBED_INCEPTION_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=r"6726825d\.pth and name the file in GOEMBED_INCEPTION"):
        Inception()


class Means:
    """Three features of an image: the means of its thirds."""

    name, num_features = "means", 3

    def __call__(self, images):
        return images.reshape(len(images), 3, -1).mean(2)


def test_features_do_not_depend_on_the_batches():
    images = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = Means()(images)
    torch.testing.assert_close(features_of(images, Means(), batch_size=3), expected)
    torch.testing.assert_close(features_of(iter([images[:7], images[7:]]), Means()), expected)
    with pytest.raises(UserError, match="no images to take means features of"):
        features_of([], Means())
    features = features_of(images.requires_grad_(), Means(), device="cpu")
    assert not features.requires_grad


def test_images_of_a_wrong_kind():
    with pytest.raises(UserError, match=r"inception was given torch.uint8 of shape \(1, 3, 8, 8\); expected float"):
        as_rgb(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "inception")
    with pytest.raises(UserError, match=r"torch.float32 of shape \(1, 2, 8, 8\)"):
        as_rgb(torch.zeros(1, 2, 8, 8), "inception")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_weights_of_every_format(tmp_path, suffix):
    state = {"weight": torch.randn(2, 3), "bias": torch.zeros(2)}
    path = tmp_path / f"file{suffix}"
    if suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    elif suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    linear = torch.nn.Linear(3, 2)
    fill(linear, read_weights(path), "linear", path)
    torch.testing.assert_close(linear.weight.data, state["weight"])


class Malicious:
    """An object whose unpickling would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_executed(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"weight": Malicious(trace)}, tmp_path / "file.pth")
    np.savez(tmp_path / "file.npz", weight=np.array([Malicious(trace)], dtype=object))
    for name in ("file.pth", "file.npz"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            read_weights(tmp_path / name)
    assert not trace.exists()


def test_weights_that_cannot_be_read(tmp_path):
    for suffix in (".npz", ".safetensors", ".pth"):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"not weights at all")
        with pytest.raises(UserError, match=f"broken{suffix} cannot be read"):
            read_weights(path)
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    assert read_weights(tmp_path / "empty.npz") == {}
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"expected a state dict .*got list"):
        read_weights(tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"ending in \.npz"):
        read_weights(tmp_path / "file.pkl")


def test_weights_that_do_not_fit_are_named():
    state = {"weight": torch.zeros(2, 4), "gain": torch.zeros(1)}
    expected = (
        r"file.npz does not hold the weights of linear: missing: bias; not part of it: gain; "
        r"of another shape: weight \(2, 4\) instead of \(2, 3\)"
    )
    with pytest.raises(UserError, match=expected):
        fill(torch.nn.Linear(3, 2), state, "linear", "file.npz")


def test_settings_and_registration_need_no_torch():
    code = (
        "import sys, goembed_core.builtin, goembed_core.metrics.config, goembed_core.metrics.results;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
