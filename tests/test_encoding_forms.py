"""Every way in which a finding, a medicine or a piece of work may be written (ENCODING §2 and its readings in §7)."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    ABSENT_REASON,
    BASE,
    BIRTH,
    DATA_ABSENT,
    FINDING,
    HPO,
    ICD,
    LOINC,
    SNOMED,
    SUBJECT,
    codeable,
    coded,
    coding,
    condition,
    infant,
    lab,
    medicine,
    observation,
    order,
    outcome,
    presence,
    procedure,
    quantity,
    report,
    resource,
    workups,
)

V2_0136 = "http://terminology.hl7.org/CodeSystem/v2-0136"
SEIZURE = "seizure"
TREMOR = observation("tremor", id="tremor")
EXAM = coded(LOINC, "10164-2")
PRESENT = [(SNOMED, "52101004"), (LOINC, "LA9633-4"), (LOINC, "LA33-6"), (V2_0136, "Y")]
ABSENT = [(SNOMED, "2667000"), (LOINC, "LA9634-2"), (LOINC, "LA32-8"), (V2_0136, "N")]


def seizure_is(*resources: dict[str, Any], **how: Any) -> str:
    return presence(infant(TREMOR, *resources, **how), SEIZURE)


def both_places(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The value on the finding's own Observation, and on a component of another one."""
    return [observation(SEIZURE, **value), observation(EXAM, component=[{"code": codeable(SEIZURE), **value}])]


def expect(value: dict[str, Any], presence_: str) -> None:
    for written in both_places(value):
        assert seizure_is(written) == presence_


@pytest.mark.parametrize("value", [{}, {"valueBoolean": True}, *({"valueCodeableConcept": coded(*c)} for c in PRESENT)])
def test_a_finding_without_a_value_or_with_yes_is_present(value: dict[str, Any]) -> None:
    expect(value, "present")


@pytest.mark.parametrize("value", [{"valueBoolean": False}, *({"valueCodeableConcept": coded(*c)} for c in ABSENT)])
def test_a_finding_with_no_is_known_absent(value: dict[str, Any]) -> None:
    expect(value, "denied")


@pytest.mark.parametrize(
    "value",
    [
        {"valueCodeableConcept": coded(SNOMED, "261665006")}, {"valueCodeableConcept": {"text": "no"}},
        {"valueCodeableConcept": {"coding": [{"code": "N"}]}}, {"valueCodeableConcept": coded("urn:x", "2667000")},
        {"valueCodeableConcept": {"coding": [{"system": SNOMED, "code": "52101004"},
                                             {"system": SNOMED, "code": "2667000"}]}},
        {"valueString": "no"}, {"valueInteger": 0}, {"valueQuantity": quantity(2, "1")},
        {"valueDateTime": "2026-11-21"}, {"valuePeriod": {"start": "2026-11-21"}}, {"valueTime": "10:00:00"},
        {"_valueBoolean": DATA_ABSENT}, {"dataAbsentReason": ABSENT_REASON}, {"valueCodeableConcept": DATA_ABSENT},
        {"valueRatio": {}}, {"valueBoolean": "false"},
    ],
)  # fmt: skip
def test_a_value_that_is_neither_yes_nor_no_is_unknown(value: dict[str, Any]) -> None:
    expect(value, "unknown")


def test_the_finding_may_be_the_value_of_a_general_observation() -> None:
    found: dict[str, Any] = {"valueCodeableConcept": codeable(SEIZURE)}
    assert seizure_is(observation(EXAM, **found)) == "present"
    assert seizure_is(observation(coded("urn:local", "exam"), **found)) == "present"
    assert seizure_is(observation(EXAM, component=[{"code": coded("urn:local", "sign"), **found}])) == "present"
    assert seizure_is(observation("tremor", **found)) == "present"


@pytest.mark.parametrize("concept", ["jitteriness", "moro_reflex", "inherited_movement_disorder", "infantile_spasms",
                                     "lower_limb_spasticity", "emergency_csection"])  # fmt: skip
