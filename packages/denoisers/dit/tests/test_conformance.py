"""What every denoiser has to hold to, with each head."""

from goembed_core.testing import parametrize_denoiser
from goembed_dit.config import DiTConfig
from goembed_dit.denoiser import DiTDenoiser

TINY = {"in_channels": 6, "height": 8, "width": 16, "patch_size": 4, "hidden_size": 16, "depth": 2, "num_heads": 2}


@parametrize_denoiser(lambda: DiTDenoiser(DiTConfig(**TINY, out_channels=3)))
def test_pixels_conform(check):
    check()


@parametrize_denoiser(lambda: DiTDenoiser(DiTConfig(**TINY, head="vector", vector_dim=5)))
def test_a_vector_conforms(check):
    check()


@parametrize_denoiser(
    lambda: DiTDenoiser(DiTConfig(**TINY, head="planes", num_planes=3, plane_channels=2, plane_resolution=8))
)
def test_planes_conform(check):
    check()
