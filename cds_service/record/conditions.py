"""What a Condition says: present, known absent, past, or not to be decided (ENCODING §1)."""

from __future__ import annotations

from typing import NamedTuple

from cds_service.record.ages import Age
from cds_service.record.codes import UCUM, plain_codes
from cds_service.record.decode import Condition, Quantity
from cds_service.record.facts import Evidence, Finding, Presence
from cds_service.record.observations import When, finding_concepts, when_of_period
from cds_service.record.qualifiers import of_condition
from cds_service.record.reading import Reading
from cds_service.record.times import DAY, Span, parse_span
from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth

CURRENT = frozenset({"active", "recurrence", "relapse"})
ENDED = frozenset({"inactive", "remission", "resolved"})
SUSPECTED = frozenset({"unconfirmed", "provisional", "differential"})
LONGEST_AGE = 3_000  # of any unit: eight years of days; more is no infant's
AGE_UNITS = {"a": ("mo", 12), "mo": ("mo", 1), "wk": ("wk", 1), "d": ("d", 1)}


class Verification(NamedTuple):
    """What the verification status makes of a Condition: its presence so far, and whether it is confirmed."""

    presence: Presence
    confirmed: Truth


def verification(condition: Condition) -> Verification | None:
    """None when the Condition was entered in error: it is as if never written."""
    codes = plain_codes(condition.verificationStatus)
    if "entered-in-error" in codes:
        return None
    if "refuted" in codes:
        return Verification(Presence.ABSENT, FALSE)
    if condition.verificationStatus is None or "confirmed" in codes:
        return Verification(Presence.PRESENT, TRUE)
    if codes & SUSPECTED:
        return Verification(Presence.PRESENT, FALSE)
    return Verification(Presence.UNKNOWN, UNKNOWN)


def findings_of(
    condition: Condition, reference: str, origin: int, birth: Span | None, as_of: int, reading: Reading
) -> tuple[list[Finding], list[str]]:
    """The findings that a Condition states, with their qualifiers, and qualifier values nobody knows."""
    concepts = finding_concepts(condition.code, reading)
    verified = verification(condition) if concepts else None
    if verified is None:
        return [], []
    onset, unread_onset = _onset(condition, birth)
    if onset.span is not None and onset.span.lo > as_of:
        return [], []
    presence, problem = verified.presence, ""
    if presence is Presence.PRESENT:
        presence, problem = _clinical(condition, birth, as_of)
    elif presence is Presence.UNKNOWN:
        problem = "its verificationStatus cannot be read"
    qualifiers, ignored = of_condition(condition, reading)
    if unread_onset:
        qualifiers = type(qualifiers)(qualifiers.coded, qualifiers.numbers, qualifiers.unreadable | {"onset"})
    return [
        Finding(
            concept=concept.name,
            origin=origin,
            presence=presence,
            confirmed=verified.confirmed,
            span=onset.span,
            start=onset.span,
            ongoing=presence is Presence.PRESENT,
            from_condition=True,
            qualifiers=qualifiers,
            evidence=Evidence(reference, "code", concept.name, onset.text),
            problem=problem,
        )
        for concept in concepts
    ], ignored


def _clinical(condition: Condition, birth: Span | None, as_of: int) -> tuple[Presence, str]:
    codes = plain_codes(condition.clinicalStatus)
    if codes & ENDED:
        return Presence.PAST, ""
    if condition.clinicalStatus is not None and not codes & CURRENT:
        return Presence.UNKNOWN, "its clinicalStatus cannot be read"
    return _abatement(condition, birth, as_of)


def _abatement(condition: Condition, birth: Span | None, as_of: int) -> tuple[Presence, str]:
    unread = Presence.UNKNOWN, "its abatement cannot be placed before or after the as-of date"
    if condition.abatementRange is not None or condition.abatementString is not None:
        return unread
    if condition.abatementAge is not None:
        ended = _span_of_age(condition.abatementAge, birth)
    elif condition.abatementPeriod is not None:
        ended = parse_span(condition.abatementPeriod.end)
    elif condition.abatementDateTime is not None:
        ended = parse_span(condition.abatementDateTime)
    else:
        return Presence.PRESENT, ""
    if ended is None:
        return unread
    if ended.hi <= as_of:
        return Presence.PAST, ""
    return (Presence.PRESENT, "") if ended.lo > as_of else unread


def _onset(condition: Condition, birth: Span | None) -> tuple[When, bool]:
    """When it began, and whether something is written that cannot be read."""
    if condition.onsetDateTime is not None:
        span = parse_span(condition.onsetDateTime)
        return When(span, condition.onsetDateTime if span is not None else ""), span is None
    if condition.onsetPeriod is not None:
        when = when_of_period(condition.onsetPeriod)
        start = parse_span(condition.onsetPeriod.start)
        return When(start, when.text if start is not None else ""), start is None
    if condition.onsetAge is not None:
        span = _span_of_age(condition.onsetAge, birth)
        text = f"at {condition.onsetAge.value:g} {condition.onsetAge.code}" if span is not None else ""
        return When(span, text), span is None
    return When(None), condition.onsetString is not None or condition.onsetRange is not None


def _span_of_age(age: Quantity, birth: Span | None) -> Span | None:
    """The days on which the infant has this age: from the day it is reached to the day before the next."""
    if birth is None or age.value is None or age.comparator is not None or age.system not in (None, UCUM):
        return None
    unit = AGE_UNITS.get(age.code or "")
    if unit is None or age.value < 0 or age.value > LONGEST_AGE or age.value != int(age.value):
        return None
    name, factor = unit
    first, last = birth.days
    start = Age(int(age.value) * factor, name).reached_on(first)
    end = Age((int(age.value) + 1) * factor, name).reached_on(last)
    return Span(start * DAY, end * DAY - 1)
