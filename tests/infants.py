"""Builders of made-up infants as FHIR R4 JSON, and readers of what the service answers about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from cds_service.hooks.request import AS_OF as AS_OF_EXTENSION
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import EVALUATION, HookResponse, respond
from cds_service.record.sources import SOURCES
from cds_service.rules.library import RuleLibrary, load_library

Json = dict[str, Any]

BASE = "https://infant-motor-cds.example/fhir"
FINDING = f"{BASE}/CodeSystem/finding"
QUALIFIER = f"{BASE}/CodeSystem/movement-qualifier"
QUALIFIER_EXTENSION = f"{BASE}/StructureDefinition/movement-qualifier"
BASIS = "example.infant-motor-cds.basis"
SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
HPO = "http://human-phenotype-ontology.org"
UCUM = "http://unitsofmeasure.org"
FLAG = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
ABSENT_REASON = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]}
DATA_ABSENT = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
}

AS_OF = "2026-11-22"
YESTERDAY = "2026-11-21"
BIRTH = "2026-07-10"  # four months old on AS_OF
NEWBORN = "2026-11-12"  # ten days old on AS_OF
SUBJECT = {"reference": "Patient/p1"}
R = {  # rule files, by the number of the draft
    "R01": "infantile-spasms-eeg", "R02": "jerk-with-stiffening-or-flexion", "R03": "clustered-awake-jerks",
    "R08": "movement-with-seizure-or-lost-consciousness", "R10": "seizure-first-workup",
    "R13": "clonus-persistent-or-bilateral", "R15": "clonus-with-upper-motor-neuron-signs",
    "R18": "lower-limb-signs-with-spinal-disorder", "R22": "tremor-persistent-severe-or-frequent",
    "R25": "movement-with-infection-signs", "R26": "nervous-system-infection-suspected",
    "R29": "low-glucose-with-movement", "R30": "low-calcium-with-movement", "R39": "dystonia-structural-workup",
    "R40": "dystonia-cause-testing", "R43": "newborn-jitteriness-reassurance", "R44": "sleep-jerks-reassurance",
    "R45": "occasional-newborn-clonus-reassurance", "R46": "mild-tremor-first-year-reassurance",
    "R47": "tremor-past-six-months", "R56": "clonus-after-newborn-weeks"}  # fmt: skip
_VALUESETS = Path(__file__).parent.parent / "cards" / "valuesets"
_numbers = count(1)


@cache
def codes_of(concept: str) -> tuple[tuple[str, str], ...]:
    """Every (system, code) of a concept's value set."""
    content = json.loads((_VALUESETS / f"{concept.replace('_', '-')}.json").read_text())
    return tuple(
        (part["system"], code["code"]) for part in content["compose"]["include"] for code in part.get("concept", [])
    )


def coding(concept: str, system: str | None = None) -> Json:
    """The first coding of a concept, of one system when it is named."""
    found = next((c for c in codes_of(concept) if system in (None, c[0])), None)
    if found is None:
        raise LookupError(f"{concept} has no code in {system}")
    return {"system": found[0], "code": found[1]}


def codeable(concept: str | Json, system: str | None = None) -> Json:
    """A CodeableConcept of a concept; one that is written out stays as it is."""
    return {"coding": [coding(concept, system)]} if isinstance(concept, str) else concept


def coded(system: str | None, code: str | None, **more: Any) -> Json:
    """A CodeableConcept with one coding written out."""
    pairs = {"system": system, "code": code}
    return {"coding": [{k: v for k, v in pairs.items() if v is not None}], **more}


def quantity(value: float, unit: str | None = None, **more: Any) -> Json:
    """A Quantity in UCUM; without a unit it has a bare number."""
    return {"value": value, **({"unit": unit, "system": UCUM, "code": unit} if unit else {}), **more}


def resource(kind: str, /, **elements: Any) -> Json:
    """A resource of the patient with an id of its own; an element that is None is left out."""
    filled = {"resourceType": kind, "id": f"n{next(_numbers)}", "subject": SUBJECT, **elements}
    return {name: value for name, value in filled.items() if value is not None}


def _said(value: Any) -> Json:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, tuple):
        return {"valueQuantity": quantity(*value)}
    return {"valueCodeableConcept": coded(QUALIFIER, value) if isinstance(value, str) else value}


def qualifier(name: str, value: Any) -> Json:
    """A component: text is one of our codes, a tuple a quantity, a dict a CodeableConcept as written."""
    return {"code": coded(QUALIFIER, name), **_said(value)}


def qualifier_extension(name: str, value: Any) -> Json:
    """The same on a Condition, as the extension."""
    parts = [{"url": "code", "valueCode": name}, {"url": "value", **_said(value)}]
    return {"url": QUALIFIER_EXTENSION, "extension": parts}


def observation(
    concept: str | Json, on: str | None = YESTERDAY, *said: tuple[str, Any], system: str | None = None, **elements: Any
) -> Json:
    """An Observation of a finding with the qualifiers ``said``."""
    parts = [qualifier(*item) for item in said] + elements.pop("component", [])
    return resource("Observation", **{
        "status": "final", "code": codeable(concept, system), "effectiveDateTime": on, "component": parts or None,
        **elements,
    })  # fmt: skip


