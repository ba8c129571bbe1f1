"""What looks like a fact and is none: denied, over, retracted, somebody else's, not yet, only proposed …

Each kind of KINDS writes one near miss about something that the chart says nothing else of, and says whether it
could. Those of laboratory results are in near_miss_results.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from cds_service.population.synthetic.encodings import DENYING, FORMS, Say, answer
from cds_service.population.synthetic.findings import CONDITION_STATUS, VERIFICATION, coded, observe
from cds_service.population.synthetic.infant_chart import InfantChart, Json
from cds_service.population.synthetic.near_miss_results import RESULT_KINDS
from cds_service.population.synthetic.work_and_medicines import CLASS
from cds_service.record.codes import ICD_10_CM
from cds_service.record.times import DAY

REASONS = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
RELATION = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


def _fresh(chart: InfantChart, kind: str) -> str:
    """A finding, work or medicine of which the chart says nothing yet."""
    known = chart.names_planted()
    names: list[str] = chart.content.data["near_misses"][kind]
    return chart.one_of([name for name in names if name not in known])


def _yesterday(chart: InfantChart) -> str:
    return chart.day_ago((0, 5)).isoformat()


def _plain(chart: InfantChart, name: str, **elements: Any) -> Json:
    return {"status": "final", "code": chart.code(name), "effectiveDateTime": _yesterday(chart), **elements}


def _seen(chart: InfantChart, kind: str, **elements: Any) -> bool:
    """An Observation of a finding with something that keeps it from counting."""
    name = _fresh(chart, "findings")
    body = {key: value for key, value in _plain(chart, name, **elements).items() if value is not None}
    chart.plant(f"decoy:{kind}", chart.add("Observation", body), finding=name, encoding="observation")
    return True


def _listed(chart: InfantChart, kind: str, status: str, **elements: Any) -> bool:
    """A Condition of a finding with something that keeps it from counting."""
    name = _fresh(chart, "findings")
    body = {"code": chart.code(name), "onsetDateTime": _yesterday(chart), **elements}
    chart.plant(status, chart.add("Condition", body), finding=name, encoding=f"condition-{kind}")
    return True


def _absent(chart: InfantChart) -> bool:
    name, form = _fresh(chart, "findings"), chart.one_of(DENYING)
    elements = FORMS[form](Say(chart.code(name), False, answer(chart, False), chart.question()))
    body = {"status": "final", "effectiveDateTime": _yesterday(chart), **elements}
    chart.plant("absent", chart.add("Observation", body), finding=name, encoding=form)
    return True


def _refuted(chart: InfantChart) -> bool:
    return _listed(chart, "refuted", "absent", verificationStatus=coded(VERIFICATION, "refuted"))


def _resolved(chart: InfantChart) -> bool:
    ended = chart.one_of(("resolved", "remission", "inactive"))
    over: Json = {"clinicalStatus": coded(CONDITION_STATUS, ended)}
    if chart.chance(0.5):
        over["abatementDateTime"] = chart.day.isoformat()
    return _listed(chart, "resolved", "decoy:resolved", verificationStatus=coded(VERIFICATION, "confirmed"), **over)


def _retracted_twin(chart: InfantChart) -> bool:
    """A fact that stands, and the same fact once more, entered in error."""
    name = _fresh(chart, "findings")
    reference = observe(chart, name, {}, chart.day_ago((0, 5)))
    valid = next(item for item in chart.resources if reference.endswith(item["id"]))
    twin = {key: value for key, value in valid.items() if key not in ("id", "subject", "resourceType")}
    retracted = chart.add("Observation", twin | {"status": "entered-in-error"})
    chart.plant("decoy:retracted-twin", retracted, finding=name, encoding="observation")
    return True


def _entered_in_error(chart: InfantChart) -> bool:
    if chart.chance(0.5):
        return _seen(chart, "entered-in-error", status="entered-in-error")
    wrong = coded(VERIFICATION, "entered-in-error")
    return _listed(chart, "entered-in-error", "decoy:entered-in-error", verificationStatus=wrong)


def _not_final(chart: InfantChart) -> bool:
    return _seen(chart, "not-final", status=chart.one_of(("registered", "cancelled", "unknown")))


def _stale(chart: InfantChart) -> bool:
    """Seen once, longer ago than a finding speaks of the present."""
    limit = chart.reading.stale_after // DAY
    if chart.age_days < limit + 5:
        return False
    return _seen(chart, "stale", effectiveDateTime=chart.day_ago((limit + 1, 2 * limit)).isoformat())


def _future(chart: InfantChart) -> bool:
    later = (chart.day + timedelta(days=chart.rng.randint(1, 60))).isoformat()
    if chart.chance(0.5):
        return _seen(chart, "future", effectiveDateTime=later)
    return _listed(chart, "future", "decoy:future", onsetDateTime=later)


def _partial_date(chart: InfantChart) -> bool:
    """Seen in a month of which it cannot be told whether it is too long ago."""
    doubtful = chart.day - timedelta(days=chart.reading.stale_after // DAY)
    return _seen(chart, "partial-date", effectiveDateTime=f"{doubtful:%Y-%m}")


def _undated(chart: InfantChart) -> bool:
    return _seen(chart, "undated", effectiveDateTime=None)


def _withheld(chart: InfantChart) -> bool:
    return _seen(chart, "withheld", dataAbsentReason=coded(REASONS, chart.one_of(("unknown", "masked"))))


def _other_value(chart: InfantChart) -> bool:
    return _seen(chart, "other-value", valueString=chart.one_of(("yes", "no", "see note")))


def _text_only(chart: InfantChart) -> bool:
    text = {"text": chart.one_of(chart.content.data["texts"])}
    if chart.chance(0.5):
        reference = chart.add("Condition", {"code": text, "clinicalStatus": coded(CONDITION_STATUS, "active")})
    else:
        body = {"status": "final", "code": text, "effectiveDateTime": _yesterday(chart), "valueBoolean": True}
        reference = chart.add("Observation", body)
    chart.plant("decoy:text-only", reference, finding=None, encoding="text")
    return True


def _unsupported_system(chart: InfantChart) -> bool:
    """The right code, but under a system in which it means nothing to us."""
    name = _fresh(chart, "findings")
    system = chart.one_of(chart.content.data["unsupported_systems"])
    code = coded(system, chart.coding(name).code)
    body = {"status": "final", "code": code, "effectiveDateTime": _yesterday(chart)}
    chart.plant("decoy:unsupported-system", chart.add("Observation", body), finding=name, encoding="observation")
    return True


def _history_code(chart: InfantChart) -> bool:
    """A history code beside the finding's own makes the whole of it history."""
    name = _fresh(chart, "findings")
    code = chart.code(name)
    code["coding"].append({"system": ICD_10_CM, "code": chart.one_of(chart.content.data["history_codes"])})
    reference = chart.add("Condition", {"code": code, "clinicalStatus": coded(CONDITION_STATUS, "active")})
    chart.plant("decoy:history-code", reference, finding=name, encoding="condition")
    return True


