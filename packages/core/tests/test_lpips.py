"""LPIPS: the published distances where the weights are at hand, and its definition with random weights where not."""

import os
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.metrics.lpips import CHANNELS, LPIPS, SMALLEST_PX
from PIL import Image
from safetensors.torch import save_file

DATA = os.environ.get("GOEMBED_DATA")
CONVOLUTIONS = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}


@pytest.fixture(autouse=True)
def no_weights_named_outside(monkeypatch):
    monkeypatch.delenv("GOEMBED_LPIPS_WEIGHTS", raising=False)


@pytest.fixture(params=["alex", "vgg"])
def net(request):
    return request.param


@pytest.fixture
def weights(net, tmp_path):
    """A file of random weights, in torchvision's names, with a classifier that must not disturb."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "alex": [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)],
        "vgg": [
            *((64, 3, 3), (64, 64, 3), (128, 64, 3), (128, 128, 3), (256, 128, 3), (256, 256, 3), (256, 256, 3)),
            *((512, 256, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3)),
        ],
    }[net]
    state = {"classifier.weight": torch.zeros(10, 10)}
    for index, (out, channels, kernel) in zip(CONVOLUTIONS[net], shapes, strict=True):
        scale = (2 / (channels * kernel**2)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(out, channels, kernel, kernel, generator=generator) * scale
        state[f"features.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    path = tmp_path / f"{net}.safetensors"
    save_file(state, path)
    return path


def read(name):
    levels = torch.from_numpy(np.array(Image.open(Path(DATA) / "lpips_alexnet" / name).convert("RGB")))
    return levels.permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.skipif(DATA is None, reason="GOEMBED_DATA is not set: the AlexNet weights and the test images are there")
def test_published_distances(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lpips", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)  # a plugin's tests may have imported them
    lpips = LPIPS("alex")
    reference, first, second = map(read, ("ex_ref.png", "ex_p0.png", "ex_p1.png"))
    found = lpips(torch.cat([reference, reference]), torch.cat([first, second]))
    torch.testing.assert_close(found, torch.tensor([0.722, 0.138]), rtol=0, atol=5e-4)
    assert "lpips" not in sys.modules and "torchvision" not in sys.modules


def test_weights_named_by_the_environment(net, weights, monkeypatch):
    monkeypatch.setenv("GOEMBED_LPIPS_WEIGHTS", str(weights))
    a, b = images(2)
    torch.testing.assert_close(LPIPS(net)(a, b), LPIPS(net, weights)(a, b))


def images(count, size=40):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, count, 3, size, size, generator=generator) * 2 - 1


def test_definition(net, weights):
    """Five rectified layers, of unit length over channels; squared differences, weighted, averaged, summed."""
    lpips = LPIPS(net, weights)
    a, b = images(1, 33)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((image[0] - shift[:, None, None]) / scale[:, None, None])[None] for image in (a, b))
    expected, stage = 0.0, 0
    layers = list(lpips.features)
    for index, layer in enumerate(layers):
        x, y = layer(x), layer(y)
        last_before_pool = index + 1 == len(layers) or isinstance(layers[index + 1], torch.nn.MaxPool2d)
        if isinstance(layer, torch.nn.ReLU) and (last_before_pool or (net == "alex" and index > 4)):
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    u, v = x[0, :, row, column], y[0, :, row, column]
                    u, v = u / (u.norm() + 1e-10), v / (v.norm() + 1e-10)
                    expected += (lpips.heads[stage] * (u - v) ** 2).sum().item() / (x.shape[2] * x.shape[3])
            stage += 1
    assert stage == 5
    assert lpips(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_properties(net, weights):
    lpips = LPIPS(net, weights)
    a, b = images(3)
    torch.testing.assert_close(lpips(a, b), lpips(b, a))
    torch.testing.assert_close(lpips(a, b)[1:2], lpips(a[1:2], b[1:2]))
    assert (lpips(a, a) == 0).all() and (lpips(a, b) > 0.01).all()
    grey = a[:, :1]
    torch.testing.assert_close(lpips(grey, b[:, :1]), lpips(grey.expand(-1, 3, -1, -1), b[:, :1].expand(-1, 3, -1, -1)))
    assert [head.shape for head in lpips.heads] == [(channels,) for channels in CHANNELS[net]]
    assert all((head >= 0).all() for head in lpips.heads)


def test_gradient_reaches_the_images_and_not_the_network(net, weights):
    lpips = LPIPS(net, weights)
    a, b = images(1)
    lpips(a.requires_grad_(), b).sum().backward()
    assert a.grad.isfinite().all() and a.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_gradient_is_finite_where_features_vanish(net, weights):
    """The length of a vector has no gradient at zero, and a rectifier can make all features of a pixel zero."""
    lpips = LPIPS(net, weights)
    for layer in list(lpips.features)[:4]:
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.data.fill_(-1e3)
    a, b = images(1)
    with torch.autograd.set_detect_anomaly(True):  # also where a later rectifier would hide it
        lpips(a.requires_grad_(), b).sum().backward()
    assert a.grad.isfinite().all()


def test_smallest_image(net, weights):
    lpips, size = LPIPS(net, weights), SMALLEST_PX[net]
    assert lpips(*images(1, size)).isfinite().all()
    with pytest.raises(UserError, match=f"at least {size} pixels a side; got {size - 1}x{size - 1}: enlarge"):
        lpips(*images(1, size - 1))


def test_offline_error_says_what_where_and_how(net, monkeypatch):
    def offline(*args, **kwargs):
        assert kwargs["weights_only"] and kwargs["check_hash"]
        raise urllib.error.URLError("no network")

    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    file = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}[net]
    with pytest.raises(UserError, match=f"{file}.*no network.*put it into .*checkpoints.*GOEMBED_LPIPS_WEIGHTS"):
        LPIPS(net)


def test_weights_of_another_network(net, weights):
    other = "vgg" if net == "alex" else "alex"
    with pytest.raises(UserError, match=f"does not hold the weights of LPIPS '{other}'"):
        LPIPS(other, weights)
    with pytest.raises(UserError, match="LPIPS has the networks alex and vgg; got 'squeeze'"):
        LPIPS("squeeze", weights)


def test_missing_heads_are_named(net, weights, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="uv pip install lpips"):
        LPIPS(net, weights)
