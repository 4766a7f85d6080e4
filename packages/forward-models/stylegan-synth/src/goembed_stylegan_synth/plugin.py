"""What this package registers."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register forward model, task and converter."""
    register(
        "forward-model",
        "stylegan",
        "goembed_stylegan_synth.synthesis:StyleGANSynthesis",
        config="goembed_stylegan_synth.config:SynthesisConfig",
        summary="StyleGAN2 as synthesize(w, box)",
    )
    register(
        "task",
        "stylegan2",
        "goembed_stylegan_synth.task:StyleGAN2Training",
        config="goembed_stylegan_synth.config:StyleGAN2Config",
        presets="goembed_stylegan_synth.config:PRESETS",
        sample_config="goembed_stylegan_synth.config:SampleConfig",
        summary="train a StyleGAN2 generator, with adaptive discriminator augmentation",
    )
    register(
        "converter",
        "stylegan2",
        "goembed_stylegan_synth.convert:convert",
        summary="StyleGAN2 checkpoints (official pickles, common PyTorch port) to safetensors, executing nothing",
    )
