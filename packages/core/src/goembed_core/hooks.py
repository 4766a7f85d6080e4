"""The contract between plugins and their host: the hooks that a plugin implements, and what they are given."""

from __future__ import annotations

import inspect
from typing import Protocol, runtime_checkable

import pluggy

GROUP = "goembed"
KINDS = (
    "forward-model", "encoder", "denoiser", "dataset", "task", "feature-network", "radiance-field", "converter",
    "command", "viewable",
)  # fmt: skip

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@runtime_checkable
class Register(Protocol):
    """What a plugin's `goembed_register` is given; every reference is a string, `"module:attribute"`."""

    def __call__(
        self,
        kind: str,
        name: str,
        target: str,
        *,
        config: str | None = None,
        summary: str = "",
        presets: str | None = None,
        sample_config: str | None = None,
    ) -> None:
        """Register one component of a kind listed in `KINDS`.

        **Arguments:**
        - `target`: the class or function.
        - `config`: the frozen pydantic model that `target` is built from, in a module that does not import torch.
        - `presets`: tasks only; a dict of preset name to nested dict of settings.
        - `sample_config`: tasks only; the settings of `goembed sample`.
        """
        ...


class HookSpecs:
    """The hooks a plugin can implement."""

    @hookspec
    def goembed_register(self, register: Register) -> None:
        """Call `register` once for each component that the plugin provides."""


def signatures() -> list[str]:
    """Every hook as a plugin has to write it: `goembed_register(register)`."""
    hooks = {name: value for name, value in vars(HookSpecs).items() if name.startswith(f"{GROUP}_")}
    return [f"{name}({', '.join(list(inspect.signature(hooks[name]).parameters)[1:])})" for name in sorted(hooks)]
