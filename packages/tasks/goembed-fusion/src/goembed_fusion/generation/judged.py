"""The views of held-out objects that are given, noised and judged: one list for everything that is compared."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.protocols import Observations
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from goembed_fusion.generation.config import GOEmbedFusionConfig
from goembed_fusion.generation.model import signed
from goembed_fusion.scenes import HeldOut, Scenes, fixed_list, require_views


class Judged(NamedTuple):
    """Views of held-out objects, whole images in [-1, 1]."""

    names: list[str]
    context: Observations  # all that may be given; fewer views are the first ones
    target: Observations  # whose noise is removed
    views: Observations  # neither
    others: Observations  # as many as `views`, from elsewhere: how far true images are from true ones
    sides: Observations  # the view nearest to the first of the context, and the one farthest from it


def require_enough(config: GOEmbedFusionConfig, scenes: Scenes) -> None:
    """Raise ConfigError unless objects have the views that the evaluation asks for."""
    settings = config.evaluate
    needed = max(settings.context) + config.views.target + 2 * settings.views
    require_views(scenes, needed, "evaluate.context, views.target and twice evaluate.views together")


def judged_views(config: GOEmbedFusionConfig, scenes: Scenes, device: torch.device) -> Judged:
    """The same for every run with these numbers of views."""
    settings, noised = config.evaluate, config.views.target
    listed = fixed_list(scenes, settings.objects, max(settings.context), noised + 2 * settings.views)

    def part(views: Int[Tensor, "n v"]) -> Observations:
        return signed(scenes.views(listed.objects, views, device))

    rest = listed.targets[:, noised:]
    names = [scenes.names[int(item)] for item in listed.objects]
    return Judged(
        names,
        part(listed.sources),
        part(listed.targets[:, :noised]),
        part(rest[:, : settings.views]),
        part(rest[:, settings.views :]),
        part(sides(scenes, listed, min(settings.context), noised)),
    )


def sides(scenes: Scenes, listed: HeldOut, given: int, noised: int) -> Int[Tensor, "n 2"]:
    """Of all views but those given and noised, which is nearest to the first given, and which farthest from it.

    By the angle between cameras, as seen from the middle of the world.
    """
    directions = F.normalize(scenes.camera.camera_to_world[listed.objects, :, :3, 3], dim=-1)
    first = directions.gather(1, listed.sources[:, :1, None].expand(-1, -1, 3))
    cosine = (directions * first).sum(-1)
    taken = torch.cat([listed.sources[:, :given], listed.targets[:, :noised]], 1)
    near = cosine.scatter(1, taken, -torch.inf).argmax(1)
    far = cosine.scatter(1, taken, torch.inf).argmin(1)
    return torch.stack([near, far], 1)