def test_our_own_name_of_a_finding_is_always_accepted(concept: str) -> None:
    own = coded(FINDING, concept.replace("_", "-"))
    for written in (observation(own), condition(own), observation(EXAM, valueCodeableConcept=own),
                    observation(EXAM, component=[{"code": own, "valueBoolean": True}])):  # fmt: skip
        assert presence(infant(written), concept) == "present"
    assert presence(infant(condition(coded(None, concept))), concept) == "not recorded"


@pytest.mark.parametrize(
    ("system", "code", "concept"),
    [(ICD, "R25.1", "tremor"), (ICD, "R251", "tremor"), (ICD, "R25.2", "muscle_spasm"),
     (SNOMED, "28055006", "infantile_spasms"), (ICD, "R56.00", "febrile_seizure"),
     (HPO, "HP:0002521", "hypsarrhythmia"), (ICD, "G24.9", "dystonia")],
)  # fmt: skip
def test_standard_codes_name_our_findings(system: str, code: str, concept: str) -> None:
    assert presence(infant(condition(coded(system, code))), concept) == "present"


def test_a_broader_code_and_the_trap_code_are_not_read() -> None:
    assert presence(infant(condition(coded(ICD, "R25.8"))), "ankle_clonus") == "not recorded"
    assert presence(infant(condition(coded(ICD, "R29.2"))), "hyperreflexia") == "not recorded"
    assert presence(infant(condition(coded(SNOMED, "18191000"))), "infantile_spasms") == "not recorded"


def test_a_febrile_seizure_is_fever_with_an_event_but_no_seizure() -> None:
    answer = infant(TREMOR, condition("febrile_seizure"))
    assert presence(answer, SEIZURE) == "not recorded"
    assert outcome(answer, "R25") == "recommended"
    for rule in ("R08", "R10", "nervous-system-infection-suspected"):
        assert outcome(answer, rule) == "not-applicable"
    assert "eeg" not in workups(answer)


@pytest.mark.parametrize("hidden", [{"modifierExtension": [{"url": "urn:not", "valueBoolean": True}]},
                                    {"subject": None}, {"subject": {"display": "the baby"}}])  # fmt: skip
def test_a_finding_of_uncertain_meaning_or_owner_is_unknown(hidden: dict[str, Any]) -> None:
    for written in (observation(SEIZURE, **hidden), condition(SEIZURE, **hidden)):
        answer = infant(TREMOR, written)
        assert presence(answer, SEIZURE) == "unknown"
        assert workups(answer) == {}


def test_a_component_whose_meaning_is_modified_is_not_present() -> None:
    part = {"code": codeable(SEIZURE), "modifierExtension": [{"url": "urn:not", "valueBoolean": True}]}
    assert seizure_is(observation(EXAM, component=[part])) == "unknown"


def test_an_observation_that_focuses_on_the_infant_counts_and_one_on_the_mother_does_not() -> None:
    assert seizure_is(observation(SEIZURE, focus=[SUBJECT])) == "present"
    assert seizure_is(observation(SEIZURE, focus=[{"reference": "RelatedPerson/mother"}])) == "not recorded"


@pytest.mark.parametrize("subject", ["Patient/p1", "Patient/p1/_history/4", "https://ehr.example/r4/Patient/p1",
                                     "https://ehr.example/r4/Patient/p1/_history/2"])  # fmt: skip
def test_the_subject_may_be_absolute_or_versioned(subject: str) -> None:
    assert seizure_is(observation(SEIZURE, subject={"reference": subject})) == "present"


def test_the_same_resource_twice_is_one_fact() -> None:
    seizure = observation(SEIZURE)
    assert len(infant(seizure, dict(seizure)).record.finding(SEIZURE).present) == 1


@pytest.mark.parametrize("other", ["vomiting", "sleep_disturbance", "tremor", "abnormal_posture"])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_resources_with_one_id_neither_finding_is_lost(other: str, turned: bool) -> None:
    two = [observation(SEIZURE, id="x"), observation(other, id="x")]
    answer = infant(TREMOR, *(reversed(two) if turned else two))
    assert presence(answer, SEIZURE) == "unknown"
    assert "reassurance" not in workups(answer)


