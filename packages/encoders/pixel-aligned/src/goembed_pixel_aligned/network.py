"""The weights of a field, and how the timestep enters into them."""

from __future__ import annotations

import torch
from goembed_core.precision import at_least_float32
from goembed_dit.embeddings import TimeEmbedding
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_pixel_aligned.config import FieldConfig
from goembed_pixel_aligned.embedding import encoded_size
from goembed_pixel_aligned.features import Features
from goembed_pixel_aligned.field import Block, PixelAlignedField, Units, camera_frame, upright_frame

FREQUENCY_DIM = 256


class FieldNetwork(nn.Module):
    """Features of views to a radiance field (pixelNeRF, Yu et al. 2021, with DFM's conditioning on the timestep).

    Features are projected to the width of the network once a pixel, not once a point.  Before the mean over the views
    each has its own timestep, behind it that of the last view, which is the noisy target.

    With `code_cells` a code of the whole image takes part in that, and adds to the weights that read positions.  So
    what is true of a whole image, as where a thing ends behind what is seen, multiplies places; layers of sums find it
    slowly.  The code has weights for every cell of the image: a mean over the image loses where something lies.

    With `surfaces` the features of a pixel tell depths as well, and points are placed behind each: a step of density is
    then the same function wherever it is, and not one that the layers make anew for every depth.

    **Arguments:**
    - `feature_channels`: of the maps.
    - `extra`: features that the field has beside its colour.
    - `corrects`: its numbers are added to those of another field of the same width, whose last layer it reads beside
      the mean over its views; training begins at 0.
    """

    def __init__(self, config: FieldConfig, feature_channels: int, extra: int = 0, corrects: bool = False):
        super().__init__()
        self.config = config
        width, encoded = config.width, encoded_size(config.frequencies)
        surfaces, distance = config.surfaces, encoded_size(config.frequencies, 1)
        self.project = nn.Conv2d(feature_channels, width + surfaces, 1)
        self.position = nn.Parameter(torch.randn(encoded, width) * encoded**-0.5)
        self.behind = None
        if surfaces:
            self.behind = nn.Parameter(torch.randn(surfaces, distance, width) * (encoded + surfaces * distance) ** -0.5)
            with torch.no_grad():
                self.project.weight[width:] *= 0.3
                self.project.bias[width:] = config.surface_spread * (2 * (torch.arange(surfaces) + 0.5) / surfaces - 1)
        self.blocks = nn.ModuleList(ModulatedBlock(config) for _ in range(config.view_blocks + config.blocks))
        gates = int(config.pooling == "weighted")
        self.gate = nn.Parameter(torch.zeros(width, gates)) if gates else None
        self.gate_bias = nn.Linear(config.time_size, gates, bias=False) if gates else None  # a softmax follows
        if self.gate_bias is not None:
            nn.init.zeros_(self.gate_bias.weight)
        self.beside = nn.Parameter(torch.randn(width, width) * width**-0.5) if corrects else None
        self.out = nn.Linear(width, 4 + extra)
        nn.init.normal_(self.out.weight, std=0.0 if corrects else 0.5 * width**-0.5)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[0] = 0.0 if corrects else config.density_bias
        self.time_embedding = TimeEmbedding(FREQUENCY_DIM, config.time_size)
        cells = config.code_cells
        self.image_code = nn.Linear(feature_channels * cells**2, config.time_size) if cells else None
        self.place_code = nn.Linear(config.time_size, encoded * width) if cells else None
        if self.place_code is not None:
            nn.init.zeros_(self.place_code.weight)
            nn.init.zeros_(self.place_code.bias)

    def forward(self, features: Features, timestep: Num[Tensor, "batch views"]) -> PixelAlignedField:
        """The field; cameras are kept as they are."""
        batch, views = features.maps.shape[:2]
        maps = self.project(features.maps.flatten(0, 1)).unflatten(0, (batch, views))
        time = self.time_embedding(timestep.flatten()).unflatten(0, (batch, views))
        each, all_views = time, time[:, -1:]
        position = self.position.expand(batch, views, *self.position.shape)
        if self.image_code is not None:
            code = self._code(features.maps)
            each, all_views = time + code, all_views + code.mean(1, keepdim=True)
            position = position + self.place_code(F.silu(each)).unflatten(-1, self.position.shape)
        each, all_views = F.silu(each), F.silu(all_views)
        early = self.config.view_blocks
        blocks = tuple(block(each if i < early else all_views) for i, block in enumerate(self.blocks))

        def of_each(weight: Tensor) -> Tensor:
            return weight.expand(batch, *weight.shape)

        def constant(value: float) -> Tensor:
            return torch.full((batch,), value, dtype=self.position.dtype, device=self.position.device)

        behind = self.behind
        if behind is None:
            behind = self.position.new_zeros(0, encoded_size(self.config.frequencies, 1), self.config.width)
        gate, gate_bias = self.position.new_zeros(self.config.width, 0), each.new_zeros(batch, views, 0)
        if self.gate is not None:
            gate, gate_bias = self.gate, self.gate_bias(each)
        beside = self.position.new_zeros(0, self.config.width) if self.beside is None else self.beside
        camera = features.camera
        upright = self.config.frame == "upright"
        frame = upright_frame(camera) if upright else camera_frame(camera, self.config.middle)
        names = ("middle", "first_frequency", "surface_frequency", "density_scale", "density_bias")
        units = Units(*(constant(getattr(self.config, name)) for name in names))
        return PixelAlignedField(
            features=features._replace(maps=maps),
            frame=frame,
            position=position,
            behind=behind.expand(batch, views, *behind.shape),
            view_blocks=blocks[:early],
            gate=gate.expand(batch, views, *gate.shape),
            gate_bias=gate_bias[:, :, None],
            beside=of_each(beside),
            blocks=blocks[early:],
            out=of_each(self.out.weight.mT),
            out_bias=of_each(self.out.bias[None]),
            units=units,
        )

    def _code(self, maps: Float[Tensor, "batch views c height width"]) -> Float[Tensor, "batch views time"]:
        """What a whole image says, linear in the means over its cells."""
        cells = F.adaptive_avg_pool2d(at_least_float32(maps).flatten(0, 1), self.config.code_cells)
        return self.image_code(cells.flatten(1)).unflatten(0, maps.shape[:2])


class ModulatedBlock(nn.Module):
    """Makes a `Block`: the timestep's scale and shift act on its hidden layer, and so on `W₁` alone."""

    def __init__(self, config: FieldConfig):
        super().__init__()
        width = config.width
        self.first = nn.Parameter(torch.randn(width, width) * (2 / width) ** 0.5)
        self.second = nn.Parameter(torch.zeros(width, width))
        self.modulation = nn.Linear(config.time_size, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, time: Float[Tensor, "batch views time"]) -> Block:
        """`(x W₁) (1 + scale) + shift = x [W₁ (1 + scale)] + shift`."""
        scale, shift = self.modulation(time)[:, :, None].to(self.first.dtype).chunk(2, -1)
        return Block(self.first * (1 + scale), shift, self.second.expand(*time.shape[:2], *self.second.shape))
