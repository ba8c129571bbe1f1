"""A rule as a clinician would say it, made from what is executed: its sentence as a tree, its criteria in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cds_service.record.reading import Band, Reading
from cds_service.rules.criteria import Criterion
from cds_service.rules.rule import Rule
from cds_service.rules.sentences import And, Name, Not, Or, Sentence

UNITS = {"d": "days", "h": "hours", "mo": "months", "s": "seconds", "min": "minutes", "wk": "weeks", "a": "years"}
BOUNDS = {"above": "above", "below": "below", "at_least": "at least", "at_most": "at most"}
SIDES = {"low": "low", "high": "high", "abnormal": "abnormal", "recorded": "measured"}
NOT_QUALIFIERS = frozenset(("lab", "is", "before", "source", "recorded", "any_of"))
NAMED = ("finding", "diagnosis", "every", "only_asleep", "implied_by", "first_seen", "medication", "done")


class Node(NamedTuple):
    """A part of a sentence. ``kind``: all, any, not, or ask for a question to the record. ``name``: the criterion's,
    where it has one; ``words``: what is asked; ``source``: where a number or list in it comes from."""

    kind: str
    name: str
    words: str
    source: str
    parts: tuple[Node, ...]


class Readable:
    """The words of one knowledge pack. ``groups``: the names of several findings, as criteria.yaml has them."""

    def __init__(self, reading: Reading, groups: Mapping[str, tuple[str, ...]]) -> None:
        self._reading = reading
        self._groups = groups

    def tree(self, sentence: Sentence, criteria: Mapping[str, Criterion]) -> Node:
        """The sentence with every composite criterion opened down to the questions it asks."""
        match sentence:
            case Name(name):
                return self._named(name, criteria[name])
            case Not(part):
                return Node("not", "", "", "", (self.tree(part, criteria),))
            case And(parts):
                return Node("all", "", "", "", tuple(self.tree(part, criteria) for part in parts))
            case Or(parts):
                return Node("any", "", "", "", tuple(self.tree(part, criteria) for part in parts))

    def _named(self, name: str, criterion: Criterion) -> Node:
        source = str(criterion.definition.get("source", ""))
        if criterion.sentence is None:
            return Node("ask", name, self.words(criterion), source, ())
        inner = self.tree(criterion.sentence, criterion.parts)
        return inner._replace(name=name, source=source) if not inner.name else Node("all", name, "", source, (inner,))

    def words(self, criterion: Criterion) -> str:
        """What one criterion asks the record."""
        said = criterion.definition
        match said:
            case {"sentence": sentence}:
                return str(sentence).replace("_", " ")
            case {"finding": named, "recorded": qualifier}:
                return f"it is recorded of {self._named_facts(named)}: {_plain(qualifier)}"
            case {"finding": named} | {"diagnosis": named}:
                return self._named_facts(named) + "".join(f", {part}" for part in self._qualified(said))
            case {"only_asleep": named, "implied_by": implied}:
                return f"{self._named_facts(named)}, only in sleep (or {self._named_facts(implied)})"
            case {"every": named}:
                return f"every {self._named_facts(named)} that is present: {', '.join(self._qualified(said))}"
            case {"age": bound} | {"corrected_age": bound}:
                corrected = "corrected age" if "corrected_age" in said else "age"
                return f"{corrected} {_bound(bound)}"
            case {"born_early": _}:
                return f"born before {self._reading.preterm_below_days // 7} weeks of gestation"
            case {"lab": named, "is": side}:
                return f"{self._analytes(named)} {SIDES[str(side)]}"
            case {"medication": named}:
                return f"takes {self._named_facts(named)}"
            case {"done": named}:
                return f"{self._named_facts(named)} was done"
            case {"first_seen": named, "before": before}:
                return f"{self._named_facts(named)} first seen before {_amount(before)}"
        raise TypeError(f"no words for a criterion with the keys {sorted(said)}")

    def concepts(self, rule: Rule) -> dict[str, str]:
        """Every code list that the rule's criteria use: name → display."""
        names = [
            concept for criterion in _questions(rule.criteria.values()) for key in NAMED
            if key in criterion.definition for concept in self._expanded(criterion.definition[key])
        ]  # fmt: skip
        known = self._reading.vocabulary.concepts
        return {name: known[name].display for name in dict.fromkeys(names)}

    def limits(self, rule: Rule) -> list[tuple[str, Band]]:
        """The numeric limits that may decide for the rule: the analyte's display with each band."""
        found = []
        for criterion in _questions(rule.criteria.values()):
            named = criterion.definition.get("lab")
            for name in _listed(named) if named is not None and criterion.definition.get("is") != "recorded" else ():
                analyte = self._reading.analytes[name]
                side = criterion.definition["is"]
                found += [
                    (analyte.display, band) for bands in analyte.bands.values() for band in bands
                    if side == "abnormal" or band.direction == side
                ]  # fmt: skip
        return list({band.id: (display, band) for display, band in found}.values())

    def _qualified(self, said: Mapping[str, object]) -> Iterator[str]:
        for key, value in said.items():
            if key not in NOT_QUALIFIERS and key not in NAMED:
                yield _qualifier(key, value)
        options = said.get("any_of")
        if isinstance(options, Mapping):
            yield "with " + " or ".join(_qualifier(key, value) for key, value in options.items())

    def _named_facts(self, named: object) -> str:
        known = self._reading.vocabulary.concepts
        words = [
            f"any {_plain(name).removeprefix('any ')}" if name in self._groups else known[name].display.lower()
            for name in _listed(named)
        ]
        return " or ".join(words)

    def _analytes(self, named: object) -> str:
        return " or ".join(self._reading.analytes[name].display.lower() for name in _listed(named))

    def _expanded(self, named: object) -> Iterator[str]:
        for name in _listed(named):
            yield from self._groups.get(name, (name,))


def _questions(criteria: Iterable[Criterion]) -> Iterator[Criterion]:
    for criterion in criteria:
        yield criterion
        yield from _questions(criterion.parts.values())


def _listed(named: object) -> list[str]:
    return [named] if isinstance(named, str) else [str(name) for name in named] if isinstance(named, list) else []


def _plain(value: object) -> str:
    return str(value).replace("_", " ").replace("-", " ")


def _amount(written: object) -> str:
    number, _, unit = str(written).partition(" ")
    words = UNITS.get(unit, unit)
    return f"{number} {words.removesuffix('s') if number == '1' else words}".strip()


def _bound(bound: object) -> str:
    if not isinstance(bound, Mapping):
        return str(bound)
    return " and ".join(f"{BOUNDS[key]} {_amount(value)}" for key, value in bound.items())


def _qualifier(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"{_plain(key)} {_bound(value)}"
    if isinstance(value, bool):
        return _plain(key) if value else f"not {_plain(key)}"
    return f"{_plain(key)} {' or '.join(_plain(item) for item in _listed(value))}"
