"""A component that a task cannot use is refused in words when the task is made, whatever there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goembed_core.config import resolve
from goembed_core.config.base import Config
from goembed_core.config.components import component_kind
from goembed_core.errors import UserError
from goembed_core.plugins import host
from PIL import Image


def refusal(task: str, *words: str) -> str:
    """What the task says of its settings."""
    resolved = resolve(None, [f"task={task}", *words])
    with pytest.raises(UserError) as caught:
        resolved.component.load()(resolved.config)
    return str(caught.value)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of grey images, as the small tasks begin with."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(8):
        Image.new("L", (28, 28), 30 * number).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("gan_inversion", "forward_model=linear", "forward_model.name='linear': expected a forward model with img_ch"),
        (
            "gon",
            "decoder=factored dataset.path={images} test_dataset.path={images} test_dataset.split=train",
            "decoder.name='factored': expected a forward model with head, logits; this one",
        ),
        ("gon", "dataset=boxes", "dataset.name='boxes': expected a dataset with image_shape; this one has none of"),
        (
            "stylegan2",
            "dataset=sprites dataset.textures=noise",
            "dataset.name='sprites': expected a dataset with image_shape",
        ),
        ("stylegan2", "dataset.path=nowhere", "dataset: nowhere (in "),
        ("plenoptic_encoding", "dataset=boxes", "dataset=boxes: the views of all 10,000,000 objects are kept as bytes"),
        (
            "plenoptic_encoding",
            "dataset=sprites dataset.textures=noise",
            "dataset=sprites, whose φ is ClipTime: expected posed views of",
        ),
    ],
)  # fmt: skip
def test_what_a_task_cannot_use_is_refused_in_words(task, words, said, images):
    assert refusal(task, *words.format(images=images).split()).startswith(said)


def sections(model: type[Config], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The sections of settings that name a component, and its kind."""
    for name, field in model.model_fields.items():
        if kind := component_kind(field):
            yield prefix + name, kind
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from sections(field.annotation, f"{prefix}{name}.")


@pytest.mark.slow
@pytest.mark.parametrize("task", host().names("task"))
def test_every_component_is_taken_or_refused_in_words(task):
    model, refused = host().get("task", task).load_config(), []
    for section, kind in sections(model):
        for name in host().names(kind):
            try:
                resolved = resolve(None, [f"task={task}", f"{section}={name}"])
                resolved.component.load()(resolved.config)
            except UserError as error:
                refused.append(f"{section}={name}: {error}")
    assert refused or task == "posterior_check"
