"""`docs/motion.md`, executed from top to bottom at a small size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from goembed_core import cli

PAGE = Path(__file__).parent.parent / "docs" / "motion.md"
SMALL = {
    "train": ["train.mixed_precision=no",
              "dataset.textures=noise", "denoiser.hidden_size=16", "denoiser.num_heads=2", "denoiser.depth=1",
              "train.images=64", "train.log_every_nimg=64", "train.preview_every_nimg=64", "evaluate.contexts=2",
              "evaluate.samples=16", "evaluate.steps=[]", "sampler.num_steps=2"],
    "sample": ["sampler.num_steps=2", "num_frames=3"],
}  # fmt: skip


def test_the_page_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert [language for language, _ in blocks] == ["python", "sh", "python", "python", "sh"]
    namespace: dict = {}
    for language, text in blocks:
        if language == "python":
            exec(text, namespace)
            continue
        program, command, *settings = shlex.split(text)
        assert program == "goembed" and cli.main([command, *settings, *SMALL[command]]) == 0
    assert namespace["pictures"].shape == (16, 3, 32, 32) and namespace["error_px"].shape == (1, 16)
    assert (tmp_path / "runs/motion/default/report.html").exists()
    assert {"image00.mp4", "image01.gif", "image00-sample003.flo"} <= {
        path.name for path in (tmp_path / "runs/motion/default/samples").iterdir()
    }
