"""The bound: the signal of each object fitted to its source views by many steps of Adam."""

from __future__ import annotations

from typing import Any

import torch
from goembed_core.diffusion import squared_error
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import named_leaves, tree_map
from goembed_nerf_renderer.cameras import random_pixels
from goembed_triplane.model import SceneModel

from goembed_fusion.config import FitConfig

SEED = 2


def fit(config: FitConfig, forward_model: SceneModel, sources: Observations) -> Any:
    """`argmin_ζ ||O − forward(ζ, φ)||²` of each object by itself, from the origin, with the decoder as it is.

    **Arguments:**
    - `sources`: whole images of `B` objects, fitted side by side.
    """
    batch, device = len(sources.values), sources.values.device
    with torch.enable_grad():
        signal = tree_map(lambda leaf: leaf.detach().requires_grad_(), forward_model.origin(batch, device))
        optimizer = torch.optim.Adam(list(named_leaves(signal, "signal").values()), lr=config.lr, betas=(0.9, 0.99))
        random = ItemRandom(SEED, range(batch), "fit", device)
        for step in range(config.steps):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (1 - step / config.steps)
            drawn = random_pixels(sources, config.rays, random.stream(f"step {step}"))
            optimizer.zero_grad()
            squared_error(forward_model(signal, drawn.params), drawn.values).sum().backward()
            optimizer.step()
    return tree_map(torch.detach, signal)
