"""What every encoder and denoiser has to hold to."""

from __future__ import annotations

import torch
from goembed_core.testing import parametrize_denoiser, parametrize_encoder
from goembed_core.traits import DenoiserTraits
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_pixel_aligned.config import PixelAlignedConfig, SceneDenoiserConfig
from goembed_pixel_aligned.denoiser import SceneDenoiser
from goembed_pixel_aligned.encoder import PixelAlignedEncoder
from torch import nn

NETWORK = {
    "height": 8, "width": 8, "patch_size": 4, "hidden_size": 16, "num_heads": 2, "depth": 1, "out_channels": 6,
    "head_std": 0.1,
}  # fmt: skip
CONFIG = SceneDenoiserConfig.model_validate(
    {
        "context": {"network": {**NETWORK, "in_channels": 3}},
        "target": {"network": {**NETWORK, "in_channels": 8}},
        "field": {"width": 12, "frequencies": 2, "time_size": 8},
        "renderer": {"near": 2.5, "far": 5.5, "proposal_samples": (), "samples": 4},
    }
)


UPRIGHT = SceneDenoiserConfig.model_validate(
    {
        "context": {"network": {**NETWORK, "in_channels": 3}, "upright": True},
        "target": {"network": {**NETWORK, "in_channels": 8}, "upright": True},
        "field": {"width": 12, "frequencies": 2, "time_size": 8, "surfaces": 2, "frame": "upright"},
        "renderer": {"near": 2.5, "far": 5.5, "proposal_samples": (), "samples": 4},
    }
)


class Seen(nn.Module):
    """The denoiser through a renderer: what its scenes and their estimates show, from where the target is."""

    conformance = DenoiserTraits(uses_params=True, context_is_a_set=True, bfloat16_tolerance=0.2)

    def __init__(self):
        super().__init__()
        self.denoiser = SceneDenoiser(CONFIG)
        self.config = self.denoiser.config
        self.renderer = VolumeRenderer(RendererConfig(near=2.5, far=5.5, proposal_samples=(), samples=6))
        self.example = self.denoiser.example

    def forward(self, context, noisy_target, timestep):
        scene = self.denoiser(context, noisy_target, timestep)
        seen = [self.renderer(field, noisy_target.params) for field in (scene, scene.estimate)]
        return torch.cat(seen, 1)


@parametrize_encoder(lambda: PixelAlignedEncoder(PixelAlignedConfig(network={**NETWORK, "in_channels": 3})))
def test_the_encoder_conforms(check):
    check()


@parametrize_denoiser(lambda: SceneDenoiser(UPRIGHT))
def test_the_upright_denoiser_conforms(check):
    check()


@parametrize_denoiser(lambda: SceneDenoiser(CONFIG))
def test_the_denoiser_conforms(check):
    check()


@parametrize_denoiser(Seen)
def test_what_is_seen_of_scenes_conforms(check):
    check()
