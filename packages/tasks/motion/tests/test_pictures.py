"""Clips as files that play."""

from __future__ import annotations

import av
import numpy as np
import torch
from goembed_motion.pictures import film, there_and_back, write_gif, write_mp4
from PIL import Image


def test_a_film_lays_videos_side_by_side_in_even_sizes(tmp_path):
    videos = torch.linspace(-1, 1, 6).view(1, 2, 3, 1, 1, 1).expand(1, 2, 3, 3, 9, 9)
    frames = film(videos, enlarge=3, gap=1)
    assert frames.shape == (3, 28, 56, 3)
    assert (frames[0, :27, :27] == 0).all() and (frames[2, :27, 28:55] == 255).all()
    loop = there_and_back(frames)
    assert len(loop) == 4 and (loop[3] == frames[1]).all()

    write_gif(tmp_path / "a.gif", loop, fps=10)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 4 and picture.size == (56, 28) and picture.info["duration"] == 100
    write_mp4(tmp_path / "a.mp4", loop, fps=10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec.name == "h264" and stream.average_rate == 10
    assert len(decoded) == 4 and np.abs(decoded[1].astype(int) - frames[1]).mean() < 6
