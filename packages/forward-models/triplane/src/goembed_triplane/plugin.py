"""What this package registers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl

KNOWN = {
    "triplane": ("Triplane", "three planes of features"),
    "voxels": ("Voxels", "a dense grid of features"),
    "factored": ("Factored", "planes and the lines across them, multiplied or added"),
    "siren": ("Siren", "the weights of a network of sines"),
}


@hookimpl
def goembed_register(register: Register) -> None:
    """Register each representation, as a forward model and as a field of one scene."""
    for name, (config, summary) in KNOWN.items():
        register(
            "forward-model",
            name,
            "goembed_triplane.model:SceneModel",
            config=f"goembed_triplane.config:{config}ModelConfig",
            summary=f"{summary}, decoded to a radiance field and rendered",
        )
        register(
            "radiance-field",
            name,
            "goembed_triplane.learned:LearnedField",
            config=f"goembed_triplane.config:{config}FieldConfig",
            summary=f"{summary}, with a decoder, fitted to one scene",
        )
