"""What a diffusion transformer is made of; importable without torch."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from goembed_core.config import Config
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class DiTSize(NamedTuple):
    """One row of DiT table 1."""

    hidden_size: int
    depth: int
    num_heads: int


DIT_SIZES = {
    "S": DiTSize(hidden_size=384, depth=12, num_heads=6),
    "B": DiTSize(hidden_size=768, depth=12, num_heads=12),
    "L": DiTSize(hidden_size=1024, depth=24, num_heads=16),
    "XL": DiTSize(hidden_size=1152, depth=28, num_heads=16),
}

HEAD_SIZES = {  # the fields that each head needs
    "pixels": ("out_channels",),
    "vector": ("vector_dim",),
    "planes": ("num_planes", "plane_channels", "plane_resolution"),
}


class DiTConfig(Config):
    """A diffusion transformer: what it sees, how large it is, and what its head makes of the tokens."""

    in_channels: PositiveInt = Field(description="channels of the input: context and noisy target together")
    height: PositiveInt = Field(description="height of the input in pixels")
    width: PositiveInt = Field(description="width of the input in pixels")
    patch_size: PositiveInt = Field(default=8, description="side of the square of pixels that becomes one token")

    size: Literal["S", "B", "L", "XL"] | None = Field(
        default=None, description="shorthand for hidden_size, depth and num_heads of DiT table 1"
    )
    hidden_size: PositiveInt = Field(default=192, description="numbers in a token; a multiple of 4 and of num_heads")
    depth: PositiveInt = Field(default=4, description="number of transformer blocks")
    num_heads: PositiveInt = Field(default=3, description="attention heads per block")
    mlp_ratio: PositiveFloat = Field(default=4.0, description="hidden size of a block's MLP over hidden_size")
    frequency_dim: PositiveInt = Field(default=256, description="sines and cosines that describe the timestep; even")
    condition_dim: NonNegativeInt = Field(
        default=0, description="size of a further vector added to the time embedding; 0: none"
    )
    checkpoint_blocks: bool = Field(
        default=False, description="recompute each block in the backward pass: less memory, a third more time"
    )

    head: Literal["pixels", "vector", "planes"] = Field(default="pixels", description="what the tokens become")
    head_std: NonNegativeFloat = Field(
        default=0.0, description="standard deviation of the head's first weights; 0: the network starts by giving zeros"
    )
    out_channels: PositiveInt | None = Field(default=None, description="head=pixels: channels of the output image")
    vector_dim: PositiveInt | None = Field(default=None, description="head=vector: size of the output vector")
    num_planes: PositiveInt | None = Field(default=None, description="head=planes: number of planes")
    plane_channels: PositiveInt | None = Field(default=None, description="head=planes: channels of a plane")
    plane_resolution: PositiveInt | None = Field(default=None, description="head=planes: side of a plane in texels")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.height // self.patch_size, self.width // self.patch_size

    @model_validator(mode="before")
    @classmethod
    def _expand_size(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("size") not in tuple(DIT_SIZES):
            return given
        expanded = DIT_SIZES[given["size"]]._asdict()
        for name, value in expanded.items():
            if given.get(name, value) != value:
                raise ValueError(
                    f"size={given['size']} means {name}={value}, but {name}={given[name]} is given too: leave one out"
                )
        return given | expanded

    @model_validator(mode="after")
    def _check(self) -> DiTConfig:
        for name in ("height", "width"):
            if getattr(self, name) % self.patch_size:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not a multiple of patch_size={self.patch_size}: "
                    f"choose a patch_size that divides height={self.height} and width={self.width}"
                )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}: "
                "every head takes an equal part of a token"
            )
        if self.hidden_size % 4:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of 4: "
                "the position embedding is a sine and a cosine of x and of y"
            )
        if self.hidden_size * self.mlp_ratio < 1:
            raise ValueError(
                f"mlp_ratio={self.mlp_ratio} leaves nothing of hidden_size={self.hidden_size}: choose a larger one"
            )
        if self.frequency_dim % 2:
            raise ValueError(f"frequency_dim={self.frequency_dim} is odd: it counts sines and as many cosines")
        self._check_head()
        return self

    def _check_head(self) -> None:
        for head, names in HEAD_SIZES.items():
            for name in names:
                value = getattr(self, name)
                if head == self.head and value is None:
                    raise ValueError(f"head={self.head} needs {' and '.join(names)}: {name} is not given")
                if head != self.head and value is not None:
                    raise ValueError(
                        f"{name}={value} belongs to head={head}, but the head is {self.head}: "
                        f"leave {name} out or set head={head}"
                    )
        if self.plane_resolution is not None:
            for side, count in zip(("height", "width"), self.grid, strict=True):
                if self.plane_resolution % count:
                    raise ValueError(
                        f"plane_resolution={self.plane_resolution} is not a multiple of the {count} tokens along the "
                        f"{side} ({side}/patch_size): every token makes an equal part of a plane"
                    )
