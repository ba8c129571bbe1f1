"""What an Observation says: findings present or absent, laboratory values, gestation (ENCODING §1, §2, §4)."""

from __future__ import annotations

from typing import NamedTuple

from cds_service.record.codes import Concept, has_code
from cds_service.record.decode import CodeableConcept, Observation, ObservationComponent, Period
from cds_service.record.facts import Evidence, Finding, Presence
from cds_service.record.qualifiers import is_qualifier, of_observation
from cds_service.record.reading import Reading
from cds_service.record.times import Span, parse_span
from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth

COUNTED = frozenset({"final", "amended", "corrected", "preliminary"})
NOT_COUNTED = frozenset({"registered", "cancelled", "entered-in-error", "unknown"})
FINDING_CATEGORIES = frozenset({"finding", "disorder", "risk-factor"})


class When(NamedTuple):
    """The time of an event. ``span`` None: undated, or not to be read; then no text of it is kept.

    ``ongoing``: an open period. ``written``: whether anything stands there, readable or not.
    """

    span: Span | None
    text: str = ""
    ongoing: bool = False
    start: Span | None = None
    written: bool = False


def when_of_period(period: Period) -> When:
    """From the first to the last moment that the period can cover; open at the end it is ongoing."""
    start, end = parse_span(period.start), parse_span(period.end)
    if (period.start and start is None) or (period.end and end is None):
        return When(None, written=True)
    text = f"{period.start or ''}/{period.end or ''}"
    if start is None or end is None:
        known = start or end
        return When(known, text if known else "", end is None and start is not None, start, known is not None)
    if start.lo > end.hi:
        return When(None, written=True)
    return When(Span(start.lo, end.hi), text, False, start, True)


def when_of(date_time: str | None, period: Period | None, instant: str | None = None) -> When:
    """The one time that the choice element holds."""
    if period is not None:
        return when_of_period(period)
    text = date_time or instant
    span = parse_span(text)
    return When(span, text if span is not None and text else "", False, span, text is not None)


def counts(status: str) -> Truth:
    """Whether an Observation of this status is a fact; a status outside FHIR's list is unknown."""
    if status in COUNTED:
        return TRUE
    return FALSE if status in NOT_COUNTED else UNKNOWN


class Statement(NamedTuple):
    """A finding's presence as one element of an Observation states it."""

    concept: Concept
    presence: Presence
    element: str
    problem: str = ""


def findings_of(
    observation: Observation, reference: str, origin: int, when: When, reading: Reading
) -> tuple[list[Finding], list[str]]:
    """The findings that an Observation states, with their qualifiers, and qualifier values nobody knows."""
    statements = _statements(observation, reading)
    if not statements:
        return [], []
    movement = any(statement.concept.name in reading.movement_findings for statement in statements)
    qualifiers, ignored = of_observation(observation, reading, movement)
    undated = when.span is None
    return [
        Finding(
            concept=statement.concept.name,
            origin=origin,
            presence=Presence.UNKNOWN if undated else statement.presence,
            confirmed=TRUE,
            span=when.span,
            start=when.start,
            ongoing=when.ongoing,
            from_condition=False,
            qualifiers=qualifiers,
            evidence=Evidence(reference, statement.element, statement.concept.name, when.text),
            problem="it has no date that can be read" if undated else statement.problem,
        )
        for statement in statements
    ], ignored


def _statements(observation: Observation, reading: Reading) -> list[Statement]:
    if reading.vocabulary.is_history(observation.code):
        return []
    found = _stated(observation, "code", "value[x]", reading)
    for index, component in enumerate(observation.component):
        if not is_qualifier(component.code, reading):
            where = f"component[{index}]"
            found += _stated(component, f"{where}.code", f"{where}.value[x]", reading)
    return found


def _stated(part: Observation | ObservationComponent, code_at: str, value_at: str, reading: Reading) -> list[Statement]:
    if reading.vocabulary.is_history(part.code):
        return []
    named = finding_concepts(part.code, reading)
    valued = finding_concepts(part.valueCodeableConcept, reading)
    stated = [Statement(concept, Presence.PRESENT, value_at) for concept in valued]
    presence, problem = (Presence.PRESENT, "") if not named else _presence(part, reading)
    stated += [Statement(concept, presence, code_at, problem) for concept in named if concept not in valued]
    return stated


def finding_concepts(codeable: CodeableConcept | None, reading: Reading) -> tuple[Concept, ...]:
    """The findings, disorders and risk factors that are named; none when a history code stands beside them."""
    concepts = reading.vocabulary.of(codeable)
    if not concepts or reading.vocabulary.is_history(codeable):
        return ()
    return tuple(concept for concept in concepts if concept.category in FINDING_CATEGORIES)


def _presence(part: Observation | ObservationComponent, reading: Reading) -> tuple[Presence, str]:
    """Present, absent or unknown from the value that stands beside a finding's code (ENCODING §2.1)."""
    if part.valueBoolean is not None:
        return (Presence.PRESENT if part.valueBoolean else Presence.ABSENT), ""
    if part.valueCodeableConcept is not None:
        present = has_code(part.valueCodeableConcept, reading.present_codes)
        absent = has_code(part.valueCodeableConcept, reading.absent_codes)
        if present != absent:
            return (Presence.PRESENT if present else Presence.ABSENT), ""
        return Presence.UNKNOWN, "its value is neither present nor absent"
    if part.uninterpreted or part.valueQuantity is not None or part.valueInteger is not None:
        return Presence.UNKNOWN, "its value is of a kind that does not say present or absent"
    if part.dataAbsentReason is not None:
        return Presence.UNKNOWN, "its value is withheld (dataAbsentReason)"
    return Presence.PRESENT, ""