def test_of_two_versions_the_later_counts() -> None:
    old = observation(SEIZURE, id="x", meta={"lastUpdated": "2026-11-21T08:00:00Z"})
    new = observation(SEIZURE, id="x", meta={"lastUpdated": "2026-11-21T09:00:00Z"}, valueBoolean=False)
    assert seizure_is(old, new) == seizure_is(new, old) == "denied"


SPASMS = [condition("infantile_spasms", "2026-11-10"), procedure("eeg", "2026-11-12")]
VIGABATRIN = [coding("med_vigabatrin")]


def treated(*medicines: dict[str, Any]) -> str:
    return outcome(infant(*SPASMS, *medicines), "R01")


@pytest.mark.parametrize(
    ("kind", "elements", "expected"),
    [
        ("MedicationRequest", {"status": "active"}, "excluded"),
        ("MedicationRequest", {"status": "on-hold"}, "excluded"),
        ("MedicationRequest", {"status": "stopped"}, "recommended"),
        ("MedicationRequest", {"status": "draft"}, "recommended"),
        ("MedicationRequest", {"doNotPerform": True}, "recommended"),
        ("MedicationRequest", {"intent": "proposal"}, "recommended"),
        ("MedicationRequest", {"authoredOn": "2026-11-30"}, "recommended"),
        ("MedicationStatement", {"status": "active"}, "excluded"),
        ("MedicationStatement", {"status": "completed"}, "recommended"),
        ("MedicationStatement", {"status": "not-taken"}, "recommended"),
        ("MedicationAdministration", {"status": "in-progress"}, "excluded"),
        ("MedicationAdministration", {"status": "completed", "effectiveDateTime": "2026-11-17"}, "excluded"),
        ("MedicationAdministration", {"status": "completed", "effectiveDateTime": "2026-11-14"}, "recommended"),
        ("MedicationAdministration", {"status": "completed", "effectiveDateTime": "2026-11"}, "data-required"),
        ("MedicationAdministration", {"status": "completed"}, "data-required"),
        ("MedicationAdministration", {"status": "not-done"}, "recommended"),
    ],
)  # fmt: skip
def test_treatment_counts_while_it_runs(kind: str, elements: dict[str, Any], expected: str) -> None:
    assert treated(medicine(kind, "med_vigabatrin", **elements)) == expected


MEDICATION = {"resourceType": "Medication", "id": "m1", "code": {"coding": VIGABATRIN}}
VOID = {"status": "entered-in-error"}


@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationStatement"])
@pytest.mark.parametrize(
    ("elements", "sent", "expected"),
    [
        ({"medicationReference": {"reference": "#m1"}, "contained": [MEDICATION]}, [], "excluded"),
        ({"medicationReference": {"reference": "Medication/m1"}}, [MEDICATION], "excluded"),
        ({"medicationReference": {"reference": "Medication/m1/_history/3"}}, [MEDICATION], "excluded"),
        ({"medicationReference": {"reference": "https://ehr.example/r4/Medication/m1"}}, [MEDICATION], "excluded"),
        ({"medicationReference": {"reference": "Medication/m9"}}, [MEDICATION], "data-required"),
        ({"medicationReference": {"reference": "Medication/m1"}}, [MEDICATION | VOID], "data-required"),
        ({"medicationReference": {"reference": "#m1"}, "contained": [MEDICATION | VOID]}, [], "data-required"),
        ({"medicationReference": {"reference": "Medication/m1"}}, [MEDICATION | {"status": "inactive"}], "excluded"),
        ({"medicationReference": {"display": "vigabatrin"}}, [], "data-required"),
        ({}, [], "data-required"),
        ({"medicationCodeableConcept": {"text": "vigabatrin"}}, [], "recommended"),
        ({"medicationCodeableConcept": {"coding": [{"code": "1"}, *VIGABATRIN]}}, [], "excluded"),
    ],
)  # fmt: skip
def test_a_medicine_is_coded_inline_or_referenced(
    kind: str, elements: dict[str, Any], sent: list[dict[str, Any]], expected: str
) -> None:
    assert treated(medicine(kind, None, **elements), *sent) == expected


