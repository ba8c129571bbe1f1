"""Criteria as content files write them → compiled criteria; unknown names are reported with their line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cds_service.errors import Mistake
from cds_service.record.reading import Reading
from cds_service.rules import criteria
from cds_service.rules.criteria import Criterion
from cds_service.rules.qualifier_tests import Bound, Test, coded_test, confirmed_test, number_test
from cds_service.rules.reading_builder import age
from cds_service.rules.sentences import SentenceError, compile_sentence, names_in, needs_of, parse_sentence
from cds_service.rules.yaml_source import Path, Source

FINDING_KEYS = ("every", "finding", "diagnosis", "only_asleep", "implied_by", "first_seen")
NUMBERS = ("beats", "event_count", "duration")


class CriteriaBuilder:
    """Builds each distinct criterion once and gives it its place in the memo of answers."""

    def __init__(self, reading: Reading, source: Source, mistakes: list[Mistake]) -> None:
        self._reading = reading
        self._mistakes = mistakes
        self._known: dict[str, Criterion] = {}
        self._groups: Mapping[str, Any] = source.data["groups"]
        self.shared: dict[str, Criterion] = {}
        self.groups = {name: tuple(self._expand(name, source, ("groups", name))) for name in self._groups}
        for name, definition in source.data["criteria"].items():
            built = self.build(definition, source, ("criteria", name), self.shared)
            if built is not None:
                self.shared[name] = built

    @property
    def count(self) -> int:
        """How many distinct criteria there are."""
        return len(self._known)

    def build(
        self, definition: Mapping[str, Any], source: Source, path: Path, names: Mapping[str, Criterion]
    ) -> Criterion | None:
        """The criterion; None after a mistake. ``names`` are those that a composite may join."""
        if "sentence" in definition:
            return self._composite(definition, source, path, names)
        key = json.dumps({k: v for k, v in definition.items() if k != "source"}, sort_keys=True)
        if key not in self._known:
            before = len(self._mistakes)
            ask = self._ask(definition, source, path)
            if len(self._mistakes) > before:
                return None
            needs = self._needs(definition, source, path)
            self._known[key] = Criterion(index=len(self._known), definition=definition, needs=needs, ask=ask)
        return self._known[key]

    def _composite(
        self, definition: Mapping[str, Any], source: Source, path: Path, names: Mapping[str, Criterion]
    ) -> Criterion | None:
        try:
            sentence = parse_sentence(definition["sentence"])
        except SentenceError as problem:
            self._mistakes.append(source.mistake((*path, "sentence"), str(problem)))
            return None
        unknown = [name for name in names_in(sentence) if name not in names]
        for name in unknown:
            self._mistakes.append(source.mistake((*path, "sentence"), f"no criterion above is called {name!r}"))
        if unknown:
            return None
        built = Criterion(
            index=len(self._known), definition=definition, sentence=sentence,
            holds=compile_sentence(sentence, names.__getitem__),
            parts={name: names[name] for name in names_in(sentence)},
            needs=needs_of(sentence, lambda name: names[name].needs),
        )  # fmt: skip
        self._known[f"{source.file}:{'.'.join(map(str, path))}"] = built
        return built

    def _needs(self, definition: Mapping[str, Any], source: Source, path: Path) -> frozenset[str] | None:
        named = [definition[key] for key in FINDING_KEYS if key in definition]
        if not named or "recorded" in definition:
            return None
        return frozenset(name for part in named for name in self._concepts(part, source, path))

    def _ask(self, definition: Mapping[str, Any], source: Source, path: Path) -> criteria.Ask:
        match definition:
            case {"finding": named, "recorded": qualifier}:
                return criteria.recorded(self._concepts(named, source, (*path, "finding")), qualifier)
            case {"finding": named} | {"diagnosis": named}:
                key = "finding" if "finding" in definition else "diagnosis"
                concepts = self._concepts(named, source, (*path, key))
                all_of = self._tests(definition, source, path)
                any_of = self._tests(definition.get("any_of", {}), source, (*path, "any_of"))
                birth_event = any(name in self._reading.birth_events for name in concepts)
                return criteria.finding(concepts, all_of, any_of, birth_event)
            case {"only_asleep": named, "implied_by": implied}:
                return criteria.only_asleep(
                    self._concepts(named, source, (*path, "only_asleep")),
                    self._concepts(implied, source, (*path, "implied_by")),
                )
            case {"every": named}:
                (test,) = self._tests(definition, source, path)
                return criteria.every(self._concepts(named, source, (*path, "every")), test)
            case {"age": bound} | {"corrected_age": bound}:
                comparison, limit = next(iter(bound.items()))
                return criteria.age(Bound(comparison, 0), age(limit), "corrected_age" in definition)
            case {"born_early": _}:
                return criteria.born_early
            case {"lab": named, "is": side}:
                return criteria.laboratory(self._analytes(named, source, (*path, "lab")), side)
            case {"medication": named}:
                return criteria.medication(self._concepts(named, source, (*path, "medication")))
            case {"done": named}:
                return criteria.done(self._concepts(named, source, (*path, "done")))
            case {"first_seen": named, "before": before}:
                return criteria.first_seen(self._concepts(named, source, (*path, "first_seen")), age(before))
        raise TypeError(f"no kind of criterion has the keys {sorted(definition)}")

    def _tests(self, said: Mapping[str, Any], source: Source, path: Path) -> tuple[Test, ...]:
        tests: list[Test] = []
        for key, value in said.items():
            name = key.replace("_", "-")
            if key in NUMBERS:
                comparison, amount = next(iter(value.items()))
                tests.append(number_test(name, Bound(comparison, self._amount(amount))))
            elif name in self._reading.coded_qualifiers:
                values = [value] if isinstance(value, str) else value
                unknown = set(values) - self._reading.coded_qualifiers[name]
                for wrong in sorted(unknown):
                    self._mistakes.append(source.mistake((*path, key), f"{key} has no value {wrong!r}"))
                tests.append(coded_test(name, frozenset(values)))
            elif key == "vigorous":
                tests.append(coded_test("vigorous", frozenset({"true" if value else "false"})))
            elif key == "verification":
                tests.append(confirmed_test)
        return tuple(tests)

    def _amount(self, written: float | str) -> float:
        if isinstance(written, str):
            amount, unit = written.split()
            return float(amount) * self._reading.duration_units[unit]
        return float(written)

    def _concepts(self, named: str | list[str], source: Source, path: Path) -> tuple[str, ...]:
        names = [named] if isinstance(named, str) else named
        found: dict[str, None] = {}
        for place, name in enumerate(names):
            found.update(dict.fromkeys(self._expand(name, source, (*path, place))))
        return tuple(found)

    def _expand(self, name: str, source: Source, path: Path, within: tuple[str, ...] = ()) -> list[str]:
        if name in within:
            self._mistakes.append(source.mistake(path, f"the group {name!r} holds itself"))
            return []
        if name in self._groups:
            return [c for part in self._groups[name] for c in self._expand(part, source, path, (*within, name))]
        if name not in self._reading.vocabulary.concepts:
            self._mistakes.append(source.mistake(path, f"no finding, group or value set is called {name!r}"))
        return [name]

    def _analytes(self, named: str | list[str], source: Source, path: Path) -> tuple[str, ...]:
        names = [named] if isinstance(named, str) else named
        for name in names:
            if name not in self._reading.analytes:
                self._mistakes.append(source.mistake(path, f"limits.yaml has no analyte {name!r}"))
        return tuple(names)
