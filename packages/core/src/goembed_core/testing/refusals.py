"""Whether what does not fit is refused in words."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from goembed_core.errors import UserError
from goembed_core.testing.compare import shape_text
from goembed_core.testing.laws import Broken

LIBRARIES = {"torch", "numpy", "einops"}


def require_refusals(trials: dict[str, Any], call: Callable[[Any], Any]) -> None:
    """Raise `Broken` for the inputs that are not refused in words; `trials` are by what is wrong with them."""
    problems = {what: problem for what, inputs in trials.items() if (problem := refusal_problem(inputs, call))}
    if problems:
        raise Broken("; ".join(f"{what}: {problem}" for what, problem in problems.items()))


def refusal_problem(inputs: Any, call: Callable[[Any], Any]) -> str | None:
    """What is wrong with how the inputs are met; None if they are refused in words."""
    try:
        output = call(inputs)
    except (UserError, ValueError) as error:
        text = " ".join(str(error).split())
        if from_library(error):
            return f"a traceback from within a library, {type(error).__name__}: {text:.150}"
        return None if re.search(r"\d", text) else f"the error does not say which sizes were given: {text!r}"
    except Exception as error:
        return f"a traceback, {type(error).__name__}: {' '.join(str(error).split()):.150}"
    return f"accepted, and gave {shape_text(output)}"


def from_library(error: BaseException) -> bool:
    """Whether it was raised in a file of torch and the like, not of the component."""
    frames = traceback.extract_tb(error.__traceback__)
    parts = PurePath(frames[-1].filename).parts if frames else ()
    return "site-packages" in parts and parts[parts.index("site-packages") + 1] in LIBRARIES
