"""The diagnoses that followed a first card: which disorders were first recorded after it, and how long after.

A disorder is any group of codes of the pack that has this category. Whether it has to do with the card is not judged:
no rule says which disorder it anticipates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cds_service.population.attrition import Counts
from cds_service.population.disclosure import Disclosure
from cds_service.population.infant_request import Json
from cds_service.population.leads import BANDS, Followed, WhatFollowed, quartiles
from cds_service.population.summary import table_of
from cds_service.record.duplicates import each_once, reference_of
from cds_service.record.facts import Finding, Presence
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import FINDING_SOURCES
from cds_service.record.times import DAY, Span
from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth, decided

DISORDER = "disorder"  # a category of groups of codes
STATED = {Presence.PRESENT: TRUE, Presence.ABSENT: FALSE}  # by an Observation


def is_diagnosis(finding: Finding) -> Truth:
    """Whether it is the confirmed word that the infant has, or had, this disorder (ENCODING §1).

    Refuted, suspected and absent are none. Whether a Condition is still active is not asked.
    """
    if finding.from_condition:
        return finding.confirmed
    return STATED.get(finding.presence, UNKNOWN)


def diagnoses_after(moment: int, known: Sequence[tuple[Span | None, Json]], record: PatientRecord) -> WhatFollowed:
    """The disorders in the record that were known after the moment, by ``as_of``, and not at it or before.

    ``known``: every resource of the record with when it came to be known.
    """
    when = _when_known(known)
    followed, doubtful = [], []
    for name, findings in sorted(record.facts.findings.items()):
        if record.reading.vocabulary.concepts[name].category != DISORDER:
            continue
        told = [(is_diagnosis(one), when.get(one.evidence.reference), one.evidence.reference) for one in findings]
        found = _first(name, told, moment, record.as_of)
        if isinstance(found, Followed):
            followed.append(found)
        elif found is UNKNOWN:
            doubtful.append(name)
    return WhatFollowed(tuple(followed), tuple(doubtful), record.unanswered(FINDING_SOURCES))


def _when_known(known: Sequence[tuple[Span | None, Json]]) -> dict[str, Span | None]:
    """When what is referred to so came to be known; of resources that share a name, at any time of theirs."""
    spans = {id(resource): span for span, resource in known}
    found: dict[str, Span | None] = {}
    for name, resource in each_once(resource for _, resource in known):
        reference, span = name or reference_of(resource), spans[id(resource)]
        other = found.get(reference, span)
        if span is None or other is None:
            found[reference] = None
        else:
            found[reference] = Span(min(span.lo, other.lo), max(span.hi, other.hi))
    return found


def _first(
    name: str, told: Iterable[tuple[Truth, Span | None, str]], moment: int, as_of: int
) -> Followed | Truth:  # fmt: skip
    """The first word on this disorder when it came after the moment; else FALSE, or UNKNOWN."""
    after: list[tuple[Span, str]] = []
    may_have_been_before = may_follow = False
    for is_one, span, reference in told:
        if is_one is FALSE or (span is not None and span.lo > as_of):
            continue
        before = UNKNOWN if span is None else decided(span.hi <= moment, span.lo <= moment)
        if is_one is TRUE and before is TRUE:
            return FALSE
        if is_one is TRUE and before is FALSE and span is not None and span.hi <= as_of:
            after.append((span, reference))
        may_have_been_before |= before is not FALSE
        may_follow |= before is not TRUE
    if not may_follow:
        return FALSE
    if may_have_been_before or not after:
        return UNKNOWN
    day = moment // DAY
    fewest, most = (min(span.days[end] for span, _ in after) - day for end in (0, 1))
    return Followed(name, (fewest, most), min(after)[1])


def diagnoses_as_json(found: WhatFollowed) -> Json:
    """The infant's row: ``days`` null where the date leaves the day open."""
    followed = [{"disorder": one.name, "days": one.day, "reference": one.reference} for one in found.followed]
    return {"diagnosed": followed, "diagnosedNotKnown": found.not_known}


def count_diagnoses(found: WhatFollowed, counts: Counts) -> None:
    """Count the infant by the first that followed, and by each disorder."""
    counts["diagnosis", found.band] += 1
    if found.day is not None:
        counts["diagnosis days", str(found.day)] += 1
    for one in found.followed:
        counts["disorder", one.name] += 1
        if one.day is not None:
            counts["disorder days", one.name, str(one.day)] += 1
    for name in found.doubtful:
        counts["disorder not known", name] += 1


def diagnoses_summary(counts: Counts, disclosure: Disclosure) -> dict[str, Any]:
    """How early the first card would have come before a diagnosis, for infants and for each disorder."""
    bands, followed = table_of(counts, "diagnosis"), table_of(counts, "disorder")
    doubtful = table_of(counts, "disorder not known")
    return {
        "diagnosisFollowedAfter": disclosure.table({name: bands[name] for name in BANDS}),
        "diagnosisFollowedDays": _quartiles(counts, disclosure, "diagnosis days"),
        "byDisorder": {
            name: {"followed": disclosure.shown(followed[name]), "notKnown": disclosure.shown(doubtful[name]),
                   "days": _quartiles(counts, disclosure, "disorder days", name)}
            for name in sorted({*followed, *doubtful})
        },
    }  # fmt: skip


def _quartiles(counts: Counts, disclosure: Disclosure, *heading: str) -> Json:
    return quartiles({int(days): number for days, number in table_of(counts, *heading).items()}, disclosure)
