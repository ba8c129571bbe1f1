"""What an unreadable resource could have said: so much, and no more, becomes unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from cds_service.record.ages import Gestation
from cds_service.record.codes import plain_codes
from cds_service.record.decode import CodeableConcept, codeable
from cds_service.record.facts import Evidence, Finding, LabResult, Medication, Presence, Qualifiers
from cds_service.record.observations import finding_concepts
from cds_service.record.reading import Reading
from cds_service.record.sources import MEDICATION_SOURCES, SOURCES
from cds_service.record.truth import UNKNOWN

ANYTHING = Qualifiers(unreadable=frozenset({"*"}))


class Lost(Struct, kw_only=True):
    """The facts that are now unknown; ``sources`` when it cannot be told which, so that any may be hidden."""

    sources: frozenset[str] = frozenset()
    findings: list[Finding] = []
    labs: list[LabResult] = []
    medications: list[Medication] = []
    gestation: Gestation | None = None


def is_void(resource: Mapping[str, Any]) -> bool:
    """Whether an unreadable resource says of itself, legibly, that it was entered in error or cancelled."""
    if resource.get("status") in ("entered-in-error", "cancelled"):
        return True
    return "entered-in-error" in plain_codes(codeable(resource.get("verificationStatus")))


def what_is_lost(resource: Mapping[str, Any], reference: str, reason: str, reading: Reading) -> Lost:
    """The findings, results and medicines whose codes can still be read; else the whole resource type."""
    kind = str(resource.get("resourceType"))
    everything = Lost(sources=frozenset({kind}))
    if kind in MEDICATION_SOURCES:
        return _medicines(resource, reference, reason, reading)
    if kind not in ("Observation", "Condition", "Procedure"):
        return everything if kind in SOURCES else Lost()
    concepts = _codes(resource) if kind == "Observation" else [codeable(resource.get("code"))]
    lost = Lost()
    for concept in concepts:
        if concept is None:
            return everything
        for found in finding_concepts(concept, reading):
            if kind != "Procedure" or found.name in reading.birth_events:
                lost.findings.append(_unknown_finding(found.name, reference, reason))
        for known in reading.vocabulary.of(concept):
            evidence = Evidence(reference, "code", known.name)
            if known.name in reading.gestation_concepts:
                lost.gestation = Gestation(UNKNOWN, 0.0, evidence, "the gestational age cannot be read")
            elif known.name in reading.analyte_of:
                lost.labs.append(
                    LabResult(analyte=known.name, span=None, flags=frozenset(), scale=None, value=None,
                              ranges=(), evidence=evidence, problem=reason)
                )  # fmt: skip
    return lost


def _codes(resource: Mapping[str, Any]) -> list[CodeableConcept | None]:
    """Every place of an Observation where a code can name a fact; None where one is there but unreadable."""
    concepts = [codeable(resource.get("code"))]
    if "valueCodeableConcept" in resource:
        concepts.append(codeable(resource["valueCodeableConcept"]))
    components = resource.get("component", [])
    if not isinstance(components, list) or not all(isinstance(part, dict) for part in components):
        return [*concepts, None]
    for part in components:
        concepts.append(codeable(part.get("code")))
        if "valueCodeableConcept" in part:
            concepts.append(codeable(part["valueCodeableConcept"]))
    return concepts


def _unknown_finding(name: str, reference: str, reason: str) -> Finding:
    return Finding(
        concept=name, origin=-1, presence=Presence.UNKNOWN, confirmed=UNKNOWN, span=None, start=None, ongoing=False,
        from_condition=False, qualifiers=ANYTHING, evidence=Evidence(reference, "code", name), problem=reason,
    )  # fmt: skip


def _medicines(resource: Mapping[str, Any], reference: str, reason: str, reading: Reading) -> Lost:
    concept = codeable(resource.get("medicationCodeableConcept"))
    evidence = Evidence(reference, "medication[x]", "")
    if concept is None:
        return Lost(medications=[Medication(concept=None, evidence=evidence, problem=reason)])
    return Lost(
        medications=[
            Medication(concept=known.name, evidence=evidence._replace(concept=known.name), problem=reason)
            for known in reading.vocabulary.of(concept)
            if known.category.startswith("medication")
        ]
    )