def condition(
    concept: str | Json, onset: str | None = None, *said: tuple[str, Any], system: str | None = None,
    clinical: str | None = "active", verification: str | None = "confirmed", **elements: Any,
) -> Json:  # fmt: skip
    """A Condition, active and confirmed unless told otherwise."""
    return resource("Condition", **{
        "clinicalStatus": coded(CLINICAL, clinical) if clinical else None,
        "verificationStatus": coded(VERIFICATION, verification) if verification else None,
        "code": codeable(concept, system), "onsetDateTime": onset,
        "extension": [qualifier_extension(*item) for item in said] or None, **elements,
    })  # fmt: skip


def reference_range(low: float | None, high: float | None, unit: str | None, **more: Any) -> list[Json]:
    """Observation.referenceRange."""
    ends = {"low": low, "high": high}
    return [{**{k: quantity(v, unit) for k, v in ends.items() if v is not None}, **more}]


def lab(
    concept: str | Json, value: float | None, unit: str | None, on: str | None = YESTERDAY, *,
    flagged: str | None = None, comparator: str | None = None, **elements: Any,
) -> Json:  # fmt: skip
    """A laboratory Observation (also a body temperature or a gestational age)."""
    number = None if value is None else quantity(value, unit, **({"comparator": comparator} if comparator else {}))
    marks = [coded(FLAG, flagged)] if flagged else None
    return observation(concept, on, **{"valueQuantity": number, "interpretation": marks, **elements})


def gestation(amount: float, unit: str = "wk", **elements: Any) -> Json:
    """The gestational age at birth."""
    return lab("gestational_age_birth", amount, unit, **{"on": NEWBORN, **elements})


def procedure(concept: str, on: str | None = YESTERDAY, **elements: Any) -> Json:
    """A Procedure that was completed."""
    filled = {"status": "completed", "code": codeable(concept), "performedDateTime": on, **elements}
    return resource("Procedure", **filled)


def order(concept: str | Json, on: str | None = YESTERDAY, **elements: Any) -> Json:
    """A ServiceRequest that is active."""
    filled = {"status": "active", "intent": "order", "code": codeable(concept), "authoredOn": on, **elements}
    return resource("ServiceRequest", **filled)


def medicine(kind: str, concept: str | None, **elements: Any) -> Json:
    """A MedicationRequest, MedicationStatement or MedicationAdministration."""
    named = {} if concept is None else {"medicationCodeableConcept": codeable(concept)}
    intent = {"intent": "order"} if kind == "MedicationRequest" else {}
    return resource(kind, **{"status": "active", **intent, **named, **elements})


def bundle(*resources: Json, **elements: Any) -> Json:
    """A searchset Bundle."""
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources], **elements}


def request(
    *resources: Json, birth: str | None = BIRTH, as_of: str | None = AS_OF, patient: Mapping[str, Any] | None = None,
    prefetch: Mapping[str, Any] | None = None, without: tuple[str, ...] = (), **members: Any,
) -> Json:  # fmt: skip
    """A patient-view request with every key answered; ``prefetch`` replaces keys, ``without`` drops them."""
    person = {"resourceType": "Patient", "id": "p1", **({"birthDate": birth} if birth else {}), **(patient or {})}
    keys: Json = {key: [] for key in SOURCES.values()}
    for item in resources:
        keys[SOURCES.get(item["resourceType"], "medicationRequests")].append(item)
    sent: Json = {"patient": person, **{key: bundle(*found) for key, found in keys.items()}, **(prefetch or {})}
    return {
        "hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/x", "patientId": "p1"},
        "prefetch": {key: value for key, value in sent.items() if key not in without},
        **({"extension": {AS_OF_EXTENSION: as_of}} if as_of else {}), **members,
    }  # fmt: skip


@cache
def library() -> RuleLibrary:
    """The knowledge pack, read once."""
    return load_library()


def ask(asked: Json, rules: RuleLibrary | None = None) -> HookResponse:
    """What the service answers to a request, by the packaged rules or by others."""
    parsed = parse_request(json.dumps(asked).encode())
    assert parsed.as_of is not None
    return respond(parsed, library() if rules is None else rules, parsed.as_of, "http://127.0.0.1:8080")


def infant(*resources: Json, **how: Any) -> HookResponse:
    """What the service answers about an infant with these resources; ``how`` as in request."""
    return ask(request(*resources, **how))


def workups(response: HookResponse) -> dict[str, str]:
    """Every workup that the cards suggest, with its urgency."""
    return {w["id"]: w["urgency"] for card in response.body["cards"] for w in card["extension"][BASIS]["workups"]}


def outcome(response: HookResponse, rule: str) -> str:
    """The outcome of a rule, by its id or its number in the draft."""
    return next(e.outcome.value for e in response.evaluations if e.rule.id == R.get(rule, rule))


def report(response: HookResponse) -> Json:
    """The machine-readable evaluation of the response."""
    found: Json = response.body["extension"][EVALUATION]
    return found


def not_evaluated(response: HookResponse) -> dict[str, list[str]]:
    """The rules that want data, with what is missing."""
    return {item["rule"]: item["missing"] for item in report(response).get("notEvaluated", [])}


def presence(response: HookResponse, concept: str) -> str:
    """What the record makes of a finding: present, unknown, denied or not recorded."""
    state = response.record.finding(concept)
    for name in ("present", "unknown", "denied"):
        if getattr(state, name):
            return name
    return "not recorded"
