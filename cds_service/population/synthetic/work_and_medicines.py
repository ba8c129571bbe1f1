"""Work done or ordered and medicines, in every resource type that may say so (tables DONE, ORDERED, MEDICINES)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from cds_service.population.synthetic.findings import RECENT, STATUSES
from cds_service.population.synthetic.infant_chart import InfantChart, Json
from cds_service.population.synthetic.results import quantity

CLASS = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
MODALITY = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "OT"}
OPEN = ("draft", "active", "on-hold")
INTENTS = ("order", "original-order", "plan", "reflex-order")
Writer = Callable[[InfantChart, str, date], str]


def _procedure(chart: InfantChart, name: str, day: date) -> str:
    return chart.add(
        "Procedure", {"status": "completed", "code": chart.code(name), "performedDateTime": day.isoformat()}
    )


def _report(chart: InfantChart, name: str, day: date) -> str:
    status = chart.one_of(STATUSES)
    return chart.add(
        "DiagnosticReport", {"status": status, "code": chart.code(name), "effectiveDateTime": day.isoformat()}
    )


def _imaging(chart: InfantChart, name: str, day: date) -> str:
    started = f"{day.isoformat()}T10:15:00Z"
    modality = {"modality": [MODALITY]}
    return chart.add(
        "ImagingStudy", {"status": "available", "started": started, "procedureCode": [chart.code(name)], **modality}
    )


def _completed_order(chart: InfantChart, name: str, day: date) -> str:
    order = {"status": "completed", "intent": "order", "code": chart.code(name)}
    return chart.add("ServiceRequest", order | {"authoredOn": day.isoformat(), "occurrenceDateTime": day.isoformat()})


def _encounter(chart: InfantChart, name: str, day: date) -> str:
    period = {"start": day.isoformat(), "end": day.isoformat()}
    return chart.add(
        "Encounter", {"status": "finished", "class": CLASS, "serviceType": chart.code(name), "period": period}
    )


def _order(chart: InfantChart, name: str, day: date) -> str:
    order = {"status": chart.one_of(OPEN), "intent": chart.one_of(INTENTS), "code": chart.code(name)}
    return chart.add("ServiceRequest", order | {"authoredOn": day.isoformat()})


def _order_by_performer(chart: InfantChart, name: str, day: date) -> str:
    order = {"status": "active", "intent": "order", "code": {"text": "Consultation"}, "performerType": chart.code(name)}
    return chart.add("ServiceRequest", order | {"authoredOn": day.isoformat()})


def _planned_encounter(chart: InfantChart, name: str, day: date) -> str:
    period = {"start": (chart.day + timedelta(days=chart.rng.randint(3, 30))).isoformat()}
    return chart.add(
        "Encounter", {"status": "planned", "class": CLASS, "serviceType": chart.code(name), "period": period}
    )


DONE: Mapping[str, Writer] = {
    "procedure": _procedure, "diagnostic-report": _report, "imaging-study": _imaging,
    "completed-order": _completed_order, "encounter": _encounter,
}  # fmt: skip
ORDERED: Mapping[str, Writer] = {
    "order": _order, "order-by-performer": _order_by_performer, "planned-encounter": _planned_encounter,
}  # fmt: skip
USUAL = ("procedure", "diagnostic-report", "completed-order")


def state_done(chart: InfantChart, fact: Mapping[str, Any]) -> None:
    """Plant a test, imaging or visit that has been done."""
    name = chart.drawn(fact["done"])
    usual = (*USUAL, "imaging-study") if name in chart.content.data["imaging"] else USUAL
    form = chart.drawn(fact.get("as", usual))
    reference = DONE[form](chart, name, chart.day_ago(fact.get("days_ago", RECENT)))
    chart.plant("present", reference, work=name, done=True, encoding=form)


def state_ordered(chart: InfantChart, fact: Mapping[str, Any]) -> None:
    """Plant an order or a planned visit."""
    name = chart.drawn(fact["ordered"])
    form = chart.drawn(fact.get("as", "order"))
    reference = ORDERED[form](chart, name, chart.day_ago(fact.get("days_ago", RECENT)))
    chart.plant("present", reference, work=name, done=False, encoding=form)


def state_result(chart: InfantChart, fact: Mapping[str, Any]) -> None:
    """Plant a result that no rule judges: that it was measured is work done."""
    name = fact["result"]
    coding = next(c for c in chart.content.codings[name] if fact.get("code", c.code) == c.code)
    elements = {
        "status": "final", "code": coding.coded(chart.display(name)),
        "effectiveDateTime": chart.day_ago(fact.get("days_ago", RECENT)).isoformat(),
        "valueQuantity": quantity(chart.between(fact["value"]), fact["unit"]),
    }  # fmt: skip
    chart.plant("present", chart.add("Observation", elements), work=name, done=True, encoding="result")


def _request(chart: InfantChart, medicine: Json, day: str) -> str:
    status = chart.one_of(("active", "active", "on-hold"))
    return chart.add("MedicationRequest", {"status": status, "intent": "order", "authoredOn": day, **medicine})


def _contained(chart: InfantChart, medicine: Json, day: str) -> str:
    inside = {"resourceType": "Medication", "id": "m", "code": medicine["medicationCodeableConcept"]}
    return _request(chart, {"contained": [inside], "medicationReference": {"reference": "#m"}}, day)


def _sent(chart: InfantChart, medicine: Json, day: str) -> str:
    reference = chart.add("Medication", {"code": medicine["medicationCodeableConcept"]}, subject="")
    return _request(chart, {"medicationReference": {"reference": reference}}, day)


def _statement(chart: InfantChart, medicine: Json, day: str) -> str:
    return chart.add("MedicationStatement", {"status": "active", "effectivePeriod": {"start": day}, **medicine})


def _administration(chart: InfantChart, medicine: Json, day: str) -> str:
    return chart.add("MedicationAdministration", {"status": "completed", "effectiveDateTime": day, **medicine})


MEDICINES: Mapping[str, Callable[[InfantChart, Json, str], str]] = {
    "request": _request, "request-contained": _contained, "request-sent": _sent, "statement": _statement,
    "administration": _administration,
}  # fmt: skip


def state_medication(chart: InfantChart, fact: Mapping[str, Any]) -> None:
    """Plant a medicine that the infant is on."""
    name = chart.drawn(fact["medication"])
    form = chart.one_of(list(MEDICINES))
    medicine = {"medicationCodeableConcept": chart.code(name)}
    reference = MEDICINES[form](chart, medicine, chart.day_ago(fact.get("days_ago", RECENT)).isoformat())
    chart.plant("present", reference, medication=name, encoding=form)
