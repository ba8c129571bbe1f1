"""Ordinary infancy: visits, growth, immunisations, passing illnesses. Nothing here is a fact that a rule reads,
but for the electrolytes of a past illness, which are planted as normal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from cds_service.population.synthetic.findings import CONDITION_STATUS, VERIFICATION, coded
from cds_service.population.synthetic.infant_chart import InfantChart, Json, instant
from cds_service.population.synthetic.results import JUDGED_BY_SENDER, quantity, state_lab
from cds_service.population.synthetic.work_and_medicines import CLASS
from cds_service.record.codes import ICD_10_CM

LOINC = "http://loinc.org"
CVX = "http://hl7.org/fhir/sid/cvx"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
PAST = 21  # days: laboratory results of the background are older than any story's events


def add_background(chart: InfantChart) -> None:
    """Everything that happened from birth to the as-of day beside the infant's story."""
    plan = chart.content.data["background"]
    _newborn(chart, plan)
    spread = [chart.rng.gauss(0.0, 1.0) for _ in plan["measures"]]
    for age in plan["visits"]:
        if age <= chart.age_days:
            _visit(chart, plan, chart.identity.born + timedelta(days=age), age, spread)
    _immunise(chart, plan)
    for problem in plan["problems"]:
        if chart.chance(problem["chance"]):
            _fall_ill(chart, plan, problem)
    if chart.chance(plan["vitamin_d"]["chance"]):
        _prescribe(chart, plan["vitamin_d"], chart.identity.born, "active")


def _coding(plan: Mapping[str, Any], system: str | None = None) -> Json:
    return {"coding": [{"system": system or plan["system"], "code": plan["code"], "display": plan["display"]}]}


def _newborn(chart: InfantChart, plan: Mapping[str, Any]) -> None:
    born = chart.identity.born
    if chart.age_days < 2:
        return
    second_day = (born + timedelta(days=1)).isoformat()
    screen = {"status": "completed", "intent": "order", "code": _coding(plan["newborn_screen"])}
    chart.add("ServiceRequest", screen | {"authoredOn": born.isoformat(), "occurrenceDateTime": second_day})
    report = {"status": "final", "code": _coding(plan["newborn_screen"]), "effectiveDateTime": second_day}
    chart.add("DiagnosticReport", report)
    heard = {"status": "completed", "code": _coding(plan["hearing_screen"]), "performedDateTime": second_day}
    chart.add("Procedure", heard)
    _measure(chart, plan["bilirubin"], "laboratory", born + timedelta(days=2))


def _visit(chart: InfantChart, plan: Mapping[str, Any], day: date, age: int, spread: Sequence[float]) -> None:
    _encounter(chart, plan["visit"], day)
    when = {"effectiveDateTime": instant(day, chart.clock())}
    since_term = age + chart.identity.gestation_days - chart.reading.term_days
    curve = plan["growth"]["girls" if chart.identity.female else "boys"]
    for place, measure in enumerate(plan["measures"]):
        median = _on_curve(curve, since_term, place + 1)
        value = round(median * (1 + spread[place] * measure["spread"]), measure["decimals"])
        unit = measure["unit"]
        if "other" in measure and chart.chance(0.2):
            value, unit = round(value * measure["times"]), measure["other"]
        chart.add("Observation", {**_vital(measure), **when, "valueQuantity": quantity(value, unit)})
    if chart.chance(0.3):
        pulse = plan["pulse"]
        value = chart.between(pulse["range"])
        chart.add("Observation", {**_vital(pulse), **when, "valueQuantity": quantity(value, pulse["unit"])})


def _on_curve(curve: Sequence[Sequence[float]], day: int, column: int) -> float:
    """The median on a day, on the straight line between the two nearest rows."""
    place = min(max(bisect_right([row[0] for row in curve], day), 1), len(curve) - 1)
    before, after = curve[place - 1], curve[place]
    share: float = min(max((day - before[0]) / (after[0] - before[0]), 0.0), 1.0)
    return before[column] + share * (after[column] - before[column])


