"""A copy of cards/ to change, for tests that look at what a change does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CARDS = Path(__file__).parents[1] / "cards"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of cards/."""
    return Path(shutil.copytree(CARDS, tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__")))


def spoil(pack: Path, file: str, old: str, new: str) -> int:
    """Put ``new`` for the first ``old`` and say on which line."""
    path = pack / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{file} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1