def _family_history(chart: InfantChart) -> bool:
    name, relative = _fresh(chart, "findings"), chart.one_of(chart.content.data["relatives"])
    body = {
        "status": "completed", "relationship": coded(RELATION, relative["code"]),
        "condition": [{"code": chart.code(name)}],
    }  # fmt: skip
    reference = chart.add("FamilyMemberHistory", body, subject="patient")
    chart.plant("decoy:family-history", reference, finding=name, encoding="family-member-history")
    return True


def _reason_only(chart: InfantChart) -> bool:
    """Written as the reason of a visit, and nowhere as a finding."""
    name, day = _fresh(chart, "findings"), _yesterday(chart)
    body = {"status": "finished", "class": CLASS, "period": {"start": day, "end": day}}
    reference = chart.add("Encounter", body | {"reasonCode": [chart.code(name)]})
    chart.plant("decoy:reason-only", reference, finding=name, encoding="encounter")
    return True


def _other_focus(chart: InfantChart) -> bool:
    return _seen(chart, "other-focus", focus=[{"display": "the mother", "reference": "RelatedPerson/mother"}])


def _requested(chart: InfantChart, kind: str, **elements: Any) -> bool:
    name = _fresh(chart, "work")
    order = {"status": "active", "intent": "order", "code": chart.code(name), "authoredOn": _yesterday(chart)}
    reference = chart.add("ServiceRequest", order | elements)
    chart.plant(f"decoy:{kind}", reference, work=name, encoding="order")
    return True


def _proposal(chart: InfantChart) -> bool:
    return _requested(chart, "proposal", intent=chart.one_of(("proposal", "option")))


def _revoked_order(chart: InfantChart) -> bool:
    return _requested(chart, "revoked-order", status=chart.one_of(("revoked", "entered-in-error")))


def _order_not_to(chart: InfantChart) -> bool:
    return _requested(chart, "order-not-to", doNotPerform=True)


def _not_done(chart: InfantChart) -> bool:
    name, status = _fresh(chart, "work"), chart.one_of(("not-done", "preparation", "entered-in-error"))
    body = {"status": status, "code": chart.code(name), "performedDateTime": _yesterday(chart)}
    chart.plant("decoy:not-done", chart.add("Procedure", body), work=name, encoding="procedure")
    return True


def _stopped_medicine(chart: InfantChart) -> bool:
    name, status = _fresh(chart, "medicines"), chart.one_of(("stopped", "completed", "cancelled"))
    body = {"status": status, "intent": "order", "medicationCodeableConcept": chart.code(name)}
    reference = chart.add("MedicationRequest", body | {"authoredOn": _yesterday(chart)})
    chart.plant("decoy:stopped-medicine", reference, medication=name, encoding="request")
    return True


KINDS: Mapping[str, Callable[[InfantChart], bool]] = {
    "absent": _absent, "refuted": _refuted, "resolved": _resolved, "retracted-twin": _retracted_twin,
    "entered-in-error": _entered_in_error, "not-final": _not_final, "stale": _stale, "future": _future,
    "partial-date": _partial_date, "undated": _undated, "withheld": _withheld, "other-value": _other_value,
    "text-only": _text_only, "unsupported-system": _unsupported_system, "history-code": _history_code,
    "family-history": _family_history, "reason-only": _reason_only, "other-focus": _other_focus,
    "proposal": _proposal, "revoked-order": _revoked_order, "order-not-to": _order_not_to, "not-done": _not_done,
    "stopped-medicine": _stopped_medicine, **RESULT_KINDS,
}  # fmt: skip


def plant_near_misses(chart: InfantChart) -> None:
    """None, one or two near misses, as often as the content says; one that this infant cannot have is left out."""
    wanted = chart.content.data["near_misses"]
    (number,) = chart.rng.choices(range(len(wanted["how_many"])), wanted["how_many"])
    for kind in chart.rng.choices(list(wanted["kinds"]), list(wanted["kinds"].values()), k=number):
        KINDS[kind](chart)
