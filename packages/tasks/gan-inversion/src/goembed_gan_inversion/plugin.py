"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the task."""
    register(
        "task",
        "gan_inversion",
        "goembed_gan_inversion.task:GANInversion",
        config="goembed_gan_inversion.config:GANInversionConfig",
        presets="goembed_gan_inversion.config:PRESETS",
        sample_config="goembed_gan_inversion.config:SampleConfig",
        summary="the images behind a patch: sample StyleGAN2 latents that agree with it",
    )
