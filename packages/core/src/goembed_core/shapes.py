"""Shape errors in words, for what every forward model, encoder and denoiser is given."""

from __future__ import annotations

from typing import Any

from goembed_core.errors import UserError
from goembed_core.trees import named_leaves


def require_views(params: Any, num_signals: int, **shapes: tuple[int, ...]) -> int:
    """The number of views of `φ`, once its leaves are known to be `(num_signals, views, ...)`; 0 without leaves.

    **Arguments:**
    - `shapes`: what follows `(num_signals, views)` in the shape of a leaf, by the leaf's name; unchecked if not given.

    **Raises:** UserError, which names the leaf, its shape and the one expected.
    """
    views = None
    for name, leaf in named_leaves(params, "params").items():
        shape = tuple(leaf.shape)
        rest = shapes.get(name)
        ranks = leaf.dim() >= 2 if rest is None else shape[2:] == rest and leaf.dim() == 2 + len(rest)
        if not ranks or shape[0] != num_signals or shape[1] != (shape[1] if views is None else views):
            expected = [str(num_signals), "views" if views is None else str(views)]
            expected += ["..."] if rest is None else map(str, rest)
            raise UserError(
                f"φ has a leaf {name!r} of shape {shape}, expected ({', '.join(expected)}): one per signal and view"
            )
        views = shape[1]
    return views or 0
