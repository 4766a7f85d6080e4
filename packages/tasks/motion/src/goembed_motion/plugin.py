"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the task."""
    register(
        "task",
        "motion",
        "goembed_motion.task:Motion",
        config="goembed_motion.config:MotionConfig",
        presets="goembed_motion.config:PRESETS",
        sample_config="goembed_motion.config:SampleConfig",
        summary="the motions that could follow a single image",
    )
