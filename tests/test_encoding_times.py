"""Days, months and moments: the as-of date, ages by the calendar, corrected ages, windows (ENCODING §1, §6, §7)."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    AS_OF,
    codeable,
    coded,
    condition,
    gestation,
    infant,
    lab,
    not_evaluated,
    observation,
    order,
    outcome,
    presence,
    procedure,
    report,
    resource,
    workups,
)

from cds_service.errors import InvalidRequest

NOON = "2026-11-21T12:00:00Z"
JITTERS = observation("jitteriness", "2026-11-21", id="jitters")
CLONUS = condition("ankle_clonus", None, id="clonus")
SPASMS = condition("infantile_spasms", None, id="spasms")


def lab_is(analyte: str, *resources: dict[str, Any], **how: Any) -> str:
    """Low, normal, high, unknown or none, near a tremor unless the resources bring a finding."""
    own = any(item["resourceType"] == "Condition" for item in resources)
    answer = infant(*([] if own else [observation("tremor", NOON)]), *resources, **how)
    found = answer.record.lab(analyte)
    if not found.evidence:
        return "none"
    words = {(0, 0): "normal", (2, 0): "low", (0, 2): "high", (1, 1): "unknown"}
    return words[int(found.low), int(found.high)]


@pytest.mark.parametrize(
    ("as_of", "moment"),
    [("2026-11-22", "2026-11-22T23:59:59Z"), ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
     ("2026-11-22T10:00:00+05:30", "2026-11-22T04:30:00Z"), ("2024-02-29", "2024-02-29T23:59:59Z")],
)  # fmt: skip
def test_an_as_of_date_means_the_end_of_that_day_and_an_instant_itself(as_of: str, moment: str) -> None:
    assert report(infant(as_of=as_of, birth="2023-12-01"))["asOf"] == moment


@pytest.mark.parametrize("as_of", ["2026", "2026-11", "2026-11-31", "today", "2026-11-22T25:00:00Z",
                                   "2026-11-22T10:00:00", "", " 2026-11-22", "2026-11-22T10:00:00+5"])  # fmt: skip
def test_an_as_of_that_is_neither_date_nor_instant_is_refused(as_of: str) -> None:
    with pytest.raises(InvalidRequest):
        infant(prefetch={}, as_of=None, extension={"example.infant-motor-cds.as-of": as_of})


@pytest.mark.parametrize(
    ("at", "as_of", "expected"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "present"),
        ("2026-11-22T10:00:01Z", "2026-11-22T10:00:00Z", "not recorded"),
        ("2026-11-22T10:00:00.5Z", "2026-11-22T10:00:00Z", "not recorded"),
        ("2026-11-22", "2026-11-22T00:00:00Z", "present"),
        ("2026-11-22T12:30:00+02:00", "2026-11-22T10:30:00Z", "present"),
        ("2026-11-22T12:30:00-02:00", "2026-11-22T10:30:00Z", "not recorded"),
        ("2026-11-23T00:30:00+14:00", AS_OF, "present"),
        ("2026-11-22T23:59:59.999Z", AS_OF, "present"), ("2026-11-23", AS_OF, "not recorded"),
        ("2026-11-22T10:00:00", AS_OF, "present"),
    ],
)  # fmt: skip
def test_times_in_any_zone_are_compared_as_moments(at: str, as_of: str, expected: str) -> None:
    for when in ({"effectiveDateTime": at}, {"effectiveDateTime": None, "effectivePeriod": {"start": at}},
                 {"effectiveDateTime": None, "effectiveInstant": at}):  # fmt: skip
        assert presence(infant(observation("seizure", **when), as_of=as_of), "seizure") == expected


@pytest.mark.parametrize(
    ("birth", "expected"),
    [("2024-11-23", "recommended"), ("2024-11-22", "not-applicable"), ("2024-11", "data-required"),
     ("2024-12", "recommended"), ("2024", "data-required"), ("2026", "recommended"), ("2024-10", "not-applicable")],
)  # fmt: skip
def test_infants_are_under_24_months_and_the_second_birthday_is_out(birth: str, expected: str) -> None:
    assert outcome(infant(SPASMS, birth=birth), "R01") == expected


@pytest.mark.parametrize(
    ("birth", "as_of", "expected"),
    [("2024-02-29", "2026-02-27", "recommended"), ("2024-02-29", "2026-03-01", "not-applicable"),
     ("2024-03-31", "2026-03-30", "recommended"), ("2024-03-31", "2026-03-31", "not-applicable"),
     ("2022-02-28", "2024-02-28", "not-applicable"), ("2022-03-01", "2024-02-29", "recommended"),
     ("2024-12-31", "2026-12-30", "recommended"), ("2024-12-31", "2026-12-31", "not-applicable")],
)  # fmt: skip
def test_years_turn_on_the_calendar_day_also_around_a_leap_day(birth: str, as_of: str, expected: str) -> None:
    assert outcome(infant(SPASMS, birth=birth, as_of=as_of), "R01") == expected


@pytest.mark.parametrize(
    ("birth", "as_of", "expected"),
    [("2026-10-22", AS_OF, "recommended"), ("2026-10-23", AS_OF, "not-applicable"),
     ("2026-10", AS_OF, "data-required"), ("2026-01-31", "2026-02-27", "not-applicable"),
     ("2026-01-31", "2026-03-01", "recommended"), ("2025-12-31", "2026-01-30", "not-applicable"),
     ("2025-12-31", "2026-01-31", "recommended")],
)  # fmt: skip
def test_one_month_is_a_calendar_month(birth: str, as_of: str, expected: str) -> None:
    jerks = condition("myoclonus", None, ("frequency", "clustered"))
    assert outcome(infant(jerks, birth=birth, as_of=as_of), "R03") == expected


@pytest.mark.parametrize(("birth", "reassured"), [("2025-11-23", True), ("2025-11-22", False), ("2025-11", False)])
def test_reassurance_of_tremor_ends_on_the_first_birthday(birth: str, reassured: bool) -> None:
    assert ("reassurance" in workups(infant(observation("tremor"), birth=birth))) is reassured


@pytest.mark.parametrize(
    ("birth", "expected"),
    [("2026-05-22", "not-applicable"), ("2026-05-21", "recommended"), ("2026-05", "data-required"),
     ("2026-04", "recommended")],
)  # fmt: skip
def test_past_six_months_begins_the_day_after_they_are_reached(birth: str, expected: str) -> None:
    tremor = observation("tremor", "2026-11-21", ("course", "persistent"))
    assert outcome(infant(tremor, birth=birth), "R47") == expected


@pytest.mark.parametrize(
    ("onset", "expected"),
    [
        ({"onsetDateTime": "2026-08-31"}, "recommended"), ({"onsetDateTime": "2026-09-01"}, "not-applicable"),
        ({"onsetDateTime": "2026-08"}, "recommended"), ({"onsetDateTime": "2026"}, "data-required"),
        ({"onsetPeriod": {"start": "2026-06-01", "end": "2026-10-01"}}, "recommended"),
        ({"onsetAge": {"value": 0, "code": "mo"}}, "recommended"),
        ({"onsetAge": {"value": 5, "code": "mo"}}, "recommended"),
        ({"onsetAge": {"value": 6, "code": "mo"}}, "not-applicable"),
        ({"onsetAge": {"value": 0, "code": "a"}}, "data-required"),
        ({"onsetAge": {"value": 3, "code": "wk"}}, "recommended"), ({"onsetAge": {"value": 5}}, "data-required"),
        ({"onsetString": "in spring"}, "data-required"), ({"onsetRange": {"low": {"value": 1}}}, "data-required"),
        ({}, "not-applicable"), ({"recordedDate": "2026-05-01"}, "not-applicable"),
    ],
)  # fmt: skip
def test_tremor_first_seen_before_six_months_is_told_from_its_onset(onset: dict[str, Any], expected: str) -> None:
    # born 2026-03-01: six months on 2026-09-01; improving, so that duration alone does not speak
    answer = infant(condition("tremor", None, **onset), birth="2026-03-01", as_of="2026-09-10")
    assert outcome(answer, "R47") == expected


def test_the_earliest_observation_gives_the_age_when_first_seen() -> None:
    seen = [observation("tremor", "2026-03-20"), observation("tremor", "2026-09-09")]
    assert outcome(infant(*seen, birth="2026-03-01", as_of="2026-09-10"), "R47") == "recommended"


@pytest.mark.parametrize(
    ("birth", "stated", "newborn"),
    [
        ("2026-10-25", [], True), ("2026-10-24", [], False), ("2026-10-26", [], True),
        ("2026-10-24", [gestation(37)], False), ("2026-10-24", [gestation(259, "d")], False),
        ("2026-10-25", [gestation(37)], True), ("2026-10-24", [gestation(258, "d")], True),
        ("2026-10-24", [gestation(36)], True), ("2026-10-24", [gestation(42)], False),
        # 30 weeks: 70 days early, so 98 days of age are 28 corrected
        ("2026-08-16", [gestation(30)], True), ("2026-08-15", [gestation(30)], False),
        ("2026-08-16", [gestation(210, "d")], True), ("2026-08-15", [gestation(211, "d")], False),
    ],
)  # fmt: skip
def test_the_newborn_weeks_end_after_corrected_day_28(birth: str, stated: list[dict[str, Any]], newborn: bool) -> None:
    answer = infant(observation("ankle_clonus"), *stated, birth=birth)
    assert outcome(answer, "R45") == ("recommended" if newborn else "not-applicable")
    assert outcome(answer, "R56") == ("not-applicable" if newborn else "recommended")


@pytest.mark.parametrize(
    "stated",
    [
        [lab("gestational_age_birth", 30, None, "2026-10-01")], [lab("gestational_age_birth", 30, "mo", "2026-10-01")],
        [gestation(30, valueQuantity={"value": 30, "unit": "weeks"})], [gestation(3)], [gestation(300)],
        [gestation(30, comparator="<")], [gestation(30, on=None)], [gestation(30), gestation(38)],
        [lab("gestational_age_birth", None, None, "2026-10-01", valueString="30 weeks")],
    ],
)  # fmt: skip
def test_a_gestation_that_is_there_but_unreadable_decides_no_corrected_age(stated: list[dict[str, Any]]) -> None:
    answer = infant(observation("ankle_clonus"), *stated, birth="2026-10-01")
    assert outcome(answer, "R45") == outcome(answer, "R56") == "data-required"
    assert any("gestation" in item for item in not_evaluated(answer)["clonus-after-newborn-weeks"])


@pytest.mark.parametrize("code", ["76516-4", "18185-9", "11884-4"])
def test_each_gestation_code_corrects_the_age(code: str) -> None:
    stated = lab(coded("http://loinc.org", code), 30, "wk", "2026-08-16")
    assert outcome(infant(observation("ankle_clonus"), stated, birth="2026-08-16"), "R45") == "recommended"


def test_chronological_limits_are_not_corrected() -> None:
    early = gestation(30, on="2025-11-22")
    assert "reassurance" not in workups(infant(observation("tremor"), early, birth="2025-11-22"))


def test_an_uncorrected_age_is_said_under_not_known() -> None:
    card = infant(observation("ankle_clonus"), birth="2026-11-01").body["cards"][0]
    assert "gestational age" in card["detail"].split("Not known")[1]


def test_an_onset_of_this_month_cannot_lie_two_weeks_back_on_the_tenth() -> None:
    answer = infant(condition("tremor", "2026-11"), as_of="2026-11-10")
    assert outcome(answer, "R22") == "not-applicable"
    assert workups(answer) == {"reassurance": "info"}


@pytest.mark.parametrize(("birth", "expected"), [("2026-10-11", "recommended"), ("2026-10-10", "not-applicable")])
def test_jitteriness_is_expected_up_to_six_weeks(birth: str, expected: str) -> None:
    assert outcome(infant(JITTERS, birth=birth), "R43") == expected


@pytest.mark.parametrize(
    ("work", "asked_for"),
    [
        (procedure("eeg", "2026-11-21"), False), (procedure("eeg_video", "2026-11-21", status="in-progress"), False),
        (procedure("eeg", "2026-11-21", status="not-done"), True), (procedure("eeg", "2026-11-20"), True),
        (procedure("eeg", None, performedPeriod={"start": "2026-11-21", "end": "2026-11-22"}), False),
        (resource("DiagnosticReport", status="final", code=codeable("eeg_sleep"), effectiveDateTime=AS_OF), False),
        (resource("DiagnosticReport", status="registered", code=codeable("eeg"), effectiveDateTime="2026-11-22"), True),
        (order("eeg"), False), (order("eeg_routine", status="draft", intent="plan"), False),
        (order("eeg", status="on-hold"), False), (order("eeg", status="revoked"), True),
        (order("eeg", intent="proposal"), True), (order("eeg", intent="option"), True),
        (order("eeg", doNotPerform=True), True), (order("eeg", "2026-11-25"), True),
        (order("eeg", "2026-11-01", status="completed", occurrenceDateTime="2026-11-21"), False),
        (order("eeg", "2026-11-21", status="completed"), False), (order("eeg", "2026-11-01", status="completed"), True),
    ],
)  # fmt: skip
def test_an_eeg_done_after_the_event_or_ordered_is_not_asked_for_again(work: dict[str, Any], asked_for: bool) -> None:
    assert ("eeg" in workups(infant(observation("seizure"), work))) is asked_for


@pytest.mark.parametrize(("onset", "done_on", "asked_for"), [
    ("2026-10-01", "2026-10-05", False), ("2026-10-01", "2026-09-20", True), (None, "2026-10-05", True),
])  # fmt: skip
def test_a_brain_mri_counts_only_after_the_onset(onset: str | None, done_on: str, asked_for: bool) -> None:
    study = resource("ImagingStudy", status="available", started=done_on, procedureCode=[codeable("mri_brain")])
    assert ("mri_brain" in workups(infant(condition("dystonia", onset), study))) is asked_for


@pytest.mark.parametrize("concept", ["specialty_peds_neurology", "specialty_neurology"])
@pytest.mark.parametrize(
    ("status", "on", "asked_for"),
    [("finished", "2026-07-20", False), ("planned", "2026-12-20", False), ("cancelled", "2026-11-01", True)],
)
def test_an_encounter_with_neurology_answers_the_referral(concept: str, status: str, on: str, asked_for: bool) -> None:
    visit = resource("Encounter", status=status, serviceType=codeable(concept), period={"start": on})
    assert ("referral_peds_neuro" in workups(infant(condition("dystonia"), visit))) is asked_for


@pytest.mark.parametrize(("left", "right", "expected"), [
    ("2026-11-20", "2026-11-21", "not-applicable"), ("2026-11-21", "2026-11-21", "recommended"),
    ("2026-11-20T23:00:00-05:00", "2026-11-21", "recommended"), ("2026-11", "2026-11-21", "data-required"),
])  # fmt: skip
def test_left_and_right_must_be_of_the_same_utc_day(left: str, right: str, expected: str) -> None:
    sides = [observation("ankle_clonus", left, ("laterality", "left")),
             observation("ankle_clonus", right, ("laterality", "right"))]  # fmt: skip
    assert outcome(infant(*sides), "R13") == expected


@pytest.mark.parametrize(
    ("facts", "least", "most"),
    [
        ([observation("seizure", f"2026-11-{day}") for day in (18, 19, 20)], 3, 3),
        ([observation("seizure", f"2026-11-20T{hour}:00:00Z") for hour in ("08", "20")], 1, 1),
        ([condition("seizure", "2026-11-10"), observation("seizure", "2026-11-20")], 2, 2),
        ([condition("seizure", "2026-11-10", clinical="resolved"), observation("seizure", "2026-11-20")], 1, 1),
        ([observation("seizure", "2026-11"), observation("seizure", "2026-11-20")], 1, 2),
    ],
)  # fmt: skip
def test_events_at_least_a_day_apart_are_counted(facts: list[dict[str, Any]], least: int, most: int) -> None:
    events = infant(*facts).record.finding("seizure").course.events
    assert (events.lo, events.hi) == (least, most)


@pytest.mark.parametrize(("value", "expected"), [(46, "low"), (48.5, "unknown"), (51, "normal")])
def test_the_second_day_of_life_is_undecided_between_two_glucose_limits(value: float, expected: str) -> None:
    assert lab_is("glucose", lab("lab_glucose", value, "mg/dL", NOON), birth="2026-11-19") == expected


@pytest.mark.parametrize(
    ("birth", "value", "expected"),
    [("2026-10-25", 147, "normal"), ("2026-10-24", 147, "high"), ("2026-10", 147, "unknown"), ("2026-09", 147, "high")],
)
def test_the_age_band_ends_on_the_twenty_eighth_day_of_life(birth: str, value: float, expected: str) -> None:
    assert lab_is("sodium", lab("lab_sodium", value, "mmol/L", NOON), birth=birth) == expected


def test_an_active_condition_counts_today_for_the_window() -> None:
    tremor = condition("tremor", "2026-10-01")
    for on, expected in (("2026-10-02", "none"), (AS_OF, "low")):
        assert lab_is("glucose", tremor, lab("lab_glucose", 30, "mg/dL", on)) == expected