def _vital(measure: Mapping[str, Any]) -> Json:
    return {"status": "final", "category": [coded(CATEGORY, "vital-signs")], "code": _coding(measure, LOINC)}


def _measure(chart: InfantChart, test: Mapping[str, Any], category: str, day: date) -> str:
    body = {
        "status": "final", "category": [coded(CATEGORY, category)], "code": _coding(test, LOINC),
        "effectiveDateTime": day.isoformat(),
        "valueQuantity": quantity(chart.between(test["range"], test["decimals"]), test["unit"]),
    }  # fmt: skip
    return chart.add("Observation", body)


def _encounter(chart: InfantChart, kind: Mapping[str, Any], day: date, reason: Json | None = None) -> None:
    start = chart.clock()
    body: Json = {
        "status": "finished", "class": CLASS, "type": [_coding(kind)],
        "period": {"start": instant(day, start), "end": instant(day, start, 1200)},
    }  # fmt: skip
    chart.add("Encounter", body | ({"reasonCode": [reason]} if reason else {}))


def _immunise(chart: InfantChart, plan: Mapping[str, Any]) -> None:
    for vaccine in plan["immunisations"]:
        for number, due in enumerate(vaccine["days"], start=1):
            age = due + chart.rng.randint(0, 12)
            if age > chart.age_days:
                break
            given = chart.chance(plan["immunised"])
            body: Json = {
                "status": "completed" if given else "not-done", "vaccineCode": _coding(vaccine, CVX),
                "occurrenceDateTime": (chart.identity.born + timedelta(days=age)).isoformat(),
                "protocolApplied": [{"doseNumberPositiveInt": number}],
            }  # fmt: skip
            chart.add("Immunization", body, subject="patient")


def _fall_ill(chart: InfantChart, plan: Mapping[str, Any], problem: Mapping[str, Any]) -> None:
    began_at = chart.rng.randint(problem["from"], problem["to"])
    if began_at > chart.age_days:
        return
    began = chart.identity.born + timedelta(days=began_at)
    ended = began + timedelta(days=problem["lasts"]) if "lasts" in problem else None
    over = ended is not None and ended <= chart.day
    codes = [{"system": system, "code": _spelt(chart, system, code)} for system, code in problem["codes"].items()]
    code = {"coding": codes if chart.chance(0.7) else codes[-1:], "text": problem["text"]}
    body: Json = {
        "clinicalStatus": coded(CONDITION_STATUS, "resolved" if over else "active"),
        "verificationStatus": coded(VERIFICATION, "confirmed"), "code": code, "onsetDateTime": began.isoformat(),
    }  # fmt: skip
    if over and ended is not None:
        body["abatementDateTime"] = ended.isoformat()
    chart.add("Condition", body)
    _encounter(chart, plan["sick_visit"], began, code)
    if "medicine" in problem:
        _prescribe(chart, problem["medicine"], began, "completed" if over else "active")
    if problem.get("blood_count"):
        members = [{"reference": _measure(chart, test, "laboratory", began)} for test in plan["blood_count"]["members"]]
        report = {"status": "final", "code": _coding(plan["blood_count"], LOINC), "result": members}
        chart.add("DiagnosticReport", report | {"effectiveDateTime": began.isoformat()})
    ago = (chart.day - began).days
    if ago > PAST:
        for analyte in problem.get("results", ()):
            state_lab(chart, {"lab": analyte, "is": "normal", "days_ago": [ago, ago]}, JUDGED_BY_SENDER)


def _spelt(chart: InfantChart, system: str, code: str) -> str:
    return code.replace(".", "") if system == ICD_10_CM and chart.chance(0.3) else code


def _prescribe(chart: InfantChart, medicine: Mapping[str, Any], day: date, status: str) -> None:
    body = {"status": status, "intent": "order", "medicationCodeableConcept": _coding(medicine)}
    chart.add("MedicationRequest", body | {"authoredOn": day.isoformat()})
