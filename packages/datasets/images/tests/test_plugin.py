"""What the package registers, and that listing it costs no import of torch."""

import subprocess
import sys

import pytest
from goembed_core import plugins
from goembed_image_datasets.classifier import FashionClassifier
from goembed_image_datasets.config import FashionClassifierConfig, ImagesConfig
from goembed_image_datasets.images import ImageDataset
from pydantic import ValidationError


def test_settings_and_registration_do_not_import_torch():
    code = (
        "import sys, goembed_image_datasets, goembed_image_datasets.plugin, goembed_image_datasets.config\n"
        "heavy = {'torch', 'PIL', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_components_are_built_by_name(folder):
    dataset = plugins.build("dataset", "images", {"path": str(folder), "resolution": 8, "channels": 1})
    assert isinstance(dataset, ImageDataset) and dataset.image_shape == (1, 8, 8)
    assert isinstance(plugins.build("feature-network", "fashion-classifier"), FashionClassifier)


def test_registered_configs():
    assert plugins.get("dataset", "images").load_config() is ImagesConfig
    assert plugins.get("feature-network", "fashion-classifier").load_config() is FashionClassifierConfig


@pytest.mark.parametrize("bad", [{"channels": 2}, {"fit": "stretch"}, {"resolution": 0}, {"pth": "x"}])
def test_settings_that_cannot_be(bad):
    with pytest.raises(ValidationError):
        ImagesConfig(**bad)
