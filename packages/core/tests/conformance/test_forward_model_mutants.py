"""A right forward model passes every check; every wrong one is caught by the checks that name it."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from goembed_core.config import Config
from goembed_core.errors import UserError
from goembed_core.shapes import require_views
from goembed_core.testing import Examination, ForwardModelTraits
from torch import Tensor, nn


class Photo(NamedTuple):
    image: Tensor  # (B, 1, H, W)
    gain: Tensor  # (B,)


class Lens(NamedTuple):
    width_px: Tensor  # (B, V)
    shift_px: Tensor  # (B, V, 2), x and y


class BlurConfig(Config):
    contrast: float = 1.0
    taps: list[int] = [1, 2, 1]  # noqa: RUF012 - pydantic copies it


class Blur(nn.Module):
    """`O = gain · contrast · (A_y image A_xᵀ) + floor`: a shifted Gaussian blur, and a trained brightness."""

    conformance = ForwardModelTraits(twice_differentiable=True)
    side = 6

    def __init__(self, config: BlurConfig):
        super().__init__()
        self.config = config
        self.floor = nn.Parameter(torch.randn(1))
        self.register_buffer("contrast", torch.tensor([config.contrast]))

    def forward(self, signal, params):
        if signal.image.dim() != 4 or signal.gain.shape != signal.image.shape[:1]:
            raise UserError(
                f"image {tuple(signal.image.shape)}, gain {tuple(signal.gain.shape)}: expected (B, C, H, W), (B,)"
            )
        require_views(params, len(signal.image), width_px=(), shift_px=(2,))
        return self.observe(signal, params)

    def observe(self, signal, params):
        height, width = signal.image.shape[-2:]
        columns = self.weights(width, params.shift_px[..., 0], params.width_px)
        rows = self.weights(height, params.shift_px[..., 1], params.width_px)
        blurred = torch.einsum("bvyi,bcij,bvxj->bvcyx", rows, signal.image, columns)
        return blurred * (signal.gain[:, None] * self.contrast)[..., None, None, None] + self.floor

    def weights(self, size, shift, width):
        index = torch.arange(size, device=shift.device, dtype=shift.dtype)
        distance = index[:, None] - index - shift[..., None, None]
        return torch.softmax(-0.5 * (distance / width[..., None, None]).square(), -1)

    def example(self, batch_size, generator):
        image = torch.randn(batch_size, 1, self.side, self.side, generator=generator)
        gain = torch.rand(batch_size, generator=generator) + 0.5
        width = torch.rand(batch_size, 2, generator=generator) + 0.5
        return Photo(image, gain), Lens(width, torch.randn(batch_size, 2, 2, generator=generator))


def oracle(model, signal, params):
    """Pixel by pixel."""
    batch, channels, height, width = signal.image.shape
    views = params.width_px.shape[1]
    output = torch.zeros(batch, views, channels, height, width, dtype=signal.image.dtype)
    for b in range(batch):
        for v in range(views):
            x0, y0 = params.shift_px[b, v]
            taps = {}
            for size, shift in ((width, x0), (height, y0)):
                taps[size, float(shift)] = [
                    torch.exp(-0.5 * ((i - torch.arange(size) - shift) / params.width_px[b, v]) ** 2)
                    for i in range(size)
                ]
            for y in range(height):
                for x in range(width):
                    column, row = taps[width, float(x0)][x], taps[height, float(y0)][y]
                    seen = (signal.image[b] * torch.outer(row, column)).sum((-1, -2)) / (row.sum() * column.sum())
                    output[b, v, :, y, x] = seen * signal.gain[b] * model.config.contrast + model.floor
    return output.detach()


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


@mutant("view_consistency", "view_order", "oracle", words="the φ of one view used for all")
class FirstViewForAll(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params._replace(width_px=params.width_px[:, :1].expand_as(params.width_px)))


@mutant("view_consistency", "oracle", words="a mean or maximum over the views")
class MeanOverViews(Blur):
    def observe(self, signal, params):
        output = super().observe(signal, params)
        return output - output.mean(1, keepdim=True)


@mutant("view_consistency", "view_order", "oracle", words="such as an arange")
class ViewNumber(Blur):
    def observe(self, signal, params):
        output = super().observe(signal, params)
        return output + torch.arange(output.shape[1], device=output.device).view(-1, 1, 1, 1).to(output.dtype)


@mutant("finite_output", "oracle", words="numbers of the output are not finite for example")
class LogOfNegative(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params) + (signal.gain - 0.6).log()[:, None, None, None, None] * 0


@mutant("finite_output", "origin", "oracle", words="not finite at the origin")
class NanAtOrigin(Blur):
    def observe(self, signal, params):
        norm = signal.image.square().sum((1, 2, 3), keepdim=True).sqrt()
        return super().observe(signal._replace(image=signal.image / norm), params)

    def origin(self, batch_size, device):
        zeros = torch.zeros(batch_size, 1, self.side, self.side, device=device)
        return Photo(zeros, torch.ones(batch_size, device=device))


@mutant("origin", "oracle", words="the gradient at image has 144 of 144 numbers that are not finite")
class GradientNanAtOrigin(NanAtOrigin):
    def observe(self, signal, params):
        norm = signal.image.square().sum((1, 2, 3), keepdim=True).sqrt()
        return Blur.observe(self, signal._replace(image=signal.image + norm), params)


@mutant("origin", words="origin(4) is image (1, 1, 6, 6), gain (1,)")
class SingleOrigin(Blur):
    def origin(self, batch_size, device):
        return Photo(torch.zeros(1, 1, self.side, self.side, device=device), torch.ones(1, device=device))

    def forward(self, signal, params):
        if len(signal.image) == 1 != len(params.width_px) and not signal.image.any():
            signal = Photo(
                signal.image.expand(len(params.width_px), -1, -1, -1), signal.gain.expand(len(params.width_px))
            )
        return super().forward(signal, params)


@mutant("dtype", words="torch.float32 in, torch.float64 out")
class DoubleConstant(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params) * torch.from_numpy(np.ones(1)).to(signal.image.device)


@mutant("dtype", "gradcheck", "second_gradient", words="torch.float64 in, torch.float32 out")
class SingleCast(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params).float()


@mutant("bfloat16", words="of its root mean square, where 0.1 is allowed")
class CancelsInHalfWidth(Blur):
    def observe(self, signal, params):
        image = signal.image
        far = 1000 * torch.eye(self.side, device=image.device, dtype=image.dtype)
        shifted = image @ far - 999 * image.to((image @ far).dtype)  # a difference of large numbers
        return super().observe(signal._replace(image=shifted), params)


@mutant("observes", words="4 signals seen under 2 φ each give (2, 4, 1, 6, 6)")
class ViewsFirst(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params).transpose(0, 1)


@mutant("observes", words="give (8, 1, 6, 6)")
class Flattens(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params).flatten(0, 1)


@mutant("size_one", words="one signal: the output is (2, 6, 6)")
class Squeezes(Blur):
    side = 6

    def observe(self, signal, params):
        output = super().observe(signal, params)
        return output.squeeze() if 1 in output.shape[:2] else output


@mutant("empty_batch", words="ZeroDivisionError")
class CrashesOnEmpty(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params) * (1 / len(signal.image)) * len(signal.image)


@mutant("shape_errors", words="φ of 1 signal for 5 signals: accepted, and gave (5, 2, 1, 6, 6)")
class Broadcasts(Blur):
    def forward(self, signal, params):
        return self.observe(signal, Lens(*(leaf.expand(len(signal.image), *leaf.shape[1:]) for leaf in params)))


@mutant("shape_errors", words="signals without the dimension of the batch: the error does not say which sizes")
class WordlessError(Blur):
    def forward(self, signal, params):
        if signal.image.dim() != 4:
            raise ValueError("bad shape")
        return super().forward(signal, params)


@mutant("state_dict", "oracle", words="with the same state, another one: output differs by")
class UnsavedBuffer(Blur):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("tone", torch.randn(1), persistent=False)

    def observe(self, signal, params):
        return super().observe(signal, params) + self.tone


@mutant("state_dict", "device", words="the tensor tone is trained, but not registered")
class UnregisteredWeight(Blur):
    def __init__(self, config):
        super().__init__(config)
        self.tone = torch.zeros(1, requires_grad=True)

    def observe(self, signal, params):
        return super().observe(signal, params) + self.tone


@mutant("state_dict", "oracle", words="computed from the weights once, when it was built")
class DerivedOnce(Blur):
    def __init__(self, config):
        super().__init__(config)
        self.tone = float(self.floor.detach()) * 2

    def observe(self, signal, params):
        return super().observe(signal, params) + self.tone


@mutant("config_untouched", words="a call changed them from")
class ChangesConfig(Blur):
    def observe(self, signal, params):
        self.config.taps.append(1)
        return super().observe(signal, params)


SHARED = BlurConfig()


@mutant("config_untouched", words="a second one is built with")
class ChangesDefault(Blur):
    def __init__(self, config):
        SHARED.taps.append(1)
        super().__init__(SHARED)


class RootedConfig(BlurConfig):
    limit: float = float("inf")


@mutant("config_round_trip", words="is refused")
class UnwritableConfig(Blur):
    def __init__(self, config):
        super().__init__(RootedConfig())


@mutant("independent_calls", "batch_consistency", "view_consistency", "view_order", "signal_used", "params_used",
        words="a call with other inputs, against the first of its kind")  # fmt: skip
class CachesByShape(Blur):
    def observe(self, signal, params):
        if torch.is_grad_enabled():
            return super().observe(signal, params)
        cache = self.__dict__.setdefault("cache", {})
        key = signal.image.shape, params.width_px.shape, signal.image.dtype
        if key not in cache:
            cache[key] = super().observe(signal, params)
        return cache[key]


@mutant("independent_calls", words="new values in the same tensors")
class CachesById(Blur):
    def observe(self, signal, params):
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] is not signal.image or kept[1] is not params.shift_px or torch.is_grad_enabled():
            self.__dict__["kept"] = kept = signal.image, params.shift_px, super().observe(signal, params)
        return kept[2]


@mutant("independent_calls", words="an earlier output, after later calls")
class ReusesOutput(Blur):
    def observe(self, signal, params):
        output = super().observe(signal, params)
        kept = self.__dict__.get("kept")
        if torch.is_grad_enabled() or kept is None or kept.shape != output.shape or kept.dtype != output.dtype:
            self.__dict__["kept"] = kept = output
            return output
        return kept.copy_(output)


@mutant("params_used", "oracle", words="other values of width_px give the very same output")
class IgnoresParams(Blur):
    def observe(self, signal, params):
        return super().observe(signal, params._replace(width_px=torch.ones_like(params.width_px)))


@mutant("signal_used", "gradient", "oracle", words="no gradient arrives at gain")
class IgnoresLeaf(Blur):
    def observe(self, signal, params):
        return super().observe(signal._replace(gain=torch.ones_like(signal.gain)), params)


@mutant("memory_layout", words="`view` where `reshape` is meant")
class NeedsContiguous(Blur):
    def observe(self, signal, params):
        flat = signal.image.view(len(signal.image), self.side * self.side)
        return super().observe(signal._replace(image=flat.reshape(signal.image.shape)), params)


@mutant("example", words="two generators of one seed give two examples")
class UnseededExample(Blur):
    def example(self, batch_size, generator):
        return super().example(
            batch_size, torch.Generator().manual_seed(np.random.default_rng().integers(2**31).item())
        )


@mutant("example", words="signal of example(1) is")
class FixedBatch(Blur):
    def example(self, batch_size, generator):
        return super().example(4, generator)


@mutant("builds", words="FileNotFoundError: weights.bin (raised in __init__")
class CannotBeBuilt(Blur):
    def __init__(self, config):
        raise FileNotFoundError("weights.bin")


@mutant("builds", words="conformance = {} is a dict; expected ForwardModelTraits(...)")
class WrongTraits(Blur):
    conformance = {}  # noqa: RUF012


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
