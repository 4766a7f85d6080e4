"""Which checks a broken component fails, and that the suite says so in its own words."""

from collections.abc import Callable
from typing import Any

import pytest
from goembed_core.testing import Examination


@pytest.fixture(scope="session")
def failures() -> Callable[..., dict[str, str]]:
    """The messages of the checks that fail, by name."""

    def examine(kind: str, factory: Callable[[], Any], **options: Any) -> dict[str, str]:
        results = Examination(kind, factory, **options).results()
        failed = {result.name: result.message for result in results if result.status == "failed"}
        for name, message in failed.items():
            lines = message.splitlines()
            assert lines[0] == name
            assert [line.partition(":")[0].strip() for line in lines[1:4]] == ["law", "what happened", "likely cause"]
        return failed

    return examine
