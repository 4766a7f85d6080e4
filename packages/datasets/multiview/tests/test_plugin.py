"""What the package registers, and that listing it costs no import of torch."""

import subprocess
import sys

from goembed_core import plugins
from goembed_core.first_party import FIRST_PARTY
from goembed_multiview_datasets import config
from goembed_multiview_datasets.scenes import SceneDataset


def test_settings_and_registration_do_not_import_torch():
    code = (
        "import sys, goembed_multiview_datasets, goembed_multiview_datasets.plugin, goembed_multiview_datasets.config\n"
        "heavy = {'torch', 'PIL', 'numpy', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_components_are_built_by_name(tmp_path, room):
    room.transforms(tmp_path, room.shots(3))
    settings = {"path": str(tmp_path), "split": "all", "size": [6, 4]}
    scenes = plugins.build("dataset", "blender", settings)
    assert isinstance(scenes, SceneDataset) and scenes[0].images.shape == (3, 3, 4, 6)
    configs = {
        "blender": config.BlenderConfig,
        "llff": config.LlffConfig,
        "co3d": config.Co3dConfig,
        "realestate10k": config.RealEstateConfig,
        "omniobject3d": config.OmniObjectConfig,
        "srn": config.SrnConfig,
        "boxes": config.BoxesConfig,
    }
    assert {name: plugins.get("dataset", name).load_config() for name in configs} == configs
    assert all(FIRST_PARTY["dataset", name] == "goembed-multiview-datasets" for name in configs)
