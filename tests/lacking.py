"""What a machine lacks: in CI the test fails, so that nothing is skipped there; elsewhere it is skipped with a word."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """End the test: the program or right that it needs is not here. ``.ci/run`` sets CDS_TESTS=complete."""
    if os.environ.get("CDS_TESTS") == "complete":
        pytest.fail(what)
    pytest.skip(what)
