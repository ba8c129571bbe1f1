"""The short hand of cases → FHIR R4 resources.

finding: ankle_clonus            an Observation; with `as: condition` a Condition
on: -3 d | 2026-01-02 | none     when, relative to the as-of day, absolute, or undated
frequency: clustered, beats: 12  qualifiers, as in a rule
lab: glucose, value: 45 mg/dL    a result; flag: L, range: "3 - 6"
done: eeg, ordered: mri_brain    a Procedure or an active ServiceRequest
medication: med_vigabatrin       an active MedicationRequest
gestation: 34 wk                 gestational age at birth
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from cds_service.record.codes import UCUM
from cds_service.record.reading import Reading

CONDITION_STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
FLAGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
COUNTS = {"beats": "{beats}", "event_count": "1"}


class FactWriter:
    """Writes the facts of one case as resources of one patient."""

    def __init__(self, reading: Reading, as_of: str, patient: str) -> None:
        self._reading = reading
        self._day = date.fromisoformat(as_of[:10])
        self._subject = {"reference": f"Patient/{patient}"}
        self._patient = patient
        self._next = 0

    def patient(self, born: str | None) -> dict[str, Any]:
        """The Patient, born so long before the as-of day, or on a date; without a birth date when not said."""
        resource: dict[str, Any] = {"resourceType": "Patient", "id": self._patient}
        if born is not None:
            resource["birthDate"] = self._when(born)
        return resource

    def resource(self, fact: Mapping[str, Any]) -> dict[str, Any]:
        """The resource that states one fact."""
        self._next += 1
        head: dict[str, Any] = {"id": f"f{self._next}", "subject": self._subject}
        match fact:
            case {"finding": str(name)} if fact.get("as") == "condition":
                return {**head, **self._condition(name, fact)}
            case {"finding": str(name)}:
                return {**head, **self._observation(name, fact)}
            case {"lab": str(name)}:
                return {**head, **self._lab(name, fact)}
            case {"done": str(name)}:
                performed = self._dated("performedDateTime", fact)
                status = fact.get("status", "completed")
                return {**head, "resourceType": "Procedure", "status": status, "code": self._code(name), **performed}
            case {"ordered": str(name)}:
                return {
                    **head, "resourceType": "ServiceRequest", "status": fact.get("status", "active"),
                    "intent": fact.get("intent", "order"), "code": self._code(name),
                    **self._dated("authoredOn", fact),
                }  # fmt: skip
            case {"encounter": str(name)}:
                period = {"start": self._when(fact.get("on", "0 d"))}
                return {**head, "resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"},
                        "serviceType": self._code(name), "period": period}  # fmt: skip
            case {"medication": str(name)}:
                return {
                    **head, "resourceType": "MedicationRequest", "status": fact.get("status", "active"),
                    "intent": "order", "medicationCodeableConcept": self._code(name),
                    **self._dated("authoredOn", fact),
                }  # fmt: skip
            case {"administered": str(name)}:
                return {
                    **head, "resourceType": "MedicationAdministration", "status": fact.get("status", "completed"),
                    "medicationCodeableConcept": self._code(name), **self._dated("effectiveDateTime", fact),
                }  # fmt: skip
            case {"gestation": str(amount)}:
                value, unit = amount.split()
                return {
                    **head, "resourceType": "Observation", "status": "final",
                    "code": self._code("gestational_age_birth"),
                    "effectiveDateTime": self._when(fact.get("on", "0 d")),
                    "valueQuantity": {"value": float(value), "system": UCUM, "code": unit},
                }  # fmt: skip
        raise ValueError(f"no kind of fact has the keys {sorted(fact)}")

    def _observation(self, name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "resourceType": "Observation", "status": fact.get("status", "final"), "code": self._code(name),
            **self._dated("effectiveDateTime", fact),
        }  # fmt: skip
        if "present" in fact:
            resource["valueBoolean"] = fact["present"]
        components = self._qualifiers(fact)
        if components:
            resource["component"] = components
        return resource

    def _condition(self, name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "resourceType": "Condition", "code": self._code(name),
            "clinicalStatus": _status(CONDITION_STATUS, fact.get("clinical", "active")),
            "verificationStatus": _status(VERIFICATION, fact.get("verification", "confirmed")),
        }  # fmt: skip
        if "on" in fact:
            resource.update(self._dated("onsetDateTime", fact))
        extensions = [
            {
                "url": self._reading.qualifier_extension,
                "extension": [
                    {"url": "code", "valueCode": part["code"]["coding"][0]["code"]},
                    {"url": "value", **{key: value for key, value in part.items() if key != "code"}},
                ],
            }
            for part in self._qualifiers(fact)
        ]
        if extensions:
            resource["extension"] = extensions
        return resource

    def _qualifiers(self, fact: Mapping[str, Any]) -> list[dict[str, Any]]:
        system = self._reading.qualifier_system
        parts = []
        for key, said in fact.items():
            name = key.replace("_", "-")
            code = {"coding": [{"system": system, "code": name}]}
            if name in self._reading.coded_qualifiers:
                for value in said if isinstance(said, list) else [said]:
                    concept = {"coding": [{"system": system, "code": value}]}
                    parts.append({"code": code, "valueCodeableConcept": concept})
            elif name == "vigorous":
                parts.append({"code": code, "valueBoolean": said})
            elif key in COUNTS:
                parts.append({"code": code, "valueInteger": said})
            elif name == "duration":
                value, unit = said.split()
                quantity = {"value": float(value), "system": UCUM, "code": unit}
                parts.append({"code": code, "valueQuantity": quantity})
        return parts

    def _lab(self, name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "resourceType": "Observation", "status": fact.get("status", "final"), "code": self._code(name),
            **self._dated("effectiveDateTime", fact),
        }  # fmt: skip
        value, _, unit = fact.get("value", "").partition(" ")
        if value:
            resource["valueQuantity"] = {"value": float(value)}
            if unit:
                resource["valueQuantity"] |= {"system": UCUM, "code": unit, "unit": unit}
        if "flag" in fact:
            resource["interpretation"] = [{"coding": [{"system": FLAGS, "code": fact["flag"]}]}]
        if "range" in fact:
            low, high = fact["range"].split(" - ")
            quantity = {"system": UCUM, "code": unit}
            resource["referenceRange"] = [
                {"low": {"value": float(low), **quantity}, "high": {"value": float(high), **quantity}}
            ]
        return resource

    def _code(self, name: str) -> dict[str, Any]:
        system, code = self._reading.vocabulary.example_of(name)
        return {"coding": [{"system": system, "code": code}]}

    def _dated(self, element: str, fact: Mapping[str, Any]) -> dict[str, str]:
        written = fact.get("on", "0 d")
        return {} if written == "none" else {element: self._when(written)}

    def _when(self, written: str) -> str:
        amount, _, unit = written.partition(" ")
        if unit not in ("d", "wk"):
            return written
        return (self._day + timedelta(days=int(amount) * (7 if unit == "wk" else 1))).isoformat()


def _status(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
