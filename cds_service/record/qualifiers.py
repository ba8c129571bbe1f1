"""What is said of a movement: components of an Observation, the extension on a Condition (ENCODING §3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cds_service.record.codes import UCUM
from cds_service.record.decode import (
    CodeableConcept,
    Condition,
    Extension,
    Observation,
    Period,
    Quantity,
)
from cds_service.record.facts import NO_QUALIFIERS, Interval, Qualifiers
from cds_service.record.reading import Reading
from cds_service.record.times import DAY, SECOND, parse_span
from cds_service.record.units import interval_of, scaled, unit_code

VIGOROUS = "vigorous"
COUNTS = ("beats", "event-count")


class Said(NamedTuple):
    """One qualifier as written, whichever way it travelled."""

    name: str
    concept: CodeableConcept | None = None
    quantity: Quantity | None = None
    integer: int | None = None
    boolean: bool | None = None


class Collector:
    """Gathers the qualifiers of one resource and notes what nobody knows, never in the record's own words."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._coded: dict[str, frozenset[str]] = {}
        self._numbers: dict[str, Interval] = {}
        self._unreadable: set[str] = set()
        self.ignored: list[str] = []

    def add(self, said: Said) -> None:
        """Take one qualifier: a known value is kept, an unknown code ignored, another kind is unreadable."""
        if said.name in self._reading.coded_qualifiers:
            self._add_coded(said)
        elif said.name == VIGOROUS:
            if said.boolean is None:
                self._unreadable.add(VIGOROUS)
            else:
                self.value(VIGOROUS, "true" if said.boolean else "false")
        elif said.name == "duration" or said.name in COUNTS:
            number = self._number(said)
            if number is None:
                self._unreadable.add(said.name)
            else:
                self._numbers[said.name] = _either(self._numbers.get(said.name, number), number)
        else:
            self.ignored.append("a qualifier that is not known")

    def value(self, name: str, value: str) -> None:
        """One coded value more."""
        self._coded[name] = self._coded.get(name, frozenset()) | {value}

    def duration(self, lo: float, hi: float) -> None:
        """A duration in seconds shown by a period; one that was stated goes first."""
        if "duration" not in self._numbers:
            self._numbers["duration"] = Interval(lo, hi)

    def gathered(self) -> Qualifiers:
        """All that was said."""
        if not (self._coded or self._numbers or self._unreadable):
            return NO_QUALIFIERS
        return Qualifiers(self._coded, self._numbers, frozenset(self._unreadable))

    def _add_coded(self, said: Said) -> None:
        if said.concept is None:
            self._unreadable.add(said.name)
            return
        known = self._reading.coded_qualifiers[said.name]
        for coding in said.concept.coding:
            if coding.system == self._reading.qualifier_system and coding.code in known:
                self.value(said.name, str(coding.code))
                return
        self.ignored.append(f"unknown value of the qualifier {said.name!r}")

    def _number(self, said: Said) -> Interval | None:
        if said.name in COUNTS:
            if said.integer is not None:
                return Interval(said.integer, said.integer)
            if said.quantity is not None and _is_count(said.quantity, self._reading.count_units):
                return interval_of(said.quantity)
            return None
        interval = interval_of(said.quantity)
        if interval is None or said.quantity is None:
            return None
        unit = unit_code(said.quantity, self._reading.duration_units)
        return None if unit is None else scaled(interval, self._reading.duration_units[unit])


def _either(one: Interval, other: Interval) -> Interval:
    """All that the value can be when it is stated twice: the order of two components decides nothing."""
    return one if one == other else Interval(min(one.lo, other.lo), max(one.hi, other.hi))


def _is_count(quantity: Quantity, units: frozenset[str]) -> bool:
    if quantity.code is not None and quantity.system == UCUM:
        return quantity.code in units
    return (quantity.unit or quantity.code) in units


def of_observation(observation: Observation, reading: Reading, movement: bool) -> tuple[Qualifiers, list[str]]:
    """What the Observation says of its findings, and what of it is ignored because nobody knows it."""
    if not observation.component and observation.bodySite is None and observation.effectivePeriod is None:
        return NO_QUALIFIERS, []
    collector = Collector(reading)
    for component in observation.component:
        name = _qualifier_name(component.code, reading)
        if name is not None:
            collector.add(
                Said(name, component.valueCodeableConcept, component.valueQuantity, component.valueInteger,
                     component.valueBoolean)
            )  # fmt: skip
    if observation.bodySite is not None:
        _add_body_sites(collector, (observation.bodySite,), reading)
    if movement and observation.effectivePeriod is not None:
        shown = _duration_of(observation.effectivePeriod)
        if shown is not None:
            collector.duration(*shown)
    return collector.gathered(), collector.ignored


def of_condition(condition: Condition, reading: Reading) -> tuple[Qualifiers, list[str]]:
    """What the Condition says of its finding: the extension, and the native severity and body site."""
    if not condition.extension and condition.severity is None and not condition.bodySite:
        return NO_QUALIFIERS, []
    collector = Collector(reading)
    for extension in condition.extension:
        if extension.url == reading.qualifier_extension:
            collector.add(_from_extension(extension))
    _add_body_sites(collector, condition.bodySite, reading)
    if condition.severity is not None:
        for coding in condition.severity.coding:
            severity = reading.severities.get((coding.system or "", coding.code or ""))
            if severity is not None:
                collector.value("severity", severity)
    return collector.gathered(), collector.ignored


def _from_extension(extension: Extension) -> Said:
    parts = {part.url: part for part in extension.extension}
    code, value = parts.get("code"), parts.get("value")
    name = (code.valueCode if code is not None else None) or "?"
    if value is None:
        return Said(name)
    concept = value.valueCodeableConcept
    return Said(name, concept, value.valueQuantity, value.valueInteger, value.valueBoolean)


def _add_body_sites(collector: Collector, sites: Iterable[CodeableConcept], reading: Reading) -> None:
    for site in sites:
        for coding in site.coding:
            side = reading.body_sites.get((coding.system or "", coding.code or ""))
            if side is not None:
                collector.value("laterality", side)


def _qualifier_name(code: CodeableConcept, reading: Reading) -> str | None:
    for coding in code.coding:
        if coding.system == reading.qualifier_system and coding.code:
            return coding.code
    return None


def is_qualifier(code: CodeableConcept, reading: Reading) -> bool:
    """Whether a component's code is one of ours for qualifiers, so that it is no finding."""
    return _qualifier_name(code, reading) is not None


def _duration_of(period: Period) -> tuple[float, float] | None:
    """Shortest and longest duration in seconds of a closed period that may be under a day; else None."""
    start, end = parse_span(period.start), parse_span(period.end)
    if start is None or end is None or end.hi < start.lo:
        return None
    shortest, longest = max(0, end.lo - start.hi), end.hi - start.lo
    return (shortest / SECOND, longest / SECOND) if shortest < DAY else None
