"""One transformer block with adaLN-zero (DiT §3.2, figure 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6


def modulated_norm(
    x: Float[Tensor, "batch tokens hidden"], shift: Float[Tensor, "batch hidden"], scale: Float[Tensor, "batch hidden"]
) -> Float[Tensor, "batch tokens hidden"]:
    """`LN(x) (1 + scale) + shift`, the normalisation having no weights of its own."""
    normed = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
    return torch.addcmul(shift[:, None], normed, 1 + scale[:, None])


def attend(
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch heads tokens dim"],
    value: Float[Tensor, "batch heads tokens dim"],
) -> Float[Tensor, "batch heads tokens dim"]:
    """`softmax(q kᵀ / √dim) v`."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    if not (half and query.device.type == "cpu"):
        return F.scaled_dot_product_attention(query, key, value)
    # On the CPU the backward pass of attention takes ten times as long in half width as in float32.
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)


class DiTBlock(nn.Module):
    """`x + g₁ attention(LN(x) (1 + a₁) + s₁)`, then `x + g₂ MLP(LN(x) (1 + a₂) + s₂)`.

    Shift `s`, scale `a` and gate `g` are linear in the condition and 0 at first: the block starts as the identity.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.num_heads = num_heads
        mlp_size = int(hidden_size * mlp_ratio)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_out = nn.Linear(hidden_size, hidden_size)
        self.mlp_in = nn.Linear(hidden_size, mlp_size)
        self.mlp_out = nn.Linear(mlp_size, hidden_size)
        for linear in (self.qkv, self.attention_out, self.mlp_in, self.mlp_out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """`condition` has been through SiLU, once for all blocks."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = torch.addcmul(x, gate1[:, None], self.attention(modulated_norm(x, shift1, scale1)))
        return torch.addcmul(x, gate2[:, None], self.mlp(modulated_norm(x, shift2, scale2)))

    def attention(self, x: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Multi-head self-attention over the tokens."""
        b, n, d = x.shape
        heads = (
            part.view(b, n, self.num_heads, d // self.num_heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        return self.attention_out(attend(*heads).transpose(1, 2).reshape(b, n, d))

    def mlp(self, x: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        """Two layers with the tanh form of GELU between."""
        return self.mlp_out(F.gelu(self.mlp_in(x), approximate="tanh"))