@pytest.mark.parametrize(("work", "asked_for"), [
    (lab("lab_glucose", 70, "mg/dL"), False), (lab("lab_glucose", 70, "mg/dL", "2026-11-18"), True),
    (lab("lab_glucose", None, None, dataAbsentReason=ABSENT_REASON), True), (lab("lab_glucose", None, None), True),
    (observation("panel_bmp", component=[{"code": codeable("lab_glucose"), "dataAbsentReason": ABSENT_REASON}]), True),
    (lab("lab_glucose", 70, "mg/dL", status="cancelled"), True), (order("lab_glucose"), False),
])  # fmt: skip
def test_a_glucose_without_a_result_is_not_done(work: dict[str, Any], asked_for: bool) -> None:
    assert ("glucose" in workups(infant(observation(SEIZURE), work))) is asked_for


def test_electrolytes_are_done_by_a_panel_or_by_sodium_with_potassium() -> None:
    sodium, potassium = lab("lab_sodium", 140, "mmol/L"), lab("lab_potassium", 4, "mmol/L")
    asked = [
        "electrolytes" in workups(infant(observation(SEIZURE), *done))
        for done in ([sodium], [potassium], [sodium, potassium], [observation("panel_bmp", valueString="see members")])
    ]
    assert asked == [True, True, False, False]


@pytest.mark.parametrize("concept", ["forceps_delivery", "vacuum_delivery", "emergency_csection"])
def test_a_birth_event_may_be_a_procedure_on_the_infant(concept: str) -> None:
    own = coded(FINDING, concept.replace("_", "-"))
    done = resource("Procedure", status="completed", code=own, performedDateTime=BIRTH)
    assert presence(infant(done), concept) == "present"
    assert presence(infant(resource("Procedure", status="not-done", code=own)), concept) == "not recorded"


@pytest.mark.parametrize(
    "code",
    [{"text": "Tonic seizure"}, coded("urn:oid:1.2.3", "LOCAL-77", text="seizures"),
     {"coding": [{"display": "Convulsions"}]}, coded(SNOMED, "99999999", text="convulsion")],
)  # fmt: skip
def test_text_alone_fires_nothing_and_is_reported_as_uncoded(code: dict[str, Any]) -> None:
    for written in (condition(code), observation(code)):
        answer = infant(TREMOR, written)
        assert workups(answer) == {"reassurance": "info"}
        assert [item["resource"] for item in report(answer)["uncoded"]] == [
            f"{written['resourceType']}/{written['id']}"
        ]


@pytest.mark.parametrize(
    ("system", "code"),
    [(SNOMED, "91175000"), (HPO, "HP:0001250"), (ICD, "R56.9"), (ICD, "R569"), (ICD, "P90"), (FINDING, "seizure")],
)
def test_every_accepted_system_and_spelling_counts(system: str, code: str) -> None:
    assert seizure_is(condition(coded(system, code))) == "present"


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": "urn:local", "code": "A"}, {"system": "urn:local", "code": "B"}, coding(SEIZURE)]},
        {"coding": [{"display": "no code"}, {"system": SNOMED}, {"code": "91175000"}, coding(SEIZURE)]},
        {"coding": [coding(SEIZURE), coding(SEIZURE)], "text": "unrelated"},
        {"coding": [{**coding(SEIZURE), "version": "http://snomed.info/sct/900000000000207008", "userSelected": False,
                     "extension": [{"url": f"{BASE}/x", "valueString": "y"}]}]},
    ],
)  # fmt: skip
def test_unknown_codings_before_ours_do_not_hide_it(code: dict[str, Any]) -> None:
    assert seizure_is(observation(code)) == "present"
    assert seizure_is(condition(code)) == "present"
