"""A file with one patient → the same answer that the hook gives, with the reasons of every rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cds_service.errors import InputError, MalformedJson
from cds_service.hooks.request import HOOK, HookRequest, parse_request
from cds_service.hooks.respond import HookResponse
from cds_service.hooks.strict_json import load
from cds_service.record.facts import Evidence
from cds_service.record.sources import PATIENT_KEY, SOURCES
from cds_service.rules.evaluate import Evaluation

UUID = "urn:uuid:"
INSTANCE = "00000000-0000-4000-8000-000000000000"


def read_request(name: str, content: bytes) -> HookRequest:
    """The request in a file, or one made of a Bundle or NDJSON of one patient with every query answered.

    Raises InputError when the file is none of these, or holds no patient or several.
    """
    try:
        value = load(content)
    except MalformedJson as problem:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise InputError(f"{name}: {problem.text}") from None
        read = [_line(name, number, line) for number, line in enumerate(lines, 1)]
        return _of_resources(name, [(resource, name_in_transaction(resource)) for resource in read])
    if isinstance(value, dict) and value.get("resourceType") == "Bundle":
        entries = value.get("entry", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{name}: the Bundle's entries are not objects")
        return _of_resources(name, [(entry.get("resource"), entry.get("fullUrl")) for entry in entries])
    if isinstance(value, dict) and "hook" in value:
        return parse_request(content)
    if isinstance(value, dict) and isinstance(value.get("resourceType"), str):
        return _of_resources(name, [(value, None)])
    raise InputError(f"{name}: it is no CDS Hooks request, no Bundle and no NDJSON of FHIR resources")


def _line(name: str, number: int, line: bytes) -> Any:
    try:
        return load(line)
    except MalformedJson as problem:
        raise InputError(f"{name}:{number}: {problem.text}") from None


def name_in_transaction(resource: Any) -> str | None:
    """What the entries of a transaction call each other: in NDJSON made of one, nothing else is left of a fullUrl."""
    return f"{UUID}{resource['id']}" if isinstance(resource, dict) and "id" in resource else None


def _of_resources(name: str, resources: Sequence[tuple[Any, Any]]) -> HookRequest:
    found = [(resource, url) for resource, url in resources if isinstance(resource, dict)]
    patients = [resource for resource, _ in found if resource.get("resourceType") == "Patient"]
    ids = Counter(str(patient.get("id")) for patient in patients)
    if len(ids) != 1:
        raise InputError(f"{name}: it holds {len(ids)} patients; one is needed")
    prefetch: dict[str, Any] = {PATIENT_KEY: patients[0]}
    for kind, key in SOURCES.items():
        companions = ("Medication",) if kind == "MedicationRequest" else ()
        entries = [
            {"resource": resource, **({"fullUrl": url} if isinstance(url, str) else {})}
            for resource, url in found
            if resource.get("resourceType") in (kind, *companions)
        ]
        prefetch[key] = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    url = next((url for resource, url in found if resource is patients[0]), None)
    if isinstance(url, str):
        prefetch[PATIENT_KEY] = {
            "resourceType": "Bundle", "type": "searchset", "entry": [{"fullUrl": url, "resource": patients[0]}],
        }  # fmt: skip
    return HookRequest(
        hook_instance=INSTANCE, user_id="Practitioner/explain", patient_id=next(iter(ids)), encounter_id=None,
        fhir_server=None, prefetch=prefetch, as_of=None, authorized=False,
    )  # fmt: skip


def as_json(response: HookResponse) -> dict[str, Any]:
    """Outcomes, reasons and the answer, for other programs to read."""
    return {"hook": HOOK, "rules": [rule_as_json(e) for e in response.evaluations], "response": response.body}


def rule_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """What one rule says: outcome, every criterion with its evidence, what was missing, and the workups."""
    return {
        "rule": evaluation.rule.id,
        "version": evaluation.rule.version,
        "outcome": evaluation.outcome.value,
        "missing": list(evaluation.missing),
        "reasons": [
            {
                "criterion": reason.name,
                "answer": reason.truth.word,
                "evidence": [_evidence(item) for item in reason.evidence],
                "missing": list(reason.missing),
            }
            for reason in evaluation.reasons
        ],
        "workups": [
            {
                "id": item.workup.id,
                "urgency": item.urgency.indicator,
                "takenCareOf": item.taken_care_of.truth.word,
                "by": [_evidence(part) for part in item.taken_care_of.evidence],
            }
            for item in evaluation.suggested
        ],
    }


def _evidence(item: Evidence) -> Mapping[str, str]:
    return {name: value for name, value in zip(Evidence._fields, item, strict=True) if value}
