"""Questions to the qualifiers of one fact: is it clustered, lasting, of more than so many beats."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cds_service.record.facts import Finding, Interval
from cds_service.record.patient_record import FindingState
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth

Test = Callable[[Finding, FindingState], Truth]


class Bound(NamedTuple):
    """One end of a comparison in a rule: above, at_least, below or at_most, and the amount."""

    comparison: str
    amount: float


def coded_test(name: str, values: frozenset[str]) -> Test:
    """Whether a qualifier has one of these values, as written or as shown by several facts together."""

    def test(finding: Finding, state: FindingState) -> Truth:
        said = finding.qualifiers
        if not values.isdisjoint(said.coded.get(name, ())):
            return TRUE
        derived = FALSE
        if name == "course" and "persistent" in values:
            derived = state.course.persistent
        elif name == "laterality" and "bilateral" in values:
            sides = said.coded.get(name, frozenset())
            derived = TRUE if {"left", "right"} <= sides else state.course.bilateral
        elif name == "frequency" and "clustered" in values:
            derived = state.course.clustered
        unread = UNKNOWN if name in said.unreadable or "*" in said.unreadable else FALSE
        return max(derived, unread)

    return test


def number_test(name: str, bound: Bound) -> Test:
    """Whether a number said of the movement lies beyond the bound; not recorded is false."""

    def test(finding: Finding, state: FindingState) -> Truth:
        said = finding.qualifiers
        number = said.numbers.get(name)
        if name == "event-count":
            derived = state.course.events
            if state.unknown:  # what may be there, or cannot be dated, may be events of their own
                derived = derived._replace(hi=derived.hi + len(state.unknown))
            number = derived if number is None else Interval(max(number.lo, derived.lo), max(number.hi, derived.hi))
        if number is None:
            return UNKNOWN if name in said.unreadable or "*" in said.unreadable else FALSE
        match bound.comparison:
            case "above":
                return number.is_above(bound.amount)
            case "at_least":
                return NEGATION[number.is_below(bound.amount)]
            case "below":
                return number.is_below(bound.amount)
        return NEGATION[number.is_above(bound.amount)]

    return test


def confirmed_test(finding: Finding, state: FindingState) -> Truth:
    """Whether the diagnosis is confirmed, not only suspected."""
    return finding.confirmed
