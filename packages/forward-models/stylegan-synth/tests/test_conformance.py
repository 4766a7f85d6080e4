"""What every forward model has to hold to."""

from goembed_core.testing import parametrize_forward_model
from goembed_stylegan_synth.config import SynthesisConfig
from goembed_stylegan_synth.synthesis import StyleGANSynthesis


@parametrize_forward_model(lambda: StyleGANSynthesis(SynthesisConfig()))
def test_conforms(check):
    check()
