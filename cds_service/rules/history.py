"""What changed in each version of a rule: written by those who change it, asked for by ``cds-service check``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from cds_service.errors import ContentError, Mistake
from cds_service.rules.library import RuleLibrary
from cds_service.rules.pack import read_single

FILE = "cards/history.yaml"
FIRST = "1.0.0"


class Change(NamedTuple):
    """One version of a rule: since when, and what is otherwise than in the one before."""

    version: str
    on: str
    change: str


def read_history(root: Traversable | Path) -> Mapping[str, Sequence[Change]]:
    """Rule id → its versions after the first, oldest first. Raises ContentError."""
    source, mistakes = read_single(root, root / "history.yaml", "history")
    if mistakes:
        raise ContentError(mistakes)
    return {rule: tuple(Change(**item) for item in items) for rule, items in source.data.items()}


def history_mistakes(library: RuleLibrary, history: Mapping[str, Sequence[Change]], gone: set[str]) -> list[Mistake]:
    """Rules whose present version is not told of, and lines about rules that there never were."""
    mistakes = []
    for rule in library.rules:
        told = [change.version for change in history.get(rule.id, ())]
        if rule.version != (told[-1] if told else FIRST):
            mistakes.append(Mistake(FILE, 1, f"{rule.id}: say what changed in version {rule.version}"))
    unknown = sorted(history.keys() - {rule.id for rule in library.rules} - gone)
    return mistakes + [Mistake(FILE, 1, f"no rule is or was called {name!r}") for name in unknown]
