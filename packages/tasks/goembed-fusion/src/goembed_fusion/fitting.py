"""The bound: the signal of each object, and a decoder of its own, fitted to its source views by many steps of Adam."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from goembed_core.diffusion import squared_error
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import named_leaves, tree_map
from goembed_nerf_renderer.cameras import random_pixels
from goembed_triplane.decoders import DecodedField
from goembed_triplane.model import SceneModel
from jaxtyping import Float
from torch import Tensor

from goembed_fusion.config import FitConfig

SEED = 2
CELLS = 16  # along each side of the box, whose neighbours are to be alike
PLACES = 256  # at which that is looked at in a step


class Fitted(NamedTuple):
    """One object's signal, and the forward model that it is a signal of."""

    signal: Any
    forward_model: SceneModel


def fit(config: FitConfig, forward_model: SceneModel, sources: Observations, start: Any) -> Fitted:
    """`argmin_{ζ, θ} ||O − forward_θ(ζ, φ)||² + smoothness · variation` of one object, from `start` and the decoder.

    **Arguments:**
    - `sources`: whole images of one object.
    - `start`: the signal that is begun with.
    """
    model, device = copy.deepcopy(forward_model), sources.values.device
    with torch.enable_grad():
        signal = tree_map(lambda leaf: leaf.detach().clone().requires_grad_(), start)
        groups = [{"params": list(named_leaves(signal, "signal").values()), "lr": config.lr}]
        if config.decoder_lr is not None:
            model.decode.requires_grad_(True)  # that of a loaded model is frozen
            groups.append({"params": list(model.decode.parameters()), "lr": config.decoder_lr})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.steps)
        random = ItemRandom(SEED, [0], "fit", device)
        for step in range(config.steps):
            drawn = random_pixels(sources, config.rays, random.stream(f"step {step}"))
            optimizer.zero_grad()
            loss = squared_error(model(signal, drawn.params), drawn.values).mean()
            if config.smoothness:
                loss = loss + config.smoothness * variation(model.decode(signal), random.stream(f"places {step}"))
            loss.backward()
            optimizer.step()
            decay.step()
    return Fitted(tree_map(torch.detach, signal), model)


def variation(field: DecodedField, random: ItemRandom) -> Float[Tensor, ""]:
    """How much opacity and colour differ, in the mean, between random places of the box and neighbours along the axes.

    **Arguments:**
    - `random`: of one item.
    """
    low, high = (torch.tensor(end, device=random.device) for end in (field.decoder.low, field.decoder.high))
    cell = (high - low) / CELLS
    places = low + (high - low - cell) * random.rand(PLACES, 3)[0]
    moved = places[:, None] + torch.cat([torch.zeros_like(cell)[None], cell.diag()])
    density, colour, _ = field(moved.reshape(1, -1, 3), None)
    opacity = 1 - torch.exp(-density * cell.mean())
    found = torch.cat([opacity[0, :, None], colour[0]], 1).unflatten(0, (-1, 4))
    return (found[:, 1:] - found[:, :1]).abs().mean()
