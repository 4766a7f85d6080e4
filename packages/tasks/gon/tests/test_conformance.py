"""What every forward model and every encoder has to hold to."""

from goembed_core.testing import parametrize_encoder, parametrize_forward_model
from goembed_core.traits import EncoderTraits
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed
from goembed_gon.baseline import ImageEncoder
from goembed_gon.config import ImageDecoderConfig, ImageEncoderConfig, SirenDecoderConfig
from goembed_gon.decoders import ImageDecoder, SirenDecoder


@parametrize_forward_model(lambda: ImageDecoder(ImageDecoderConfig(latent=6, width=2)))
def test_the_decoder_of_images_conforms(check):
    check()


@parametrize_forward_model(lambda: SirenDecoder(SirenDecoderConfig(latent=6, hidden_size=8, resolution=8)))
def test_the_decoder_of_sines_conforms(check):
    check()


@parametrize_encoder(lambda: ImageEncoder(ImageEncoderConfig(latent=6, width=2)))
def test_the_encoder_of_the_baseline_conforms(check):
    check()


# An image is seen once: there is no set of views.
@parametrize_encoder(
    lambda: GOEmbed(ImageDecoder(ImageDecoderConfig(latent=6, width=2)), EncodingConfig(steps=2)),
    traits=EncoderTraits(uses_params=False),
)
def test_a_gradient_origin_network_conforms(check):
    check()
