"""The draft order that a suggestion carries: a FHIR R4 ServiceRequest as a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cds_service.record.facts import Evidence
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Urgency, Workup

REASON_TYPES = ("Condition", "Observation", "DiagnosticReport", "DocumentReference")


def service_request(
    workup: Workup, urgency: Urgency, patient_id: str, evidence: Sequence[Evidence], library: RuleLibrary,
    encounter_id: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A draft order of the workup as a proposal, with the evidence as its reason (FHIR R4 ServiceRequest)."""
    if workup.order is None:
        raise ValueError(f"{workup.id} is advice, not an order")
    request: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "proposal",
        "code": {
            "coding": [{"system": workup.order.system, "code": workup.order.code, "display": workup.order.display}],
            "text": workup.label,
        },
        "subject": {"reference": f"Patient/{patient_id}"},
    }
    if urgency is Urgency.CRITICAL:
        request["priority"] = "urgent"
    if encounter_id is not None:
        request["encounter"] = {"reference": f"Encounter/{encounter_id}"}
    references = [
        item.reference for item in evidence if item.reference.startswith(REASON_TYPES) and "/" in item.reference
    ]
    if references:
        request["reasonReference"] = [{"reference": reference} for reference in dict.fromkeys(references)]
    else:
        names = dict.fromkeys(item.concept for item in evidence if item.concept in library.reading.vocabulary.concepts)
        reasons = [{"text": library.reading.vocabulary.concepts[name].display} for name in names]
        request["reasonCode"] = reasons or [{"text": workup.label}]
    return request
