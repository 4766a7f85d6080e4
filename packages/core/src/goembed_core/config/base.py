"""The base of every model of settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

MAX_PATH_BYTES, MAX_NAME_BYTES = 4096, 255  # what common systems take
MAX_INT = 2**63 - 1  # what torch, NumPy and safetensors can hold


class Config(BaseModel):
    """Settings that cannot be changed after they were checked; an unknown key is an error, and so are nan and inf.

    A field that may be infinite says so: `Field(allow_inf_nan=True)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_usable(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if not (isinstance(value, Mapping) and _is_section(annotation)):  # a section has its own model
            _check(value, set(_plain_types(annotation)))
        return value


def _check(value: Any, types: set[Any]) -> None:
    """Refuse what pydantic takes for a number, a path or a text, and nothing can use."""
    number = any(kind in (int, float) or type(kind) is int for kind in types)  # a choice is among its values
    if isinstance(value, bool) and number and bool not in types:
        raise ValueError(f"expected a number, not {str(value).lower()}")
    if isinstance(value, str) and int in types and str not in types:  # which pydantic reads as a number
        with suppress(ValueError):
            value = int(value)
    if isinstance(value, int) and abs(value) > MAX_INT and float not in types:
        raise ValueError(f"expected a whole number of at most {MAX_INT:.2e}")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character, which no text or path can have")
    if isinstance(value, str | Path) and Path in types and str not in types:
        if value == "":
            raise ValueError("expected a path, got an empty text")
        encoded = os.fsencode(value)
        if len(encoded) > MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES:
            raise ValueError(
                f"expected a path of at most {MAX_PATH_BYTES} bytes, and no more than {MAX_NAME_BYTES} between two '/'"
            )
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            _check(item, types)


def _is_section(annotation: Any) -> bool:
    candidates = (annotation, *get_args(annotation))
    return any(isinstance(candidate, type) and issubclass(candidate, BaseModel) for candidate in candidates)


def _plain_types(annotation: Any) -> list[Any]:
    """`[tuple, int, float]` of `tuple[int, float]`: every type that an annotation is made of; a choice is any type."""
    arguments = get_args(annotation)
    if not arguments:
        return [annotation]
    return [found for argument in arguments for found in _plain_types(argument)]
