"""An infant's chart replayed: what the hook would have said at each encounter, with only what was known then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from cds_service.errors import RequestError
from cds_service.hooks.cards import BASIS
from cds_service.hooks.respond import HookResponse, respond
from cds_service.population.answers import Asking, Rows, count_faults
from cds_service.population.attrition import NOT_EVALUATED, Counts
from cds_service.population.diagnoses import count_diagnoses, diagnoses_after, diagnoses_as_json, diagnoses_summary
from cds_service.population.disclosure import Disclosure
from cds_service.population.infant_request import Chart, Json, request_of
from cds_service.population.leads import BANDS, WhatFollowed
from cds_service.population.summary import require, table_of
from cds_service.population.work_followed import count_work, work_after, work_as_json
from cds_service.record.patient_record import PatientRecord
from cds_service.record.times import DAY, Span, iso, parse_span

# When a resource came to be known, by the first of these elements that it has (FHIR R4). A Patient always is.
KNOWN_BY: Mapping[str, tuple[str, ...]] = {
    "Observation": ("issued", "effectiveDateTime", "effectiveInstant", "effectivePeriod"),
    "Condition": ("recordedDate", "onsetDateTime", "onsetPeriod"),
    "Procedure": ("performedDateTime", "performedPeriod"),
    "DiagnosticReport": ("issued", "effectiveDateTime", "effectivePeriod"),
    "ImagingStudy": ("started",),
    "ServiceRequest": ("authoredOn",),
    "Encounter": ("period",),
    "MedicationRequest": ("authoredOn",),
    "MedicationStatement": ("dateAsserted", "effectiveDateTime", "effectivePeriod"),
    "MedicationAdministration": ("effectiveDateTime", "effectivePeriod"),
    "Specimen": ("receivedTime",),
}
ENCOUNTERS = "encounters"
REFUSED = "the chart as a whole is refused"


def known_at(resource: Json) -> Span | None:
    """When the resource came to be known: its first instant and its last; None when it does not say."""
    for element in KNOWN_BY.get(resource["resourceType"], ()):
        value = resource.get(element)
        span = parse_span(value.get("start") if isinstance(value, dict) else value)
        if span is not None:
            return span
    return None


def as_it_was(resource: Json, moment: int) -> Json:
    """The resource without what lies after the moment: an end of a Condition, the finish of an Encounter."""
    if resource["resourceType"] == "Condition":
        ended = parse_span(resource.get("abatementDateTime"))
        if ended is not None and ended.lo > moment:
            return {key: value for key, value in resource.items()
                    if key not in ("abatementDateTime", "clinicalStatus")}  # fmt: skip
    if resource["resourceType"] == "Encounter" and isinstance(resource.get("period"), dict):
        ended = parse_span(resource["period"].get("end"))
        if ended is not None and ended.lo > moment and resource.get("status") == "finished":
            return resource | {"status": "in-progress", "period": {"start": resource["period"].get("start")}}
    return resource


def moments(resources: Iterable[Json], until: int) -> list[int]:
    """The start of every encounter up to a moment; of one dated by the day, the end of that day."""
    starts = {
        span.hi for resource in resources if resource["resourceType"] == "Encounter"
        if (span := known_at(resource)) is not None
    }  # fmt: skip
    return sorted(start for start in starts if start <= until)


def replay_patient(chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking, counts: Counts) -> Rows:
    """The first card that would have come, at which encounter; what work and which diagnosis followed, and when."""
    return replay(chart, medications, asking, counts, moments(chart.resources, asking.as_of), ENCOUNTERS)


def replay(
    chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking, counts: Counts, when: Sequence[int],
    asked_at: str,
) -> Rows:  # fmt: skip
    """The same at these moments, the earliest first. ``asked_at``: what they are, such as ``encounters``."""
    counts["patients",] += 1
    count_faults(chart, counts)
    known = [(known_at(resource), resource) for resource in chart.resources]
    counts[asked_at,] += len(when)
    first: tuple[int, HookResponse] | None = None
    firsts: dict[str, str] = {}
    said = asked = 0
    for moment in when:
        response = _at(moment, chart, known, medications, asking)
        if response is None:
            continue
        asked += 1
        if not response.body["cards"]:
            continue
        said += 1
        first = first or (moment, response)
        for card in response.body["cards"]:
            for rule in card["extension"][BASIS]["rules"]:
                firsts.setdefault(rule["id"], iso(moment))
    counts[f"{asked_at} not evaluated",] += len(when) - asked
    if first is None:
        counts["first card", silent(asked_at) if asked else NOT_EVALUATED] += 1
        return Rows({})
    counts["first card", first[1].body["cards"][0]["indicator"]] += 1
    for name in firsts:
        counts["rule", name] += 1
    whole = _whole(chart, medications, asking)
    work = diagnosed = WhatFollowed((), missing=(REFUSED,))
    if whole is not None:
        workups = (item["id"] for card in first[1].body["cards"] for item in card["extension"][BASIS]["workups"])
        work = work_after(first[0] // DAY, workups, whole, asking.library)
        diagnosed = diagnoses_after(first[0], known, whole)
    row: Json = {
        "patient": chart.patient, asked_at: len(when), "withCards": said, "firstCard": iso(first[0]),
        "urgency": first[1].body["cards"][0]["indicator"], "firstByRule": firsts,
        **work_as_json(work), **diagnoses_as_json(diagnosed),
    }  # fmt: skip
    count_work(work, counts)
    count_diagnoses(diagnosed, counts)
    return Rows({"replay": [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)]})


def silent(asked_at: str) -> str:
    """Where an infant counts who could be asked about at one of the moments at least, and got a card at none."""
    return f"at no {asked_at.removesuffix('s')}"


def _at(
    moment: int, chart: Chart, known: Sequence[tuple[Span | None, Json]], medications: Mapping[str, Sequence[Json]],
    asking: Asking,
) -> HookResponse | None:  # fmt: skip
    """The answer at the moment; None when it is refused, or the patient is recorded as deceased.

    A resource that does not say when it was known leaves its type in doubt.
    """
    here, undated = [], set()
    for span, resource in known:
        kind = resource["resourceType"]
        if kind == "Patient" or (span is not None and span.hi <= moment):
            here.append(as_it_was(resource, moment))
        elif span is None or span.lo <= moment:
            undated.add(kind)
    request = request_of(chart, here, medications, asking.exported, undated)
    try:
        response = respond(request, asking.library, moment, asking.public_url)
    except RequestError:
        return None
    return None if response.record.facts.deceased else response


def _whole(chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking) -> PatientRecord | None:
    """The record with all that is known today; None when it is refused."""
    request = request_of(chart, chart.resources, medications, asking.exported)
    try:
        return respond(request, asking.library, asking.as_of, asking.public_url).record
    except RequestError:
        return None


def replay_summary(counts: Counts, run: Mapping[str, Any], exact: bool, asked_at: str) -> Json:
    """How urgent the first card would have been, by which rules one ever came, and how early before what followed."""
    disclosure = Disclosure(exact)
    firsts, leads = table_of(counts, "first card"), table_of(counts, "lead")
    require("patients replayed", firsts.total(), counts["patients",])
    with_card = counts["patients",] - firsts[silent(asked_at)] - firsts[NOT_EVALUATED]
    require("first cards", leads.total(), with_card)
    require("first cards, by diagnosis", table_of(counts, "diagnosis").total(), with_card)
    return {
        "run": dict(run), "numbers": disclosure.told, "patients": disclosure.shown(counts["patients",]),
        asked_at: counts[asked_at,], f"{asked_at}NotEvaluated": counts[f"{asked_at} not evaluated",],
        "firstCard": disclosure.table(firsts),
        "byRule": disclosure.table(table_of(counts, "rule")),
        "orderOrWorkFollowedAfter": disclosure.table({name: leads[name] for name in BANDS}),
        **diagnoses_summary(counts, disclosure),
    }  # fmt: skip
