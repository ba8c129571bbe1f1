"""Whether a workup is already done or ordered, so that nobody is asked for it twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cds_service.record.facts import Evidence, Finding, Work
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import WORK_SOURCES
from cds_service.record.times import is_older_than
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth, decided
from cds_service.rules.rule import DoneOrOrdered, Workup


class Suppression(NamedTuple):
    """TRUE: taken care of, by this evidence. UNKNOWN: it cannot be told, for want of this."""

    truth: Truth
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()


OPEN = Suppression(FALSE)


def suppression(workup: Workup, record: PatientRecord, facts: Sequence[Finding]) -> Suppression:
    """Whether the workup is taken care of for these findings; what cannot be told does not suppress it."""
    if not workup.done_or_ordered:
        return OPEN
    facts = _events(facts, record)
    doubts: list[Evidence] = []
    for way in workup.done_or_ordered:
        truths: list[Truth] = []
        shown: list[Evidence] = []
        for concept in way.concepts:
            best = FALSE
            for work in record.facts.work.get(concept, ()):
                if work.ordered is way.ordered:
                    truth = _counts(work, way, record, facts)
                    best = max(best, truth)
                    if truth is not FALSE:
                        shown.append(work.evidence)
            truths.append(best)
        answer = min(truths) if way.all_of_them else max(truths)
        if answer is TRUE:
            return Suppression(TRUE, tuple(shown))
        if answer is UNKNOWN:
            doubts += shown
    unanswered = record.unanswered(WORK_SOURCES)
    if doubts or unanswered:
        undated = tuple(f"when {doubt.reference} was done" for doubt in doubts)
        return Suppression(UNKNOWN, tuple(doubts), unanswered + undated)
    return OPEN


def _events(facts: Sequence[Finding], record: PatientRecord) -> Sequence[Finding]:
    """The facts that happened or began: what is given from birth or for life asks for nothing to be done again."""
    return [fact for fact in facts if fact.concept not in record.reading.background_findings] or facts


def _counts(work: Work, way: DoneOrOrdered, record: PatientRecord, facts: Sequence[Finding]) -> Truth:
    parts = [TRUE]
    if way.within is not None:
        if work.span is None:
            return UNKNOWN
        parts.append(NEGATION[is_older_than(work.span, record.as_of, way.within)])
    if way.not_before == "newest_event":
        parts += [_not_before(work, *_newest_days(facts, record.today))] if facts else []
    elif way.not_before == "onset":
        for concept in dict.fromkeys(fact.concept for fact in facts):
            seen = record.finding(concept).course.first_seen
            parts.append(UNKNOWN if seen is None else _not_before(work, *seen.days))
    for concept in way.onset_of:
        seen = record.finding(concept).course.first_seen
        parts += [] if seen is None else [_not_before(work, *seen.days)]
    return min(parts)


def _newest_days(facts: Sequence[Finding], today: int) -> tuple[int, int]:
    """First and last UTC day on which the newest of the findings can have been; an ongoing one is of today."""
    if any(fact.ongoing for fact in facts):
        return today, today
    days = [fact.span.days for fact in facts if fact.span is not None]
    return (max(day[0] for day in days), max(day[1] for day in days)) if days else (today, today)


def _not_before(work: Work, first: int, last: int) -> Truth:
    if work.span is None:
        return UNKNOWN
    return decided(work.span.days[0] >= last, work.span.days[1] >= first)
