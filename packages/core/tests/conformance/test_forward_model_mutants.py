"""A right forward model passes; every wrong one is caught by name: neighbours, randomness, gradients, geometry."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.testing import Examination
from torch import nn

REFERENCE = runpy.run_path(str(Path(__file__).with_name("reference.py")), run_name="conformance_reference")
Blur, BlurConfig, Lens, Photo, oracle = (REFERENCE[n] for n in ("Blur", "BlurConfig", "Lens", "Photo", "oracle"))

CAUGHT: dict[str, tuple[type, set[str], str]] = {}  # by the mutant's name: class, failing checks, words of a message


def mutant(*checks: str, words: str = ""):
    """A broken `Blur`, the checks that fail for it, and words that one of the messages has."""

    def add(cls: type) -> type:
        CAUGHT[cls.__name__] = cls, set(checks), words
        return cls

    return add


@mutant("batch_consistency", words="BatchNorm")
class BatchNorm(Blur):
    def __init__(self, config):
        super().__init__(config)
        self.norm = nn.BatchNorm2d(1, affine=False)

    def observe(self, signal, params):
        return super().observe(signal._replace(image=self.norm(signal.image)), params)


@mutant("batch_consistency", "oracle", words="[F(a), F(b)] against F([a, b]) in evaluation mode: output differs by")
class MeanOverBatch(Blur):
    def observe(self, signal, params):
        output = super().observe(signal, params)
        return output - (output.mean(0, keepdim=True) if len(output) else 0)


@mutant("batch_consistency", "oracle", words="one item's parameters used for all")
class FirstItemsParams(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params._replace(width_px=params.width_px[:1].expand_as(params.width_px)))


@mutant("determinism", "global_rng", "batch_consistency", "view_consistency", "view_order", "independent_calls",
        "memory_layout", "dtype", "state_dict", "gradcheck", "oracle",
        words="moved the generator of torch")  # fmt: skip
class HiddenNoise(Blur):
    def observe(self, signal, params):
        output = super().observe(signal, params)
        return output + 0.1 * torch.randn(output.shape, device=output.device, dtype=output.dtype)


@mutant("global_rng", words="a call moved the generator of torch in evaluation mode")
class SeedsGlobally(Blur):
    def observe(self, signal, params):
        torch.manual_seed(0)
        return super().observe(signal, params)


@mutant("global_rng", words="moved the generator of numpy and of random")
class DrawsFromNumpyAndRandom(Blur):
    def observe(self, signal, params):
        np.random.rand(), random.random()
        return super().observe(signal, params)


@mutant("gradient", "gradcheck", "second_gradient", words="no gradient arrives at image")
class Detaches(Blur):
    def observe(self, signal, params):
        return super().observe(signal._replace(image=signal.image.detach()), params)


@mutant("gradient", "gradcheck", "second_gradient", words="no gradient arrives at image")
class NoGrad(Blur):
    def observe(self, signal, params):
        with torch.no_grad():
            return super().observe(signal, params)


@mutant("gradient", "gradcheck", "second_gradient", "device", words="numpy")
class ThroughNumpy(Blur):
    def observe(self, signal, params):
        image = torch.from_numpy(signal.image.detach().numpy().copy())
        return super().observe(signal._replace(image=image), params)


@mutant("gradient", "second_gradient", "oracle", words="the gradient at image is zero everywhere")
class Rounds(Blur):
    def observe(self, signal, params):
        return super().observe(signal._replace(image=signal.image.round()), params)


@mutant(
    "inputs_untouched",
    "gradient",
    "gradcheck",
    "second_gradient",
    "oracle",
    words="image holds other values after the call",
)
class WritesToSignal(Blur):
    def observe(self, signal, params):
        signal.image.mul_(0.5).add_(1)
        return super().observe(signal, params)


@mutant("inputs_untouched", words="width_px was written to 1 times, though its values are the same")
class WritesToParams(Blur):
    def observe(self, signal, params):
        params.width_px.clamp_(min=0.1)
        return super().observe(signal, params)


@mutant("device", words="`mul` meets a tensor of shape (6, 6) that stayed on the CPU")
class StrayTensor(Blur):
    def __init__(self, config):
        super().__init__(config)
        self.vignette = torch.ones(6, 6)

    def observe(self, signal, params):
        return super().observe(signal._replace(image=signal.image * self.vignette.to(signal.image.dtype)), params)


@mutant("device", words="`conv2d` meets a tensor of shape (1, 1, 3, 3)")
class StrayKernel(Blur):
    """torch's own meta kernel of a convolution lets this pass."""

    def observe(self, signal, params):
        kernel = torch.zeros(1, 1, 3, 3, dtype=signal.image.dtype)
        kernel[..., 1, 1] = 1
        return super().observe(signal._replace(image=torch.conv2d(signal.image, kernel, padding=1)), params)


@mutant("device", words="Tensor.item() cannot be called on meta tensors")
class ReadsBack(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params) * (1.0 if params.width_px.sum() > -1 else 2.0)


class WrongSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x + 0.1 * x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 + 0.1 * x)  # 0.2


@mutant("gradcheck", "second_gradient", "oracle", words="gradcheck\n")
class WrongBackward(Blur):
    def observe(self, signal, params):
        return super().observe(signal._replace(image=WrongSquare.apply(signal.image)), params)


class OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp() - 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].exp()


@mutant("second_gradient", "oracle", words="once_differentiable")
class OnceDifferentiable(Blur):
    def observe(self, signal, params):
        return super().observe(signal._replace(image=OnceOnly.apply(signal.image)), params)


@mutant("oracle", words="the last two axes, rows and columns, are swapped")
class SwapsAxes(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params).transpose(-1, -2)


@mutant("oracle", words="differs from the oracle by")
class SwapsXAndY(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params._replace(shift_px=params.shift_px.flip(-1)))


@mutant("oracle", words="the output is shifted by about half a pixel in x and y")
class HalfPixel(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params._replace(shift_px=params.shift_px + 0.5))


@mutant("oracle", words="the output is upside down")
class UpsideDown(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params).flip(-2)


def test_a_right_one_passes():
    results = Examination("forward-model", lambda: Blur(BlurConfig()), oracle=oracle).results()
    assert {r.name: r.message for r in results if r.status not in ("passed", "skipped")} == {}
    assert [r.name for r in results if r.status == "skipped"] == ["origin", "compiles", "vmaps"]


@pytest.mark.parametrize("name", CAUGHT)
def test_a_wrong_one_is_caught_by_name(name, failures):
    cls, checks, words = CAUGHT[name]
    failed = failures("forward-model", lambda: cls(BlurConfig()), oracle=oracle)
    assert set(failed) == checks
    assert any(words in message for message in failed.values()), "\n".join(failed.values())
