"""`goembed sample`: the images that may lie behind a patch of one's own image, or of fresh generator images."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.report.figures import image_grid, to_uint8
from goembed_core.runs import Run
from goembed_core.trees import repeat_items
from goembed_image_datasets.decode import read_image
from goembed_stylegan_synth.boxes import PatchBox
from PIL import Image
from safetensors.torch import save_file

from goembed_gan_inversion import model as models
from goembed_gan_inversion.config import SampleConfig
from goembed_gan_inversion.pictures import patch_picture
from goembed_gan_inversion.problem import make_context
from goembed_gan_inversion.solve import Solver

BATCH_SIZE = 64


def sample(run: Run | None, config: SampleConfig) -> Path:
    """Write `grid.png`, every sample as PNG, and `latents.safetensors`; returns their folder."""
    image = None if config.image is None else config.image.expanduser()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(None if run is None else run.model, device)
    solver = Solver(model, config.seed, BATCH_SIZE, device)
    channels, side = model.forward_model.img_channels, model.forward_model.resolution
    box = _pixels_to_box(config.box, side) if config.box is not None else None
    if image is None:
        scenes = solver.scenes(config.num_images, "sample scenes")
        images = scenes.target.values[:, 0]
        context = scenes.context if box is None else make_context(images, _repeat(box, len(images), device))
    else:
        if box is None:
            hint = f"box=x,y,width,height in pixels of {side} x {side}"
            raise UserError(f"image={image}: say which patch is visible, {hint}")
        images = read_image(image, channels=channels, resolution=side)[None].to(device)
        context = make_context(images, _repeat(box, 1, device))

    found = solver.samples(context, config.num_samples, config.sampler)
    found = solver.refine(found, repeat_items(context, config.num_samples), config.refine)
    samples = found.images.unflatten(0, (len(images), config.num_samples))

    folder = config.out or (run.samples if run is not None else Path("samples"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}") from None
    columns = [patch_picture(context)[:, None], images[:, None], samples]
    labels = ["patch", "image", *[str(i + 1) for i in range(config.num_samples)]]
    image_grid(torch.cat(columns, 1), column_labels=labels).savefig(folder / "grid.png")
    for row, pictures in enumerate(to_uint8(samples)):
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"image{row:02d}-sample{number:03d}.png")
    save_file({"w": found.latent.contiguous().cpu()}, folder / "latents.safetensors")
    return folder


def _pixels_to_box(box: tuple[int, int, int, int], side: int) -> tuple[float, float, float, float]:
    x, y, width, height = box
    if x + width > side or y + height > side:
        raise UserError(
            f"box={x},{y},{width},{height} reaches ({x + width}, {y + height}), outside the image of {side} x {side}; "
            "x + width and y + height may be at most that"
        )
    return x / side, y / side, width / side, height / side


def _repeat(box: tuple[float, float, float, float], count: int, device: torch.device) -> PatchBox:
    return PatchBox(*(torch.full((count, 1), value, device=device) for value in box))
