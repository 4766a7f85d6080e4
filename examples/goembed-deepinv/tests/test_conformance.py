"""Operators of each way to vary, against every law of forward models and against deepinv called item by item."""

from __future__ import annotations

import torch
from goembed_core.testing import parametrize_forward_model

from .conftest import require_example

require_example()

from goembed_deepinv.config import DeepinvConfig  # noqa: E402
from goembed_deepinv.forward import forward_model  # noqa: E402
from goembed_deepinv.library import build, operators  # noqa: E402


def one_by_one(observe):
    """The oracle that observes one signal under one φ at a time, by deepinv's own interface."""

    def oracle(model, signal, params):
        (leaf,) = params
        rows = [
            torch.stack([observe(image[None], phi[None])[0] for phi in phis])
            for image, phis in zip(signal, leaf, strict=True)
        ]
        return model.config.scale * torch.stack(rows)

    return oracle


def make(operator, shape=(1, 12, 12), **settings):
    """A factory of a forward model of small images."""
    return lambda: forward_model(DeepinvConfig(operator=operator, signal_shape=shape, **settings))


def physics(operator, **arguments):
    """deepinv's operator itself, in the precision of its arguments."""
    return operators()[operator](**arguments)


def project(image, angle):
    operator = physics("Tomography", angles=angle, img_width=12, normalize=False, dtype=image.dtype)
    return operator.A(image)[..., 0]


@parametrize_forward_model(make("Tomography", scale=0.1), oracle=one_by_one(project))
def test_tomography(check):
    check()


def inpaint(image, mask):
    return physics("Inpainting", img_size=(3, 12, 10), mask=mask).A(image)


@parametrize_forward_model(make("Inpainting", (3, 12, 10)), oracle=one_by_one(inpaint))
def test_inpainting(check):
    check()


def sample_frequencies(image, mask):
    return physics("MRI", img_size=(2, 12, 10), mask=mask).A(image)


@parametrize_forward_model(make("MRI", (2, 12, 10)), oracle=one_by_one(sample_frequencies))
def test_mri(check):
    check()


def blur(image, kernel):
    return physics("Blur", filter=kernel, padding="circular").A(image)


@parametrize_forward_model(make("Blur", (3, 12, 10), parameters={"padding": "circular"}), oracle=one_by_one(blur))
def test_blur(check):
    check()


def downsample(image, kernel):
    return physics("Downsampling", filter=kernel, factor=2, img_size=(1, 12, 12)).A(image)


@parametrize_forward_model(make("Downsampling", parameters={"factor": 2}), oracle=one_by_one(downsample))
def test_downsampling(check):
    check()


def intensities(image, seen):
    matrix = build("RandomPhaseRetrieval", {"m": 80, "img_size": (1, 6, 6)}, seed=0).B._A.to(torch.complex128)
    return (matrix @ image.flatten().to(matrix)).abs().square() * seen


PHASE = {"parameters": {"m": 80}, "as_complex": True}


@parametrize_forward_model(make("RandomPhaseRetrieval", (1, 6, 6), **PHASE), oracle=one_by_one(intensities))
def test_phase_retrieval(check):
    check()


def single_pixel(image, seen):
    return physics("SinglePixelCamera", m=20, img_size=(1, 8, 8), dtype=image.dtype).A(image) * seen


@parametrize_forward_model(make("SinglePixelCamera", (1, 8, 8), parameters={"m": 20}), oracle=one_by_one(single_pixel))
def test_single_pixel_camera(check):
    check()
