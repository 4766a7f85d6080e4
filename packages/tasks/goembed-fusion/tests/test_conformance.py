"""What every encoder has to hold to."""

from goembed_core import plugins
from goembed_core.testing import parametrize_encoder

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
