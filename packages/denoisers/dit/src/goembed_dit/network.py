"""The diffusion transformer (Peebles & Xie 2023): image and timestep in; image, vector or planes out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from goembed_dit.block import DiTBlock
from goembed_dit.config import DiTConfig
from goembed_dit.embeddings import PatchEmbedding, TimeEmbedding, position_embedding
from goembed_dit.heads import HEADS


class DiT(nn.Module):
    """`head(blocks(patches(x) + positions, c), c)` with `c = SiLU(time(t) + W condition)`; zeros at first, or small."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config.in_channels, config.patch_size, config.hidden_size)
        self.time_embedding = TimeEmbedding(config.frequency_dim, config.hidden_size)
        self.condition_embedding = (
            nn.Linear(config.condition_dim, config.hidden_size) if config.condition_dim > 0 else None
        )
        self.blocks = nn.ModuleList(
            DiTBlock(config.hidden_size, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.head = HEADS[config.head](config)
        self.register_buffer("positions", position_embedding(*config.grid, config.hidden_size), persistent=False)

    def forward(
        self,
        image: Float[Tensor, "batch channels height width"],
        timestep: Num[Tensor, " batch"],
        condition: Float[Tensor, "batch condition_dim"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """The head's output.

        **Arguments:**
        - `image`: what is seen, `(B, in_channels, height, width)`.
        - `timestep`: one per item, integer or fractional; not differentiable when it is an integer.
        - `condition`: a further vector per item, when the configuration has a `condition_dim`.
        """
        self.check(image, timestep, condition)
        c = self.time_embedding(timestep)
        if self.condition_embedding is not None:
            c = c + self.condition_embedding(condition)
        c = F.silu(c)
        tokens = self.patch_embedding(image) + self.positions
        for block in self.blocks:
            if self.config.checkpoint_blocks and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, c, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens, c)
        return self.head(tokens, c)

    def check(self, image: Tensor, timestep: Tensor, condition: Tensor | None) -> None:
        """Say in words what does not fit this network."""
        expected = (self.config.in_channels, self.config.height, self.config.width)
        if image.dim() != 4 or tuple(image.shape[1:]) != expected:
            raise UserError(
                f"the DiT was given an input of shape {tuple(image.shape)}, but is configured for (batch, "
                f"in_channels={expected[0]}, height={expected[1]}, width={expected[2]}): change one or the other"
            )
        if timestep.shape != image.shape[:1]:
            raise UserError(
                f"timestep has shape {tuple(timestep.shape)}, expected ({len(image)},): one timestep per item"
            )
        dim = self.config.condition_dim
        if dim == 0 and condition is not None:
            raise UserError(
                f"a condition of shape {tuple(condition.shape)} was given, but condition_dim=0: "
                "set condition_dim to its size"
            )
        if dim > 0 and (condition is None or tuple(condition.shape) != (len(image), dim)):
            given = "none was given" if condition is None else f"one of shape {tuple(condition.shape)} was given"
            raise UserError(f"condition_dim={dim} expects a condition of shape ({len(image)}, {dim}), but {given}")
