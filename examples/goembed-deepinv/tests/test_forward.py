"""What the laws do not say: adjoints, state, seeds, and settings that are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from goembed_core import plugins
from goembed_core.config import ConfigError
from goembed_core.errors import UserError

from .conftest import require_example

require_example()

from goembed_deepinv.config import DeepinvConfig  # noqa: E402
from goembed_deepinv.forward import Angle, Called, Fixed, Kernel, Mask, Projections, forward_model  # noqa: E402
from goembed_deepinv.library import operators  # noqa: E402

LINEAR = {
    "Tomography": {"signal_shape": (1, 12, 12)},
    "Inpainting": {"signal_shape": (1, 12, 10)},
    "MRI": {"signal_shape": (2, 12, 10)},
    "Blur": {"signal_shape": (1, 12, 10), "parameters": {"padding": "valid"}},
    "BlurFFT": {"signal_shape": (1, 12, 12)},
    "Downsampling": {"signal_shape": (1, 12, 12), "parameters": {"factor": 2}},
    "CompressedSensing": {"signal_shape": (1, 6, 6), "parameters": {"m": 20}},
}


def example(operator, batch=2, **settings):
    model = forward_model(DeepinvConfig(operator=operator, **settings))
    return model, *model.example(batch, torch.Generator().manual_seed(0))


def pulled_back(model, signal, params, values):
    """`Aᵀ y` by automatic differentiation."""
    origin = torch.zeros_like(signal, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(origin, params), origin, values)
    return gradient


@pytest.mark.parametrize("operator", [*LINEAR, "Tomography, filtered"])
def test_linear_operators_have_their_adjoint(operator):
    operator, *filtered = operator.split(", ")
    model, signal, params = example(operator, **LINEAR[operator], half_ramp=bool(filtered))
    signal, other = signal.double(), torch.rand(signal.shape, dtype=torch.float64).sub(0.5)
    torch.testing.assert_close(model(signal - 3 * other, params), model(signal, params) - 3 * model(other, params))
    values = torch.randn(model(signal, params).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, right = (model(signal, params) * values).sum(), (signal * pulled_back(model, signal, params, values)).sum()
    torch.testing.assert_close(left, right)


def test_the_adjoint_of_tomography_is_deepinvs():
    model, signal, params = example("Tomography", signal_shape=(1, 12, 12))
    values = model(signal, params)
    found = pulled_back(model, signal, params, values)
    for item, angles in enumerate(params.angle_deg):
        physics = operators()["Tomography"](angles=angles, img_width=12, normalize=False)
        expected = physics.A_adjoint(values[item].permute(1, 2, 0)[None])
        torch.testing.assert_close(found[item : item + 1], expected, rtol=1e-4, atol=1e-4)


def test_phase_retrieval_loses_the_sign():
    model, signal, params = example(
        "RandomPhaseRetrieval", signal_shape=(1, 6, 6), parameters={"m": 80}, as_complex=True
    )
    torch.testing.assert_close(model(-signal, params), model(signal, params))
    torch.testing.assert_close(model(2 * signal, params), 4 * model(signal, params))


@pytest.mark.parametrize("operator", ["Tomography", "MRI", "Blur"])
def test_a_call_leaves_the_operator_as_it_was(operator):
    model, signal, params = example(operator, 3, **LINEAR[operator])
    before = {name: value.clone() for name, value in model.operator.physics.named_buffers()}
    model(signal, params)
    # deepinv's unused filtered back-projection of a single angle has no numbers in its grid
    torch.testing.assert_close(dict(model.operator.physics.named_buffers()), before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("operator", ["Tomography", "Blur"])
def test_autocast_leaves_the_operator_its_precision(operator):
    model, signal, params = example(operator, **LINEAR[operator])
    with torch.autocast("cpu", torch.bfloat16):
        found = model(signal, params)
    assert torch.equal(found, model(signal, params))


def test_random_operators_are_their_seeds():
    def drawn(seed):
        model, signal, params = example(
            "StructuredRandom", signal_shape=(1, 8, 8), seed=seed, parameters={"output_size": [1, 8, 8]}
        )
        return model(signal, params)

    state = torch.get_rng_state()
    first = drawn(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(drawn(0), first) and not torch.equal(drawn(1), first)


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({"operator": "Tomography"}, Projections),
        ({"operator": "Tomography", "parameters": {"angles": 9, "normalize": True}}, Fixed),
        ({"operator": "Tomography", "parameters": {"angles": 9, "fan_beam": True, "normalize": False}}, Fixed),
        ({"operator": "BlurFFT"}, Called),
        ({"operator": "Downsampling", "parameters": {"filter": "bicubic", "factor": 4}}, Fixed),
        ({"operator": "Denoising"}, Fixed),
        ({"operator": "Demosaicing", "signal_shape": [3, 8, 8]}, Fixed),
        ({"operator": "MultiCoilMRI", "signal_shape": [2, 8, 8]}, Fixed),
    ],
)
def test_what_is_set_does_not_vary(settings, way):
    model = plugins.build("forward-model", "deepinv", settings)
    assert type(model) is way
    signal, params = model.example(2, torch.Generator().manual_seed(0))
    assert torch.isfinite(model(signal, params)).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operator": "Tomograph"}, "operator=Tomograph: .* did you mean 'Tomography'"),
        ({"parameters": {"circl": True}}, "parameters.circl: .* did you mean 'circle'.*; it has .*angles"),
        ({"parameters": {"fan_beam": True}}, "fix them: parameters.angles=60"),
        ({"signal_shape": (1, 8, 9)}, "signal_shape=1,8,9: Tomography takes square images"),
        ({"operator": "Blur", "half_ramp": True}, "half_ramp=true: the filter is for operator=Tomography"),
        ({"operator": "Blur", "kernel_size": 4}, "kernel_size=4 is even"),
        ({"operator": "CompressedSensing"}, "operator=CompressedSensing: deepinv says: .*missing.*'m'"),
        ({"operator": "MRI", "signal_shape": (2, 8, 8), "parameters": {"mask": [1]}}, "deepinv says"),
        ({"operator": "SinglePixelCamera", "signal_shape": (1, 9, 9), "parameters": {"m": 4}}, "power"),
        ({"operator": "Pansharpen", "signal_shape": (3, 8, 8)}, "measures a list of tensors"),
        ({"kernelsize": 3}, "did you mean .*kernel_size"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, said):
    with pytest.raises(UserError) as caught:
        plugins.build("forward-model", "deepinv", settings)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_in_words():
    model, signal, params = example("Tomography", signal_shape=(1, 12, 12))
    with pytest.raises(UserError, match=r"the signal is \(2, 1, 11, 12\), expected \(batch, 1, 12, 12\)"):
        model(signal[:, :, 1:], params)
    with pytest.raises(UserError, match="φ is a Mask, but Tomography is given Angle"):
        model(signal, Mask(torch.ones(2, 3, 1, 12, 12)))
    with pytest.raises(UserError, match=r"φ.angle_deg is \(2, 3, 1\), expected \(2, views\)"):
        model(signal, Angle(params.angle_deg[..., None]))
    blur, signal, params = example("Blur", signal_shape=(1, 12, 12))
    with pytest.raises(UserError, match=r"φ.filter is \(2, 3, 2, 5, 5\), expected \(2, views, 1, 5, 5\)"):
        blur(signal, Kernel(params.filter.repeat(1, 1, 2, 1, 1)))


WITHOUT = "import sys; sys.modules['torchvision'] = None; from goembed_deepinv.library import library; library()"


def test_without_torchvision_the_error_says_how_to_get_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 1
    assert "UserError: deepinv cannot be imported" in done.stderr
    assert "uv pip install --no-config deepinv torch==" in done.stderr


def test_config_errors_are_config_errors():
    with pytest.raises(ConfigError):
        forward_model(DeepinvConfig(operator="Nothing"))


def test_the_readme_tells_the_truth(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.strip() == re.search(r"# (torch.Size\(.*?\))", block)[1]
