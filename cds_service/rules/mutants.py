"""Small wrongs that the cases have to notice: each mutant changes one thing in one content file."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cds_service.rules.pack import Pack
from cds_service.rules.sentences import And, Name, Not, Or, Sentence, parse_sentence, to_text
from cds_service.rules.yaml_source import Path, Source

_AMOUNT = re.compile(r"(\d+)(\.\d+)?( (?:h|d|wk|mo|s|ms|min))", re.ASCII)
SENTENCES = ("recommend_when", "unless", "when", "sentence")
DECIDING = {
    "rule": ("criteria", "recommend_when", "unless", "recommend"),
    "criteria": ("groups", "criteria"),
    "workup": ("done_or_ordered",),
    "reading": ("windows", "cluster", "gestation"),
}
NOT_DECIDING = frozenset({"source", "confidence", "id", "units", "concepts", "display", "tell_if_not_recorded"})


class Mutant(Struct, frozen=True, kw_only=True):
    """One changed content file: where, and in words what was changed."""

    kind: str
    key: str
    file: str
    line: int
    change: str
    data: Any


def mutants_of(pack: Pack) -> Iterator[Mutant]:
    """Every mutant of the rules, the shared criteria, the workups, the limits and the reading windows."""
    for rule_id, (_, source) in pack.rules.items():
        yield from _of_source("rule", rule_id, source)
    yield from _of_source("criteria", "criteria", pack.single["criteria"])
    for name, source in pack.workups.items():
        yield from _of_source("workup", name, source)
    yield from _of_source("limits", "limits", pack.single["limits"])
    yield from _of_source("reading", "reading", pack.single["reading"])


def _of_source(kind: str, key: str, source: Source) -> Iterator[Mutant]:
    tops = DECIDING.get(kind, tuple(source.data))
    if kind == "limits":  # without a limit no number is compared across units: the flag or range decides
        tops = tuple(top for top in tops if source.data[top]["limits"])
    for top in tops:
        if top not in source.data:
            continue
        for path, value, change in _changes((top,), source.data[top]):
            data = copy.deepcopy(source.data)
            _put(data, path, value)
            yield Mutant(kind=kind, key=key, file=source.file, line=source.line(path), change=change, data=data)


class _Dropped:
    """Marks a list item or key that a mutant takes away."""


DROPPED = _Dropped()


def _changes(path: Path, value: Any) -> Iterator[tuple[Path, Any, str]]:
    where = ".".join(map(str, path))
    if path[-1] in NOT_DECIDING:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _changes((*path, key), item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            if len(value) > 1:
                yield (*path, place), DROPPED, f"{where}: without {_short(item)}"
            yield from _changes((*path, place), item)
    elif path[-1] in SENTENCES and isinstance(value, str):
        for changed in _sentences(parse_sentence(value)):
            yield path, to_text(changed), f"{where}: {to_text(changed)}"
    elif not isinstance(value, bool) and isinstance(value, int | float):
        step = 10.0 ** -(len(repr(value).split(".")[1]) if "." in repr(value) else 0)
        for nudged in (value - step, value + step):
            number = round(nudged, 6) if isinstance(value, float) else int(nudged)
            yield path, number, f"{where}: {number}"
    elif isinstance(value, str) and (found := _AMOUNT.fullmatch(value)):
        for amount in (int(found[1]) - 1, int(found[1]) + 1):
            if amount >= 0:
                yield path, f"{amount}{found[2] or ''}{found[3]}", f"{where}: {amount}{found[3]}"


def _sentences(sentence: Sentence) -> Iterator[Sentence]:
    """Every name negated once, every and/or swapped once."""
    match sentence:
        case Name():
            yield Not(sentence)
        case Not(Name() as name):
            yield name
        case Not(part):
            for changed in _sentences(part):
                yield Not(changed)
        case And(parts) | Or(parts):
            yield Or(parts) if isinstance(sentence, And) else And(parts)
            for place, part in enumerate(parts):
                for changed in _sentences(part):
                    changed_parts = (*parts[:place], changed, *parts[place + 1 :])
                    yield type(sentence)(changed_parts)


def _put(data: Any, path: Path, value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    if value is DROPPED:
        del data[path[-1]]
    else:
        data[path[-1]] = value


def _short(item: Any) -> str:
    return str(item) if not isinstance(item, dict) else ", ".join(f"{k}: {v}" for k, v in list(item.items())[:2])
