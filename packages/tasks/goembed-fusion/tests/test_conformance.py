"""What every encoder has to hold to."""

import torch
from goembed_core import plugins
from goembed_core.testing import parametrize_denoiser, parametrize_encoder

UNUSED = {"gradient_to_weights": "the decoder is trained with the encoder, but looks at signals, not at views"}
RENDERER = {"samples": 4, "view_dependent": False}


def unprojection(name, **settings):
    return plugins.build(
        "encoder", "unprojection", {"forward_model": {"name": name, "renderer": RENDERER, "resolution": 4, **settings}}
    )


@parametrize_encoder(lambda: unprojection("voxels", channels=3), expected_failures=UNUSED)
def test_unprojection_into_voxels_conforms(check):
    check()


@parametrize_encoder(lambda: unprojection("triplane", channels=3), expected_failures=UNUSED)
def test_unprojection_into_a_triplane_conforms(check):
    check()


@parametrize_encoder(lambda: unprojection("factored", channels=2), expected_failures=UNUSED)
def test_unprojection_into_factors_conforms(check):
    check()


def transformer(encoder, unpatch):
    model = {"name": "triplane", "renderer": RENDERER, "resolution": 8, "channels": 3}
    settings = {"patch_size": 2, "hidden_size": 8, "depth": 1, "num_heads": 2, "unpatch": unpatch}
    network = plugins.build(
        "encoder", "plane-transformer", {"encoder": {"name": encoder, "forward_model": model}, **settings}
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # at first it adds nothing
        for weights in [*network.network.parameters(), *(network.mix or network.network).parameters()]:
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network


@parametrize_encoder(lambda: transformer("goembed", "convolutional"))
def test_a_transformer_behind_gradients_conforms(check):
    check()


@parametrize_encoder(lambda: transformer("goembed", "overlapping"))
def test_a_transformer_whose_patches_overlap_conforms(check):
    check()


@parametrize_encoder(lambda: transformer("unprojection", "linear"), expected_failures=UNUSED)
def test_a_transformer_behind_unprojection_conforms(check):
    check()


def denoiser(unpatch):
    model = {"name": "triplane", "renderer": RENDERER, "resolution": 8, "channels": 3}
    encoder = {"name": "goembed", "forward_model": model, "timesteps": 1000}
    settings = {"patch_size": 2, "hidden_size": 8, "depth": 1, "num_heads": 2, "unpatch": unpatch, "width": 6}
    network = plugins.build("denoiser", "plane-denoiser", {"encoder": encoder, **settings})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # at first it adds nothing, and the scale does not depend on the time
        for weights in [*network.network.parameters(), *network.encoder.scale.of_time.parameters()]:
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network


@parametrize_denoiser(lambda: denoiser("convolutional"))
def test_a_denoiser_of_planes_conforms(check):
    check()


@parametrize_denoiser(lambda: denoiser("overlapping"))
def test_a_denoiser_of_planes_that_overlap_conforms(check):
    check()


def voxel_denoiser():
    model = {"name": "voxels", "renderer": RENDERER, "resolution": 4, "channels": 3}
    settings = {"patch_size": 2, "hidden_size": 8, "depth": 1, "num_heads": 2, "width": 4}
    network = plugins.build(
        "denoiser", "voxel-denoiser", {"encoder": {"name": "goembed", "forward_model": model}, **settings}
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # at first it adds nothing, and knows no time
        for weights in [*network.network.parameters(), *network.time.parameters()]:
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network


@parametrize_denoiser(voxel_denoiser)
def test_a_denoiser_of_voxels_conforms(check):
    check()


def voxel_transformer(encoder):
    model = {"name": "voxels", "renderer": RENDERER, "resolution": 4, "channels": 3}
    settings = {"patch_size": 2, "hidden_size": 8, "depth": 1, "num_heads": 2, "width": 4}
    network = plugins.build(
        "encoder", "voxel-transformer", {"encoder": {"name": encoder, "forward_model": model}, **settings}
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # at first it adds nothing
        for weights in (*network.network.blocks.parameters(), *network.network.last.parameters()):
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network


@parametrize_encoder(lambda: voxel_transformer("goembed"))
def test_a_transformer_on_voxels_behind_gradients_conforms(check):
    check()


@parametrize_encoder(lambda: voxel_transformer("unprojection"), expected_failures=UNUSED)
def test_a_transformer_on_voxels_behind_unprojection_conforms(check):
    check()
