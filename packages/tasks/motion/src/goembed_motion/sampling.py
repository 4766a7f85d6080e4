"""`goembed sample`: the motions that could follow one's own image, or clips that the model has not seen."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.report.figures import image_grid, to_uint8
from goembed_core.runs import Run
from goembed_image_datasets.decode import read_image
from PIL import Image

from goembed_motion import model as models
from goembed_motion.config import SampleConfig
from goembed_motion.flow import flow_colours, write_flo
from goembed_motion.pictures import clips, film, there_and_back, write_gif, write_mp4
from goembed_motion.solve import Solver

BATCH_SIZE = 64


def sample(run: Run | None, config: SampleConfig) -> Path:
    """Write flows (.flo), frames (PNG), videos (MP4, GIF) and `grid.png`; returns their folder."""
    if run is None:
        raise UserError("task=motion has no embedded model: train one, then `goembed sample runs/motion/default`")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(run.model, device)
    height, width = model.size
    if config.image is not None:
        if height != width:
            raise UserError(
                f"image={config.image}: the model's images are {height} x {width}, and one's own are square"
            )
        images = read_image(config.image.expanduser(), channels=3, resolution=height)[None]
    else:
        dataset = models.held_out(model.dataset).build()
        count = min(config.num_images, len(dataset))
        images = dataset.observations(torch.arange(count) * (len(dataset) // count)).values[:, 0]

    folder = config.out or run.samples
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}") from None
    solver = Solver(model, config.seed, BATCH_SIZE, device)
    found = solver.samples(images.to(device), config.num_samples, config.sampler)
    rows = (len(images), config.num_samples)
    videos = clips(solver, found.signal, config.num_frames).cpu().unflatten(0, rows)
    motion = found.signal.motion.cpu().unflatten(0, rows)
    for row in range(len(images)):
        for number in range(config.num_samples):
            name = f"image{row:02d}-sample{number:03d}"
            write_flo(folder / f"{name}.flo", motion[row, number])
            for index, frame in enumerate(to_uint8(videos[row, number])):
                Image.fromarray(frame).save(folder / f"{name}-frame{index:03d}.png")
        sheet = there_and_back(film(videos[row : row + 1]))
        write_mp4(folder / f"image{row:02d}.mp4", sheet, config.fps)
        write_gif(folder / f"image{row:02d}.gif", sheet, config.fps)
    largest = max(1.0, motion.norm(dim=2).max().item())
    colours = torch.cat([torch.full_like(images[:, None], torch.nan), flow_colours(motion, largest)], 1)
    grid = torch.stack([torch.cat([images[:, None], videos[:, :, -1]], 1), colours], 1).flatten(0, 1)
    labels = ["image", *(str(i + 1) for i in range(config.num_samples))]
    image_grid(grid, column_labels=labels).savefig(folder / "grid.png")
    return folder
