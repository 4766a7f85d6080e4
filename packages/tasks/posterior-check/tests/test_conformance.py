"""What every forward model and every denoiser has to hold to."""

from goembed_core.testing import parametrize_denoiser, parametrize_forward_model
from goembed_posterior_check.config import LinearConfig, ProjectionMLPConfig
from goembed_posterior_check.linear import LinearForward
from goembed_posterior_check.mlp import ProjectionMLP


@parametrize_forward_model(lambda: LinearForward(LinearConfig(dim=4, observed=2)))
def test_projections_conform(check):
    check()


@parametrize_denoiser(lambda: ProjectionMLP(ProjectionMLPConfig(dim=3, hidden_size=16, depth=1)))
def test_the_network_conforms(check):
    check()
