"""The base of every model of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Settings that cannot be changed after they were checked; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
