"""Work done or ordered: tests, imaging, procedures, referrals; and medicines (ENCODING §2.7, §2.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cds_service.record.codes import Concept
from cds_service.record.decode import (
    CodeableConcept,
    DiagnosticReport,
    Encounter,
    ImagingStudy,
    MedicationAdministration,
    MedicationRequest,
    MedicationStatement,
    Observation,
    Procedure,
    Reference,
    ServiceRequest,
    codeable,
)
from cds_service.record.facts import Evidence, LabResult, Medication, Work
from cds_service.record.observations import COUNTED, When, when_of
from cds_service.record.reading import Reading
from cds_service.record.times import is_older_than
from cds_service.record.truth import FALSE, TRUE

WORK_CATEGORIES = frozenset({"procedure", "order", "referral", "specialty", "lab"})
NO_ORDER = frozenset({"proposal", "option"})
OPEN_ORDER = frozenset({"draft", "active", "on-hold"})
HELD_ENCOUNTER = frozenset({"arrived", "triaged", "in-progress", "onleave", "finished"})

WorkResource = Procedure | DiagnosticReport | ImagingStudy | ServiceRequest | Encounter | Observation
Prescribed = MedicationRequest | MedicationStatement | MedicationAdministration


def work_of(resource: WorkResource, reference: str, as_of: int, reading: Reading) -> list[Work]:
    """The work that a resource shows as done or ordered by ``as_of``; none when its status does not count."""
    match resource:
        case Encounter(serviceType=None):  # most of a chart's resources: of no kind that a workup asks for
            return []
        case Procedure(status="completed" | "in-progress"):
            when = when_of(resource.performedDateTime, resource.performedPeriod)
            return _work([resource.code], reference, when, False, as_of, reading)
        case DiagnosticReport(status=status) if status in COUNTED:
            when = when_of(resource.effectiveDateTime, resource.effectivePeriod)
            return _work([resource.code], reference, when, False, as_of, reading)
        case Observation(status=status) if status in COUNTED:
            coded = (resource, *resource.component)
            if not any(_is_work(part.code, reading) for part in coded):  # nearly every one
                return []
            when = when_of(resource.effectiveDateTime, resource.effectivePeriod, resource.effectiveInstant)
            parts = [part for part in coded if part.has_value]
            codes = [part.code for part in parts]
            if resource.hasMember or (parts and resource not in parts):
                codes.append(resource.code)
            return [
                work
                for work in _work(codes, reference, when, False, as_of, reading)
                if work.concept not in reading.analyte_of
            ]
        case ImagingStudy(status="available"):
            return _work(resource.procedureCode, reference, when_of(resource.started, None), False, as_of, reading)
        case ServiceRequest():
            return _requested(resource, reference, as_of, reading)
        case Encounter(status=status) if status in HELD_ENCOUNTER or status == "planned":
            when = when_of(None, resource.period) if resource.period is not None else When(None)
            ordered = status == "planned"
            return _work([resource.serviceType], reference, when, ordered, as_of, reading)
    return []


def _is_work(code: CodeableConcept, reading: Reading) -> bool:
    """Whether an Observation of this code shows work done; a measurement does so as a result."""
    return any(
        concept.category in WORK_CATEGORIES and concept.name not in reading.analyte_of
        for concept in reading.vocabulary.of(code)
    )


def work_of_results(results: Iterable[LabResult]) -> list[Work]:
    """A result that can be used is a measurement done; one without a readable value is none."""
    return [
        Work(concept=result.analyte, ordered=False, span=result.span,
             evidence=result.evidence._replace(value="done", unit=""))
        for result in results
        if not result.problem or (result.flags and result.span is not None)
    ]  # fmt: skip


def _requested(request: ServiceRequest, reference: str, as_of: int, reading: Reading) -> list[Work]:
    if request.intent in NO_ORDER or request.doNotPerform:
        return []
    authored = when_of(request.authoredOn, None)
    codes: list[CodeableConcept | None] = [request.code]
    if not reading.vocabulary.of(request.code):
        codes.append(request.performerType)
    if request.status in OPEN_ORDER:
        return _work(codes, reference, authored, True, as_of, reading)
    if request.status == "completed":
        when = when_of(request.occurrenceDateTime, request.occurrencePeriod)
        done = when if when.written else authored
        return _work(codes, reference, done, False, as_of, reading)
    return []


def _work(
    codes: Iterable[CodeableConcept | None], reference: str, when: When, ordered: bool, as_of: int,
    reading: Reading,
) -> list[Work]:  # fmt: skip
    """Work that lies after ``as_of`` is none yet; a planned encounter is an order, whenever it will be."""
    if when.span is not None and when.span.lo > as_of and not (ordered and reference.startswith("Encounter")):
        return []
    concepts: dict[Concept, None] = {}
    for code in codes:
        concepts.update(dict.fromkeys(c for c in reading.vocabulary.of(code) if c.category in WORK_CATEGORIES))
    if not concepts:
        return []
    return [
        Work(
            concept=concept.name,
            ordered=ordered,
            span=when.span,
            evidence=Evidence(reference, "code", concept.name, when.text, "ordered" if ordered else "done"),
        )
        for concept in concepts
    ]


def medications_of(
    resource: Prescribed, reference: str, as_of: int, reading: Reading,
    sent: Mapping[str, CodeableConcept | None],
) -> list[Medication]:  # fmt: skip
    """The medicines that a resource shows the patient to be on at ``as_of`` (ENCODING §2.7).

    ``sent`` holds the code of every Medication that came along, by reference; one entered in error names no medicine.
    """
    match resource:
        case MedicationRequest(status="active" | "on-hold"):
            if resource.intent in NO_ORDER or resource.doNotPerform:
                return []
            when = when_of(resource.authoredOn, None)
        case MedicationStatement(status="active"):
            when = when_of(resource.effectiveDateTime, resource.effectivePeriod)
        case MedicationAdministration(status="in-progress" | "completed"):
            when = when_of(resource.effectiveDateTime, resource.effectivePeriod)
        case _:
            return []
    if when.span is not None and when.span.lo > as_of:
        return []
    problem = ""
    if isinstance(resource, MedicationAdministration) and resource.status == "completed":
        if when.span is None:
            problem = "it is not known when it was given"
        elif (older := is_older_than(when.span, as_of, reading.administered_within)) is TRUE:
            return []
        elif older is not FALSE:
            problem = "it cannot be told whether it was given recently enough"
    code = resource.medicationCodeableConcept
    if code is None:
        code = _referenced(resource.medicationReference, resource.contained, sent)
    evidence = Evidence(reference, "medication[x]", "", when.text)
    if code is None:
        return [Medication(concept=None, evidence=evidence, problem="it does not say which medicine")]
    return [
        Medication(concept=c.name, evidence=evidence._replace(concept=c.name), problem=problem)
        for c in reading.vocabulary.of(code)
        if c.category.startswith("medication")
    ]


def _referenced(
    reference: Reference | None, contained: Iterable[Any], sent: Mapping[str, CodeableConcept | None]
) -> CodeableConcept | None:
    written = reference.reference if reference is not None else None
    if written is None:
        return None
    if written.startswith("#"):
        for resource in contained:
            if isinstance(resource, dict) and resource.get("id") == written[1:]:
                void = resource.get("status") == "entered-in-error"
                return None if void else codeable(resource.get("code"))
        return None
    if written in sent:
        return sent[written]
    return sent.get("/".join(written.split("/_history/")[0].split("/")[-2:]))
