"""How each prefetch key may arrive, what stays decidable then, and when nothing is."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    SUBJECT,
    ask,
    bundle,
    coding,
    condition,
    infant,
    lab,
    medicine,
    not_evaluated,
    observation,
    outcome,
    presence,
    procedure,
    report,
    request,
    workups,
)

from cds_service.errors import DataMissing, WrongPatient
from cds_service.hooks.respond import HookResponse
from cds_service.record.sources import SOURCES

KEYS = tuple(SOURCES.values())
FINDING_KEYS = ("observations", "conditions")
OTHER_KEYS = tuple(key for key in KEYS if key not in FINDING_KEYS)
WORK_KEYS = ("procedures", "diagnosticReports", "imagingStudies", "serviceRequests", "encounters", "observations")
MEDICATION_KEYS = ("medicationRequests", "medicationStatements", "medicationAdministrations")


def outcome_of(*severities: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": s, "code": "processing"} for s in severities]}


def with_outcome(*severities: str) -> dict[str, Any]:
    entry = {"resource": outcome_of(*severities), "search": {"mode": "outcome"}}
    return {"resourceType": "Bundle", "type": "searchset", "entry": [entry]}


ABSENT = object()
IN_FULL: dict[str, Any] = {
    "null": None,
    "an empty Bundle": bundle(),
    "a Bundle without entry": {"resourceType": "Bundle", "type": "searchset", "total": 0},
    "a Bundle with an informational outcome": with_outcome("information"),
    "a Bundle with a warning": with_outcome("warning", "information"),
    "a Bundle with self and previous links": bundle(link=[{"relation": "self", "url": "x"}, {"relation": "previous"}]),
}
UNKNOWN: dict[str, Any] = {
    "absent": ABSENT,
    "a Bundle with an error": with_outcome("warning", "error"),
    "a Bundle with a fatal outcome": with_outcome("fatal"),
    "a Bundle with an outcome that says nothing": {"resourceType": "Bundle", "entry": [
        {"resource": {"resourceType": "OperationOutcome"}}]},
    "an outcome with an error": outcome_of("error"),
    "an outcome without issues": {"resourceType": "OperationOutcome", "issue": []},
    "a first page": bundle(link=[{"relation": "self", "url": "x"}, {"relation": "next", "url": "https://ehr/2"}]),
    "fewer resources than the total": bundle(total=3),
    "an entry without its resource": {"resourceType": "Bundle", "entry": [{"fullUrl": "urn:uuid:1"}]},
    "an entry that is null": {"resourceType": "Bundle", "entry": [None]},
    "entries that are no list": {"resourceType": "Bundle", "entry": {"resource": {}}},
    "a resource of another type": {"resourceType": "Questionnaire", "id": "q", "status": "active"},
    "an object without a type": {},
    "text": "Bundle",
    "a list": [],
    "a number": 0,
    "false": False,
}  # fmt: skip


def replaced(key: str, value: Any, *resources: dict[str, Any], **how: Any) -> HookResponse:
    """The answer about these resources when one key arrives in that way."""
    if value is ABSENT:
        return infant(*resources, without=(key,), **how)
    return infant(*resources, prefetch={key: value}, **how)


def silent_side(key: str) -> list[dict[str, Any]]:
    """A mild tremor written where the key in question does not hold it."""
    return [condition("tremor", "2026-11-20")] if key == "observations" else [observation("tremor", "2026-11-20")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("how", IN_FULL)
def test_an_answered_query_without_results_lets_the_tremor_be_reassured(key: str, how: str) -> None:
    answer = replaced(key, IN_FULL[how], *silent_side(key))
    assert workups(answer) == {"reassurance": "info"}
    assert not_evaluated(answer) == {}


@pytest.mark.parametrize("key", FINDING_KEYS)
@pytest.mark.parametrize("how", UNKNOWN)
def test_without_the_findings_nothing_is_reassured_and_it_is_said_why(key: str, how: str) -> None:
    answer = replaced(key, UNKNOWN[how], *silent_side(key))
    assert workups(answer) == {}
    missing = not_evaluated(answer)
    assert key in missing["mild-tremor-first-year-reassurance"]
    assert key in missing["movement-with-seizure-or-lost-consciousness"]


@pytest.mark.parametrize("key", FINDING_KEYS)
@pytest.mark.parametrize("how", UNKNOWN)
def test_what_is_known_still_speaks_when_other_findings_are_missing(key: str, how: str) -> None:
    write = condition if key == "observations" else observation
    answer = replaced(key, UNKNOWN[how], write("tremor", "2026-11-20"), write("seizure", "2026-11-20"))
    assert outcome(answer, "R08") == outcome(answer, "R10") == "recommended"
    assert workups(answer)["emergency_evaluation"] == "critical"


@pytest.mark.parametrize("key", OTHER_KEYS)
@pytest.mark.parametrize("how", UNKNOWN)
def test_findings_are_judged_without_the_keys_that_hold_no_findings(key: str, how: str) -> None:
    answer = replaced(key, UNKNOWN[how], *silent_side(key))
    assert workups(answer) == {"reassurance": "info"}
    assert report(answer)["inputs"][key] not in ("answered", "null", "empty", "no-results")


@pytest.mark.parametrize("key", WORK_KEYS)
@pytest.mark.parametrize("how", ["absent", "an outcome with an error", "a first page"])
def test_unknown_work_never_suppresses_a_test(key: str, how: str) -> None:
    answer = replaced(key, UNKNOWN[how], condition("seizure", "2026-11-20"))
    assert {"eeg", "glucose", "calcium", "magnesium", "electrolytes"} <= workups(answer).keys()


@pytest.mark.parametrize("key", MEDICATION_KEYS)
@pytest.mark.parametrize("how", UNKNOWN)
def test_treated_spasms_are_undecided_while_the_medicines_are_unknown(key: str, how: str) -> None:
    answer = replaced(key, UNKNOWN[how], condition("infantile_spasms", "2026-11-10"), procedure("eeg", "2026-11-12"))
    assert not_evaluated(answer)["infantile-spasms-eeg"] == [key]


@pytest.mark.parametrize("key", MEDICATION_KEYS)
def test_spasms_that_are_only_suspected_need_no_medicines_to_be_known(key: str) -> None:
    spasms = condition("infantile_spasms", "2026-11-10", verification="provisional")
    assert workups(infant(spasms, without=KEYS[2:]))["eeg"] == "critical"
    assert workups(infant(spasms, without=(key,)))["eeg"] == "critical"


@pytest.mark.parametrize("key", MEDICATION_KEYS)
def test_a_known_treatment_counts_though_another_medicine_query_failed(key: str) -> None:
    kind = "MedicationStatement" if key == "medicationRequests" else "MedicationRequest"
    known = [condition("infantile_spasms", "2026-11-10"), procedure("eeg"), medicine(kind, "med_vigabatrin")]
    assert outcome(infant(*known, prefetch={key: outcome_of("error")}), "R01") == "excluded"


@pytest.mark.parametrize("severity", ["warning", "information"])
def test_a_bundle_with_results_and_a_warning_is_answered(severity: str) -> None:
    sent = bundle(observation("tremor"))
    sent["entry"].append({"resource": outcome_of(severity), "search": {"mode": "outcome"}})
    assert workups(infant(prefetch={"observations": sent})) == {"reassurance": "info"}


@pytest.mark.parametrize("lack", [{"link": [{"relation": "next", "url": "https://ehr/2"}]}, {"total": 9}])
def test_an_incomplete_page_is_read_but_excludes_nothing(lack: dict[str, Any]) -> None:
    answer = infant(prefetch={"observations": bundle(observation("tremor"), **lack)})
    assert presence(answer, "tremor") == "present"
    assert outcome(answer, "R46") == "data-required"
    glucose = lab("lab_glucose", 30, "mg/dL")
    sent = bundle(observation("tremor"), glucose, **lack)
    assert outcome(infant(prefetch={"observations": sent}), "R29") == "recommended"


def test_included_resources_are_not_counted_as_matches() -> None:
    asked = medicine("MedicationRequest", None, medicationReference={"reference": "Medication/m"})
    included = {"resourceType": "Medication", "id": "m", "code": {"coding": [coding("med_vigabatrin")]}}
    entries = [{"resource": asked, "search": {"mode": "match"}}, {"resource": included, "search": {"mode": "include"}}]
    spasms = [condition("infantile_spasms"), procedure("eeg")]
    for total, expected in ((1, "answered"), (2, "incomplete")):
        sent = {"resourceType": "Bundle", "type": "searchset", "total": total, "entry": entries}
        answer = infant(*spasms, prefetch={"medicationRequests": sent})
        assert report(answer)["inputs"]["medicationRequests"] == expected
        assert outcome(answer, "R01") == "excluded"


@pytest.mark.parametrize(
    "patient",
    [ABSENT, None, outcome_of("error"), outcome_of("information"), bundle(), with_outcome("warning"), {}, [],
     "Patient/p1", {"resourceType": "Practitioner", "id": "p1"}],
)  # fmt: skip
def test_without_the_patient_the_request_is_refused_with_412(patient: Any) -> None:
    sent = request(observation("tremor"))
    del sent["prefetch"]["patient"]
    if patient is not ABSENT:
        sent["prefetch"]["patient"] = patient
    with pytest.raises(DataMissing):
        ask(sent)


@pytest.mark.parametrize("how", UNKNOWN)
def test_without_any_finding_query_the_request_is_refused_with_412(how: str) -> None:
    value = UNKNOWN[how]
    sent = request(procedure("eeg"), without=FINDING_KEYS)
    sent["prefetch"].update({} if value is ABSENT else dict.fromkeys(FINDING_KEYS, value))
    with pytest.raises(DataMissing):
        ask(sent)


@pytest.mark.parametrize("prefetch", [None, {}, {"unasked": bundle()}])
def test_without_prefetch_the_request_is_refused_with_412(prefetch: Any) -> None:
    sent = request()
    sent["prefetch"] = prefetch
    with pytest.raises(DataMissing):
        ask(sent)


@pytest.mark.parametrize("key", FINDING_KEYS)
def test_one_answered_finding_query_is_enough_to_answer(key: str) -> None:
    assert infant(without=(key,)).body["cards"] == []
    assert not_evaluated(infant(without=(key,)))


def test_a_patient_in_a_bundle_is_the_patient() -> None:
    person = {"resourceType": "Patient", "id": "p1", "birthDate": "2026-07-10"}
    assert workups(infant(observation("tremor"), prefetch={"patient": bundle(person)})) == {"reassurance": "info"}


def test_another_patient_anywhere_refuses_the_request() -> None:
    other = {"resourceType": "Patient", "id": "p2", "birthDate": "2026-07-10"}
    for sent in ({"patient": other}, {"conditions": bundle(condition("seizure", subject={"reference": "Patient/p2"}))},
                 {"encounters": bundle(other)}):  # fmt: skip
        with pytest.raises(WrongPatient):
            infant(observation("tremor"), prefetch=sent)


def test_neutral_resources_need_no_subject() -> None:
    doctor = {"resourceType": "Practitioner", "id": "d"}
    place = {"resourceType": "Location", "id": "l"}
    answer = infant(prefetch={"observations": bundle(observation("tremor"), doctor, place)})
    assert workups(answer) == {"reassurance": "info"}


def test_conditions_sent_under_observations_do_not_answer_for_observations() -> None:
    answer = infant(condition("tremor"), prefetch={"observations": bundle(condition("sleep_disturbance"))})
    assert "observations" in not_evaluated(answer)["mild-tremor-first-year-reassurance"]


@pytest.mark.parametrize("specimens", [ABSENT, outcome_of("error")])
def test_potassium_of_a_specimen_nobody_sent_is_not_evaluated(specimens: Any) -> None:
    potassium = lab("lab_potassium", 4.0, "mmol/L", specimen={"reference": "Specimen/s9"}, subject=SUBJECT)
    answer = replaced("specimens", specimens, observation("tremor"), potassium)
    assert [int(answer.record.lab("potassium").abnormal)] == [1]


def test_a_family_member_gets_no_card() -> None:
    sent = request(condition("infantile_spasms"), context={"userId": "RelatedPerson/r", "patientId": "p1"})
    assert ask(sent).body["cards"] == []
