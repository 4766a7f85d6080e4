"""More wrong forward models, each caught by name: views, numbers, shapes, state, settings, caches."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

REFERENCE = runpy.run_path(str(Path(__file__).with_name("reference.py")), run_name="conformance_reference")
Blur, BlurConfig, Lens, Photo, oracle = (REFERENCE[n] for n in ("Blur", "BlurConfig", "Lens", "Photo", "oracle"))

CAUGHT: dict[str, tuple[type, set[str], str]] = {}  # by the mutant's name: class, failing checks, words of a message


def mutant(*checks: str, words: str = ""):
    """A broken `Blur`, the checks that fail for it, and words that one of the messages has."""

    def add(cls: type) -> type:
        CAUGHT[cls.__name__] = cls, set(checks), words
        return cls

    return add


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


@pytest.mark.parametrize("name", CAUGHT)
def test_a_wrong_one_is_caught_by_name(name, failures):
    cls, checks, words = CAUGHT[name]
    failed = failures("forward-model", lambda: cls(BlurConfig()), oracle=oracle)
    assert set(failed) == checks
    assert any(words in message for message in failed.values()), "\n".join(failed.values())
