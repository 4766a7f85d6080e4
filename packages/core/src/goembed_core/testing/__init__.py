"""The conformance suite: what every forward model, encoder, denoiser, dataset and radiance
field must hold to.

    from goembed_core.testing import parametrize_forward_model

    @parametrize_forward_model(lambda: Blur(BlurConfig()))
    def test_conforms(check):
        check()

Every check is a named law; a failure says the law, what happened, and the likely cause.  `check_forward_model` and its
siblings do the same without pytest, and so does `goembed check forward-model NAME` for a registered plugin.
"""

from goembed_core.testing.api import (
    check_dataset,
    check_denoiser,
    check_encoder,
    check_forward_model,
    check_radiance_field,
)
from goembed_core.testing.examine import ConformanceError, Examination, Result
from goembed_core.testing.parametrize import (
    parametrize_dataset,
    parametrize_denoiser,
    parametrize_encoder,
    parametrize_forward_model,
    parametrize_radiance_field,
)
from goembed_core.traits import DatasetTraits, DenoiserTraits, EncoderTraits, ForwardModelTraits, RadianceFieldTraits

__all__ = [
    "ConformanceError",
    "DatasetTraits",
    "DenoiserTraits",
    "EncoderTraits",
    "Examination",
    "ForwardModelTraits",
    "RadianceFieldTraits",
    "Result",
    "check_dataset",
    "check_denoiser",
    "check_encoder",
    "check_forward_model",
    "check_radiance_field",
    "parametrize_dataset",
    "parametrize_denoiser",
    "parametrize_encoder",
    "parametrize_forward_model",
    "parametrize_radiance_field",
]
