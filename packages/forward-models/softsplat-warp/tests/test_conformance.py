"""What every forward model has to hold to, under each policy for holes and against loops over pixels."""

from pathlib import Path

from goembed_core.testing import parametrize_forward_model
from goembed_softsplat_warp.config import SoftsplatWarpConfig
from goembed_softsplat_warp.model import SoftsplatWarp


def small(holes):
    return SoftsplatWarp(SoftsplatWarpConfig(height=6, width=7, holes=holes))


def slow(model, signal, params):
    import importlib.util

    spec = importlib.util.spec_from_file_location("softsplat_oracle", Path(__file__).with_name("oracle.py"))
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    return oracle.warp(*signal, params.time, model.config.holes, model.config.full_coverage)


@parametrize_forward_model(lambda: small("pull-push"), oracle=slow)
def test_conforms_with_pull_push(check):
    check()


@parametrize_forward_model(lambda: small("source"), oracle=slow)
def test_conforms_with_the_source(check):
    check()


@parametrize_forward_model(lambda: small("zero"), oracle=slow)
def test_conforms_with_zeros(check):
    check()
