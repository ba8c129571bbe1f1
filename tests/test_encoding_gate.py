"""What counts as a fact about this infant today, what is known absent, and what stays unknown (ENCODING §0, §1, §7)."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    ABSENT_REASON,
    DATA_ABSENT,
    ICD,
    LOINC,
    SNOMED,
    SUBJECT,
    ask,
    codeable,
    coded,
    coding,
    condition,
    infant,
    not_evaluated,
    observation,
    outcome,
    presence,
    procedure,
    report,
    request,
    resource,
    workups,
)

from cds_service.errors import DataMissing, WrongPatient

SEIZURE = "seizure"
TREMOR = observation("tremor", id="tremor")


def seizure_is(*resources: dict[str, Any], **how: Any) -> str:
    return presence(infant(TREMOR, *resources, **how), SEIZURE)


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "preliminary"])
def test_an_observation_of_a_standing_status_is_a_fact(status: str) -> None:
    assert seizure_is(observation(SEIZURE, status=status)) == "present"


@pytest.mark.parametrize("status", ["registered", "cancelled", "entered-in-error", "unknown"])
def test_an_observation_of_a_status_that_does_not_count_is_as_if_never_written(status: str) -> None:
    answer = infant(TREMOR, observation(SEIZURE, status=status))
    assert presence(answer, SEIZURE) == "not recorded"
    assert workups(answer) == {"reassurance": "info"}


@pytest.mark.parametrize("status", ["Final", "appended", "partial", ""])
def test_an_observation_of_a_status_outside_fhir_is_unknown_and_takes_reassurance_away(status: str) -> None:
    answer = infant(TREMOR, observation(SEIZURE, status=status))
    assert presence(answer, SEIZURE) == "unknown"
    assert "reassurance" not in workups(answer)


@pytest.mark.parametrize("clinical", ["active", "recurrence", "relapse", None])
def test_a_current_condition_is_present(clinical: str | None) -> None:
    assert seizure_is(condition(SEIZURE, clinical=clinical)) == "present"


@pytest.mark.parametrize("clinical", ["inactive", "remission", "resolved"])
def test_a_past_condition_is_not_present(clinical: str) -> None:
    answer = infant(TREMOR, condition(SEIZURE, "2026-11-01", clinical=clinical))
    assert presence(answer, SEIZURE) == "not recorded"
    assert workups(answer) == {"reassurance": "info"}


def test_a_clinical_status_nobody_knows_is_unknown() -> None:
    assert seizure_is(condition(SEIZURE, clinical="sort-of-active")) == "unknown"
    assert seizure_is(condition(SEIZURE, clinicalStatus={"text": "active?"})) == "unknown"


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ({"abatementDateTime": "2026-11-10"}, "not recorded"),
        ({"abatementDateTime": "2026-10"}, "not recorded"),
        ({"abatementPeriod": {"start": "2026-11-01", "end": "2026-11-05"}}, "not recorded"),
        ({"abatementAge": {"value": 2, "code": "mo", "system": "http://unitsofmeasure.org"}}, "not recorded"),
        ({"abatementDateTime": "2026-11-23"}, "present"),
        ({"abatementDateTime": "9999-12-31"}, "present"),
        ({"abatementDateTime": "2026-11"}, "unknown"),
        ({"abatementDateTime": "2026"}, "unknown"),
        ({"abatementString": "some weeks ago"}, "unknown"),
        ({"abatementRange": {"low": {"value": 1}}}, "unknown"),
    ],
)
def test_an_abatement_ends_a_condition_only_when_it_lies_before_today(ended: dict[str, Any], expected: str) -> None:
    assert seizure_is(condition(SEIZURE, "2026-07-20", **ended)) == expected


def test_refuted_clonus_is_known_absent() -> None:
    answer = infant(condition("ankle_clonus", verification="refuted"), TREMOR)
    assert presence(answer, "ankle_clonus") == "denied"
    assert outcome(answer, "R56") == "not-applicable"


def test_a_refuted_condition_is_denied_whatever_its_clinical_status() -> None:
    for clinical in ("active", "resolved", None):
        assert seizure_is(condition(SEIZURE, verification="refuted", clinical=clinical)) == "denied"


def test_a_condition_entered_in_error_is_as_if_never_written() -> None:
    assert seizure_is(condition(SEIZURE, verification="entered-in-error", clinical=None)) == "not recorded"


@pytest.mark.parametrize("verification", ["unconfirmed", "provisional", "differential"])
def test_a_suspected_condition_counts(verification: str) -> None:
    answer = infant(condition("dystonia", verification=verification))
    assert outcome(answer, "R39") == "recommended"
    assert not answer.record.finding("dystonia").present[0].confirmed


@pytest.mark.parametrize(
    ("verification", "expected"),
    [("confirmed", "excluded"), (None, "excluded"), ("unconfirmed", "recommended"), ("provisional", "recommended"),
     ("differential", "recommended"), ("refuted", "recommended"), ("entered-in-error", "recommended"),
     ("nearly", "data-required")],
)  # fmt: skip
def test_only_a_confirmed_cerebral_palsy_explains_clonus(verification: str | None, expected: str) -> None:
    answer = infant(observation("ankle_clonus"), condition("cerebral_palsy", verification=verification))
    assert outcome(answer, "R56") == expected


def test_present_wins_over_absent_and_both_are_kept() -> None:
    answer = infant(TREMOR, observation(SEIZURE, valueBoolean=True), observation(SEIZURE, valueBoolean=False))
    assert presence(answer, SEIZURE) == "present"
    assert answer.record.finding(SEIZURE).denied


@pytest.mark.parametrize(
    "undated",
    [
        {"effectiveDateTime": None},
        {"effectiveDateTime": None, "issued": "2026-11-21T10:00:00Z"},
        {"effectiveDateTime": "yesterday"},
        {"effectiveDateTime": "2026-13-01"},
        {"effectiveDateTime": "2026-02-30"},
        {"effectiveDateTime": None, "_effectiveDateTime": DATA_ABSENT},
        {"effectiveDateTime": None, "effectiveTiming": {"event": ["2026-11-21"]}},
        {"effectiveDateTime": None, "effectivePeriod": {}},
        {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-11-21", "end": "2026-11-01"}},
    ],
)
def test_an_undated_observation_is_unknown_and_not_present(undated: dict[str, Any]) -> None:
    answer = infant(TREMOR, observation(SEIZURE, **undated))
    assert presence(answer, SEIZURE) == "unknown"
    assert not {"eeg", "reassurance"} & workups(answer).keys()
    assert report(answer)["unreadable"]


@pytest.mark.parametrize("on", ["2026-11-23", "2026-12", "2027", "2026-11-23T00:00:00Z", "2026-11-22T23:30:00-05:00"])
def test_a_finding_of_tomorrow_is_none_today(on: str) -> None:
    assert seizure_is(observation(SEIZURE, on)) == "not recorded"
    assert seizure_is(condition(SEIZURE, on)) == "not recorded"


@pytest.mark.parametrize("on", ["2026-11-22", "2026-11", "2026", "2026-11-22T23:59:59Z", "2026-11-23T01:00:00+02:00"])
def test_a_finding_whose_earliest_moment_is_today_or_before_counts(on: str) -> None:
    assert seizure_is(condition(SEIZURE, on)) == "present"


@pytest.mark.parametrize(
    ("on", "expected"),
    [("2026-11", "present"), ("2026-09", "present"), ("2026-08-25", "present"), ("2026-08", "unknown"),
     ("2026", "unknown"), ("2026-08-23", "not recorded"), ("2026-07", "not recorded")],
)  # fmt: skip
def test_a_finding_older_than_ninety_days_is_stale(on: str, expected: str) -> None:
    assert seizure_is(observation(SEIZURE, on)) == expected


@pytest.mark.parametrize(
    ("on", "expected"), [("2026-08-24T10:00:00Z", "present"), ("2026-08-24T09:59:59Z", "not recorded")]
)
def test_ninety_days_are_counted_to_the_second(on: str, expected: str) -> None:
    assert seizure_is(observation(SEIZURE, on), as_of="2026-11-22T10:00:00Z") == expected


@pytest.mark.parametrize(
    "lasting",
    [
        [observation("tremor", "2026-07-20", ("course", "persistent"))],
        [observation("tremor", "2026-07-12"), observation("tremor", "2026-07-26")],
        [observation("tremor", None, effectivePeriod={"start": "2026-07-20"})],
    ],
)
def test_an_old_finding_that_is_marked_or_shown_persistent_is_not_stale(lasting: list[dict[str, Any]]) -> None:
    answer = infant(*lasting)
    assert presence(answer, "tremor") == "present"
    assert outcome(answer, "R22") == "recommended"


def test_a_condition_never_grows_stale() -> None:
    assert presence(infant(condition("dystonia", "2026-07-11")), "dystonia") == "present"


@pytest.mark.parametrize(
    "history",
    [
        condition(coded(ICD, "Z86.69")),
        condition(coded(ICD, "Z8669")),
        condition({"coding": [coding(SEIZURE, ICD), {"system": ICD, "code": "Z86.69"}]}),
        condition({"coding": [{"system": ICD, "code": "Z86.69"}, coding(SEIZURE, SNOMED)]}),
        observation({"coding": [coding(SEIZURE, SNOMED), {"system": ICD, "code": "Z86.69"}]}),
        observation(coded(LOINC, "11348-0"), valueCodeableConcept={
            "coding": [coding(SEIZURE, SNOMED), {"system": ICD, "code": "Z86.69"}]}),
        observation(coded(ICD, "Z86.69"), valueCodeableConcept=codeable(SEIZURE)),
        observation(coded(ICD, "Z82.0"), valueCodeableConcept=codeable(SEIZURE)),
    ],
)  # fmt: skip
def test_history_and_family_history_are_not_the_infants_finding(history: dict[str, Any]) -> None:
    answer = infant(TREMOR, history)
    assert presence(answer, SEIZURE) == "not recorded"
    assert "eeg" not in workups(answer)


def test_the_mothers_seizure_is_not_read_from_family_member_history() -> None:
    mother = {"resourceType": "FamilyMemberHistory", "id": "f", "status": "completed", "patient": SUBJECT,
              "condition": [{"code": codeable(SEIZURE)}]}  # fmt: skip
    assert seizure_is(mother) == "not recorded"


@pytest.mark.parametrize("element", ["reasonCode", "reasonReference"])
def test_the_reason_of_a_procedure_or_order_is_no_finding(element: str) -> None:
    reason: Any = [codeable(SEIZURE)] if element == "reasonCode" else [{"reference": "Condition/9", "display": SEIZURE}]
    asked_for = resource("ServiceRequest", status="active", intent="order", code=codeable("mri_spine"),
                         **{element: reason})  # fmt: skip
    assert seizure_is(asked_for, procedure("emg", **{element: reason})) == "not recorded"


@pytest.mark.parametrize("birth", [None, "unknown", "2027-01-01", "2026-11-31", "20260710"])
def test_without_a_usable_birth_date_nothing_is_said(birth: str | None) -> None:
    answer = infant(condition("infantile_spasms"), birth=birth)
    assert workups(answer) == {}
    assert not_evaluated(answer)


@pytest.mark.parametrize(
    ("patient", "shown"),
    [({"deceasedBoolean": True}, False), ({"deceasedDateTime": "2026-11-20"}, False),
     ({"deceasedDateTime": "unknown"}, False), ({"deceasedBoolean": False}, True),
     ({"deceasedDateTime": "2026-11-25"}, True)],
)  # fmt: skip
def test_no_card_is_shown_for_an_infant_who_died(patient: dict[str, Any], shown: bool) -> None:
    assert bool(infant(condition("infantile_spasms"), patient=patient).body["cards"]) is shown


def test_a_withheld_value_is_unknown() -> None:
    assert seizure_is(observation(SEIZURE, dataAbsentReason=ABSENT_REASON)) == "unknown"
    assert seizure_is(observation(SEIZURE, valueBoolean=True, dataAbsentReason=ABSENT_REASON)) == "present"


def test_a_resource_of_another_infant_refuses_the_whole_request() -> None:
    for other in ("Patient/p2", "https://ehr.example/fhir/Patient/p2"):
        wrong = observation(SEIZURE, subject={"reference": other})
        with pytest.raises(WrongPatient):
            infant(TREMOR, wrong)


def test_a_request_without_the_patient_is_refused() -> None:
    with pytest.raises(DataMissing):
        ask(request(TREMOR, without=("patient",)))


@pytest.mark.parametrize("hidden", [observation("ankle_clonus", None, ("laterality", "bilateral")),
                                    condition("dystonia", clinical="sort-of-active")])  # fmt: skip
def test_nothing_is_reassured_while_a_finding_that_would_ask_for_an_mri_is_undecided(hidden: dict[str, Any]) -> None:
    assert "reassurance" not in workups(infant(TREMOR, hidden))


def test_a_finding_told_only_in_a_value_text_is_reported_as_uncoded() -> None:
    answer = infant(TREMOR, observation(coded(LOINC, "10164-2"), valueString="had a convulsion this morning"))
    assert report(answer).get("uncoded")


@pytest.mark.parametrize(
    "system", ["http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-9-cm", "urn:oid:2.16.840.1.113883.6.90",
               "", None, "ICD10", f"{ICD}/"],
)  # fmt: skip
def test_a_code_of_another_system_does_not_count(system: str | None) -> None:
    assert seizure_is(condition(coded(system, "R56.9"))) == "not recorded"
