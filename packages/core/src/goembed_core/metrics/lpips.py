"""LPIPS v0.1 (Zhang et al. 2018): the distance of two images in a classifier's features, weighted to human judgement.

The networks are written out here; the trained weightings ("heads") are data files of the `lpips` package, which is
never imported, since it needs torchvision.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goembed_core.errors import UserError
from goembed_core.metrics.features import as_rgb
from goembed_core.metrics.images import check_images
from goembed_core.metrics.weights import data_file, fill, read_weights

URLS = {  # torchvision's ImageNet weights
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
DATA_FILES = {"alex": "lpips_alexnet/alexnet_features_lpips_v0.1.npz"}
SMALLEST_PX = {"alex": 31, "vgg": 16}  # below, the last features have no pixel
SLICE_ENDS = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class LPIPS(nn.Module):
    """`d(a, b) = Σₗ meanₕᵥ Σ_c w_lc (f̂ₗ(a) − f̂ₗ(b))²_c`, with features `f̂` of unit length (LPIPS eq. 1).

    Differentiable in both images; all parameters are frozen.

    **Arguments:**
    - `net`: `alex` (the published choice for measuring) or `vgg` (for optimising).
    - `weights`: file of the classifier's weights (npz, safetensors, or state-dict .pth, in torchvision's names).  Left
      out: the file that `GOEMBED_LPIPS_WEIGHTS` names, else `GOEMBED_DATA`'s, else torchvision's, downloaded once.
    """

    def __init__(self, net: Literal["alex", "vgg"] = "alex", weights: Path | str | None = None):
        super().__init__()
        if net not in URLS:
            raise UserError(f"LPIPS has the networks {' and '.join(URLS)}; got {net!r}")
        self.net = net
        self.features = _alexnet() if net == "alex" else _vgg16()
        self.heads = nn.ParameterList(torch.empty(channels) for channels in CHANNELS[net])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1), persistent=False)
        self._load(weights)
        self.requires_grad_(False)

    def forward(
        self, a: Float[Tensor, "batch channels height width"], b: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, " batch"]:
        """The distance of each pair of images in [-1, 1], grey or RGB."""
        check_images(a, b)
        if min(a.shape[2:]) < SMALLEST_PX[self.net]:
            raise UserError(
                f"LPIPS with {self.net!r} needs images of at least {SMALLEST_PX[self.net]} pixels a side; "
                f"got {a.shape[2]}x{a.shape[3]}: enlarge both first, and say so beside the figure"
            )
        distance = a.new_zeros(len(a))
        for head, x, y in zip(self.heads, self._activations(a), self._activations(b), strict=True):
            distance = distance + torch.einsum("c,bchw->bhw", head, (x - y).square()).mean((1, 2))
        return distance

    def _activations(self, images: Tensor) -> list[Float[Tensor, "batch channels height width"]]:
        """The unit-length features after each of the five slices."""
        x = (as_rgb(images, f"LPIPS {self.net}") - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features, 1):
            x = layer(x)
            if index in SLICE_ENDS[self.net]:
                length = (
                    x.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt()
                )  # the clamp keeps the gradient finite at 0
                found.append(x / (length + 1e-10))
        return found

    def _load(self, weights: Path | str | None) -> None:
        state, source = self._backbone(weights)
        # a whole torchvision classifier and the shared data file hold more than the features
        features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
        fill(self.features, features, f"LPIPS {self.net!r}", source)
        path = _heads_folder() / f"{self.net}.pth"
        heads = read_weights(path)
        for index, head in enumerate(self.heads):
            value = heads.get(f"lin{index}.model.1.weight")
            if value is None or value.numel() != head.numel():
                raise UserError(f"{path} does not hold the five heads of LPIPS v0.1; reinstall lpips 0.1.4 or newer")
            head.data.copy_(value.flatten())

    def _backbone(self, weights: Path | str | None) -> tuple[dict[str, Tensor], Path | str]:
        named = weights or os.environ.get("GOEMBED_LPIPS_WEIGHTS")
        path = named or (data_file(DATA_FILES[self.net]) if self.net in DATA_FILES else None)
        if path is not None:
            return read_weights(path), path
        url = URLS[self.net]
        try:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:  # no network; a file that does not match its hash
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise UserError(
                f"LPIPS {self.net!r} needs torchvision's ImageNet weights {url.rpartition('/')[2]}, which could not be "
                f"downloaded ({' '.join(str(error).split())[:120]}); fetch {url} elsewhere and put it into {folder}, "
                "or name a file (npz, safetensors, .pth) in GOEMBED_LPIPS_WEIGHTS or in the argument `weights`"
            ) from None
        return state, url


def _heads_folder() -> Path:
    """`weights/v0.1` of the installed `lpips`, found without importing it."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "LPIPS takes its trained weightings from the package lpips, which is missing: uv pip install lpips"
        )
    return Path(spec.submodule_search_locations[0]) / "weights" / "v0.1"


def _alexnet() -> nn.Sequential:
    """The features of AlexNet (Krizhevsky 2014), up to the fifth rectifier."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),
        *(nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
        *(nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


def _vgg16() -> nn.Sequential:
    """The features of VGG-16 (Simonyan and Zisserman 2015), up to the last rectifier."""
    layers: list[nn.Module] = []
    channels = 3
    for stage, (out, convolutions) in enumerate(zip(CHANNELS["vgg"], (2, 2, 3, 3, 3), strict=True)):
        if stage:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            channels = out
    return nn.Sequential(*layers)
