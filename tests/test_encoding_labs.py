"""How a laboratory value is judged, and when it is not (ENCODING §2.5, §4; limits in cards/limits.yaml)."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    ABSENT_REASON,
    BIRTH,
    LOINC,
    NEWBORN,
    codeable,
    coded,
    gestation,
    infant,
    lab,
    not_evaluated,
    observation,
    outcome,
    quantity,
    reference_range,
    resource,
    workups,
)

from cds_service.hooks.respond import HookResponse

TREMOR = observation("tremor", "2026-11-21T12:00:00Z", id="tremor")
NOON = "2026-11-21T12:00:00Z"
ONE_DAY = "2026-11-21"  # birth date of an infant one day old
MGDL, MMOL = "mg/dL", "mmol/L"


def verdict(answer: HookResponse, analyte: str) -> str:
    found = answer.record.lab(analyte)
    words = {(0, 0, 0): "normal", (2, 0, 2): "low", (0, 2, 2): "high", (0, 0, 2): "abnormal", (1, 1, 1): "unknown"}
    return words[int(found.low), int(found.high), int(found.abnormal)] if found.evidence else "none"


def judged(analyte: str, *resources: dict[str, Any], **how: Any) -> str:
    return verdict(infant(TREMOR, *resources, **how), analyte)


GLUCOSE, CALCIUM, IONISED, MAGNESIUM = "lab_glucose", "lab_calcium_total", "lab_calcium_ionized", "lab_magnesium"
SODIUM, POTASSIUM, TEMPERATURE, LEAD = "lab_sodium", "lab_potassium", "body_temperature", "lab_lead"


@pytest.mark.parametrize(
    ("analyte", "concept", "birth", "inside", "outside", "unit", "side"),
    [
        # first two days: the birth hour is not known, so one day old is the only sure case
        ("glucose", GLUCOSE, ONE_DAY, 47, 46.9, MGDL, "low"),
        ("glucose", GLUCOSE, ONE_DAY, 2.6, 2.59, MMOL, "low"),
        ("glucose", GLUCOSE, NEWBORN, 50.1, 50, MGDL, "low"),
        ("glucose", GLUCOSE, NEWBORN, 2.81, 2.8, MMOL, "low"),
        ("glucose", GLUCOSE, BIRTH, 50, 49.9, MGDL, "low"),
        ("glucose", GLUCOSE, BIRTH, 2.8, 2.79, MMOL, "low"),
        ("glucose", GLUCOSE, BIRTH, 0.5, 0.49, "g/L", "low"),
        ("calcium", CALCIUM, NEWBORN, 8.0, 7.9, MGDL, "low"),
        ("calcium", CALCIUM, NEWBORN, 2.0, 1.99, MMOL, "low"),
        ("calcium", CALCIUM, BIRTH, 8.0, 7.9, MGDL, "low"),
        ("calcium", CALCIUM, BIRTH, 2.0, 1.99, MMOL, "low"),
        ("calcium", IONISED, NEWBORN, 4.4, 4.39, MGDL, "low"),
        ("calcium", IONISED, BIRTH, 1.1, 1.09, MMOL, "low"),
        ("magnesium", MAGNESIUM, NEWBORN, 1.6, 1.59, MGDL, "low"),
        ("magnesium", MAGNESIUM, NEWBORN, 0.66, 0.65, MMOL, "low"),
        ("magnesium", MAGNESIUM, BIRTH, 1.6, 1.59, MGDL, "low"),
        ("magnesium", MAGNESIUM, BIRTH, 0.66, 0.65, MMOL, "low"),
        ("magnesium", MAGNESIUM, BIRTH, 1.32, 1.3, "meq/L", "low"),
        ("sodium", SODIUM, NEWBORN, 135, 134.9, MMOL, "low"),
        ("sodium", SODIUM, BIRTH, 135, 134.9, "meq/L", "low"),
        ("sodium", SODIUM, NEWBORN, 150, 150.1, MMOL, "high"),
        ("sodium", SODIUM, BIRTH, 145, 145.1, MMOL, "high"),
        ("potassium", POTASSIUM, NEWBORN, 3.5, 3.4, MMOL, "low"),
        ("potassium", POTASSIUM, NEWBORN, 6.0, 6.1, "meq/L", "high"),
        ("potassium", POTASSIUM, BIRTH, 5.5, 5.6, MMOL, "high"),
        ("temperature", TEMPERATURE, BIRTH, 37.9, 38.0, "Cel", "high"),
        ("temperature", TEMPERATURE, NEWBORN, 100.3, 100.4, "[degF]", "high"),
        ("lead", LEAD, BIRTH, 3.4, 3.5, "ug/dL", "high"),
        ("lead", LEAD, NEWBORN, 34, 35, "ug/L", "high"),
        ("lead", LEAD, BIRTH, 0.16, 0.17, "umol/L", "high"),
    ],
)
def test_each_limit_divides_normal_from_abnormal_in_its_own_unit(
    analyte: str, concept: str, birth: str, inside: float, outside: float, unit: str, side: str
) -> None:
    assert judged(analyte, lab(concept, inside, unit, NOON), birth=birth) == "normal"
    assert judged(analyte, lab(concept, outside, unit, NOON), birth=birth) == side


@pytest.mark.parametrize(
    ("weeks", "value", "expected"), [(36, 7.0, "normal"), (36, 6.9, "low"), (37, 7.9, "low"), (30, 7.5, "normal")]
)
def test_a_preterm_neonate_has_a_lower_limit_of_calcium(weeks: int, value: float, expected: str) -> None:
    assert judged("calcium", gestation(weeks), lab(CALCIUM, value, MGDL, NOON), birth=NEWBORN) == expected


@pytest.mark.parametrize(("value", "expected"), [(6.9, "low"), (7.5, "unknown"), (8.1, "normal")])
def test_an_unreadable_gestation_decides_calcium_only_where_both_limits_agree(value: float, expected: str) -> None:
    unread = lab("gestational_age_birth", 36, None, NEWBORN)
    assert judged("calcium", unread, lab(CALCIUM, value, MGDL, NOON), birth=NEWBORN) == expected


@pytest.mark.parametrize(
    ("mark", "value", "expected"),
    [("L", 90, "low"), ("LL", 90, "low"), ("H", 20, "high"), ("HH", 20, "high"), ("N", 20, "normal"),
     ("A", 90, "abnormal")],
)  # fmt: skip
def test_the_laboratorys_flag_goes_before_range_and_limit(mark: str, value: float, expected: str) -> None:
    result = lab(GLUCOSE, value, MGDL, NOON, flagged=mark, referenceRange=reference_range(60, 100, MGDL))
    assert judged("glucose", result) == expected


@pytest.mark.parametrize(
    ("analyte", "concept", "unit"),
    [("lactate", "lab_lactate", MMOL), ("lactate", "lab_lactate", MGDL), ("ammonia", "lab_ammonia", "umol/L"),
     ("ammonia", "lab_ammonia", "ug/dL"), ("calcium", CALCIUM, MGDL)],
)  # fmt: skip
def test_what_has_no_upper_limit_is_high_only_by_flag_or_range(analyte: str, concept: str, unit: str) -> None:
    reference = reference_range(5, 20, unit)
    assert judged(analyte, lab(concept, 25, unit, NOON, flagged="H")) == "high"
    assert judged(analyte, lab(concept, 25, unit, NOON, referenceRange=reference)) == "high"
    assert judged(analyte, lab(concept, 15, unit, NOON, referenceRange=reference)) == "normal"
    assert judged(analyte, lab(concept, 900, unit, NOON)) != "high"


@pytest.mark.parametrize("amount", [{}, {"valueQuantity": quantity(30)}, {"valueString": "low"}])
def test_a_flag_decides_without_a_unit_or_a_number(amount: dict[str, Any]) -> None:
    assert judged("glucose", lab(GLUCOSE, None, None, NOON, flagged="L", **amount)) == "low"


@pytest.mark.parametrize(("system", "expected"), [
    ("http://terminology.hl7.org/CodeSystem/v2-0078", "low"), ("http://hl7.org/fhir/v2/0078", "low"),
    ("urn:local-flags", "normal"), (None, "normal"),
])  # fmt: skip
def test_a_flag_counts_only_from_a_system_of_flags(system: str | None, expected: str) -> None:
    assert judged("glucose", lab(GLUCOSE, 90, MGDL, NOON, interpretation=[coded(system, "L")])) == expected


@pytest.mark.parametrize("marks", [("L", "H"), ("L", "N"), ("H", "N")])
def test_flags_that_contradict_each_other_decide_nothing(marks: tuple[str, str]) -> None:
    flags = [lab(GLUCOSE, None, None, flagged=mark)["interpretation"][0] for mark in marks]
    assert judged("glucose", lab(GLUCOSE, 30, MGDL, NOON, interpretation=flags)) == "unknown"


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "expected"),
    [
        (45, 40, 100, MGDL, "normal"), (40, 40, 100, MGDL, "normal"), (39.9, 40, 100, MGDL, "low"),
        (65, 70, 100, MGDL, "low"), (101, 70, 100, MGDL, "high"), (65, 70, None, MGDL, "low"),
        (500, None, 100, MGDL, "high"),
        (45, 2.2, 5.5, MMOL, "low"),  # a range in another unit is unused: the limit of 50 decides
        (45, 40, 100, None, "low"),  # and so is one without a unit
        (30, None, 100, MGDL, "low"),  # a range that names no lower end says nothing of low values
        (60, None, 100, MGDL, "normal"),
    ],
)  # fmt: skip
def test_the_senders_range_goes_before_the_limit(
    value: float, low: float | None, high: float | None, unit: str | None, expected: str
) -> None:
    result = lab(GLUCOSE, value, MGDL, NOON, referenceRange=reference_range(low, high, unit))
    assert judged("glucose", result) == expected


def test_a_lower_end_that_cannot_be_used_leaves_low_values_to_the_limit() -> None:
    ends = reference_range(None, 100, MGDL)
    ends[0]["low"] = {"value": 20}  # no unit
    assert judged("glucose", lab(GLUCOSE, 30, MGDL, NOON, referenceRange=ends)) == "low"


def test_a_range_without_an_upper_end_leaves_high_values_to_the_limit() -> None:
    result = lab(SODIUM, 160, "mmol/L", NOON, referenceRange=reference_range(135, None, "mmol/L"))
    assert judged("sodium", result) == "high"


@pytest.mark.parametrize(("unit", "spelled"), [("mmol/L", "mmol/l"), ("mmol/l", "mmol/L")])
def test_the_litre_of_a_range_may_be_spelled_otherwise(unit: str, spelled: str) -> None:
    result = lab(GLUCOSE, 3.0, unit, NOON, referenceRange=reference_range(3.3, 5.5, spelled))
    assert judged("glucose", result) == "low"


def test_two_ranges_that_disagree_decide_nothing() -> None:
    ranges = reference_range(40, 100, MGDL) + reference_range(70, 100, MGDL)
    assert judged("glucose", lab(GLUCOSE, 50, MGDL, NOON, referenceRange=ranges)) == "unknown"


ADULTS, INFANTS = {"low": quantity(18, "a")}, {"low": quantity(0, "d"), "high": quantity(24, "mo")}


def test_a_range_for_another_age_is_none_of_this_infants() -> None:
    adults = reference_range(70, 99, MGDL, age=ADULTS)
    assert judged("glucose", lab(GLUCOSE, 60, MGDL, NOON, referenceRange=adults)) == "normal"
    assert judged("glucose", lab(GLUCOSE, 45, MGDL, NOON, referenceRange=adults)) == "low"  # by the limit of 50
    both = adults + reference_range(40, 99, MGDL, age=INFANTS)
    assert judged("glucose", lab(GLUCOSE, 45, MGDL, NOON, referenceRange=both)) == "normal"
    assert judged("glucose", lab(GLUCOSE, 39, MGDL, NOON, referenceRange=both)) == "low"


@pytest.mark.parametrize("low", [{"value": 18}, quantity(18, "years"), quantity(0.5, "a"), quantity(-1, "d")])
def test_an_age_of_a_range_that_cannot_be_read_does_not_bar_the_range(low: dict[str, Any]) -> None:
    ranges = reference_range(70, 99, MGDL, age={"low": low})
    assert judged("glucose", lab(GLUCOSE, 60, MGDL, NOON, referenceRange=ranges)) == "low"


def test_a_treatment_range_is_no_normal_range() -> None:
    aim = reference_range(80, 100, MGDL, type=coded("http://terminology.hl7.org/CodeSystem/referencerange-meaning",
                                                    "treatment"))  # fmt: skip
    assert judged("glucose", lab(GLUCOSE, 60, MGDL, NOON, referenceRange=aim)) == "normal"


@pytest.mark.parametrize("unit", [None, "mg", "mEq/L", "%", "mg/l", "MG/DL", "umol/L"])
def test_a_glucose_without_a_unit_that_can_be_converted_is_not_evaluated(unit: str | None) -> None:
    answer = infant(TREMOR, lab(GLUCOSE, 30, unit, NOON))
    assert verdict(answer, "glucose") == "unknown"
    assert outcome(answer, "R29") == "data-required"
    assert not workups(answer).keys() & {"correct_metabolic", "reassurance"}


@pytest.mark.parametrize("unit", ["meq/L", "mEq/L"])
def test_calcium_in_equivalents_is_not_evaluated(unit: str) -> None:
    assert judged("calcium", lab(CALCIUM, 3, unit, NOON)) == "unknown"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ({"value": 30, "unit": "mg/dL"}, "low"), ({"value": 30, "unit": "mg/dl"}, "low"),
        ({"value": 30, "code": "mg/dL", "system": "http://unitsofmeasure.org", "unit": "milligrams"}, "low"),
        ({"value": 30, "unit": "mg/dL", "system": "http://unitsofmeasure.org"}, "low"),
        ({"value": 2, "unit": "mg/dL", "code": "mmol/L", "system": "http://unitsofmeasure.org"}, "low"),
        ({"unit": "mg/dL"}, "unknown"), ({"value": 30, "unit": "milligrams per deciliter"}, "unknown"),
        ({"value": "30", "unit": "mg/dL"}, "unknown"),
        ({"value": 30, "unit": "mg/dL", "comparator": "~"}, "unknown"),
    ],
)  # fmt: skip
def test_the_code_names_the_unit_and_else_the_printed_unit(number: dict[str, Any], expected: str) -> None:
    assert judged("glucose", lab(GLUCOSE, None, None, NOON, valueQuantity=number)) == expected


@pytest.mark.parametrize(
    "value", [{"valueString": "30 mg/dL"}, {"valueInteger": 30}, {"valueRange": {"low": quantity(20, MGDL)}},
              {"dataAbsentReason": ABSENT_REASON}],
)  # fmt: skip
def test_a_value_of_another_kind_is_not_read_as_a_number(value: dict[str, Any]) -> None:
    assert judged("glucose", lab(GLUCOSE, None, None, NOON, **value)) == "unknown"


@pytest.mark.parametrize(
    ("sign", "value", "birth", "expected"),
    [("<", 40, BIRTH, "low"), ("<=", 49, BIRTH, "low"), ("<", 50, BIRTH, "low"), ("<=", 50, BIRTH, "unknown"),
     ("<", 60, BIRTH, "unknown"), (">", 40, BIRTH, "unknown"), (">", 60, BIRTH, "normal"), (">=", 50, BIRTH, "normal"),
     ("<=", 50, NEWBORN, "low"), (">", 50, NEWBORN, "normal"), (">=", 50, NEWBORN, "unknown")],
)  # fmt: skip
def test_a_comparator_decides_only_when_the_whole_interval_lies_on_one_side(
    sign: str, value: float, birth: str, expected: str
) -> None:
    assert judged("glucose", lab(GLUCOSE, value, MGDL, NOON, comparator=sign), birth=birth) == expected


def test_ionised_calcium_decides_over_total() -> None:
    low_total, low_ionised = lab(CALCIUM, 7.0, MGDL, NOON), lab(IONISED, 0.9, MMOL, NOON)
    assert judged("calcium", low_total, lab(IONISED, 1.2, MMOL, "2026-11-20T12:00:00Z")) == "normal"
    assert judged("calcium", lab(CALCIUM, 9.5, MGDL, NOON), low_ionised) == "low"
    assert judged("calcium", low_total, lab(IONISED, 1.2, MMOL, "2026-11-10T12:00:00Z")) == "low"


def test_an_ionised_calcium_that_cannot_be_read_is_not_overruled_by_a_normal_total() -> None:
    assert judged("calcium", lab(CALCIUM, 9.5, MGDL, NOON), lab(IONISED, 0.7, None, NOON)) == "unknown"


@pytest.mark.parametrize(
    ("on", "expected"),
    [("2026-11-18T12:00:00Z", "low"), ("2026-11-18T11:59:59Z", "none"), ("2026-11-22T12:00:00Z", "low"),
     ("2026-11-19", "low"), ("2026-11-18", "unknown"), ("2026-11-17", "none"), ("2026-11", "unknown"),
     ("2026-10", "none")],
)  # fmt: skip
def test_a_result_counts_within_72_hours_of_the_newest_finding(on: str, expected: str) -> None:
    assert judged("glucose", lab(GLUCOSE, 30, MGDL, on)) == expected


@pytest.mark.parametrize(
    ("on", "expected"), [("2026-11-04T12:00:00Z", "low"), ("2026-11-04T12:00:01Z", "none"), ("2026-11-04", "unknown")]
)
def test_the_window_also_reaches_72_hours_past_the_finding(on: str, expected: str) -> None:
    tremor = observation("tremor", "2026-11-01T12:00:00Z")
    assert verdict(infant(tremor, lab(GLUCOSE, 30, MGDL, on)), "glucose") == expected


def test_the_newest_usable_result_counts() -> None:
    low, normal = lab(GLUCOSE, 30, MGDL, "2026-11-21T08:00:00Z"), lab(GLUCOSE, 70, MGDL, "2026-11-21T11:00:00Z")
    assert judged("glucose", low, normal) == judged("glucose", normal, low) == "normal"
    assert judged("glucose", low, lab(GLUCOSE, 70, MGDL, "2026-11-21T07:00:00Z")) == "low"
    assert judged("glucose", low, lab(GLUCOSE, 70, MGDL, "2026-11-21T08:00:00Z")) == "unknown"


@pytest.mark.parametrize(
    ("status", "expected"),
    [("preliminary", "low"), ("corrected", "low"), ("cancelled", "none"), ("entered-in-error", "none"),
     ("registered", "none")],
)  # fmt: skip
def test_a_preliminary_result_counts_and_a_cancelled_one_does_not(status: str, expected: str) -> None:
    assert judged("glucose", lab(GLUCOSE, 30, MGDL, NOON, status=status)) == expected


def test_an_undated_result_is_unknown() -> None:
    assert judged("glucose", lab(GLUCOSE, 30, MGDL, None, flagged="L")) == "unknown"


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ({"note": [{"text": "Specimen HEMOLYZED"}]}, "unknown"), ({"note": [{"text": "not hemolyzed"}]}, "low"),
        ({"note": [{"text": "slightly haemolysed"}]}, "unknown"), ({"note": [{"text": "Gross hemolysis"}]}, "unknown"),
        ({"note": [{"text": "specimen no 4 hemolyzed"}]}, "unknown"),
        ({"specimen": {"reference": "Specimen/s1"}}, "unknown"),
        ({"specimen": {"reference": "Specimen/s2"}}, "unknown"),
        ({"specimen": {"reference": "https://ehr.example/r4/Specimen/s1/_history/2"}}, "unknown"),
        ({"specimen": {"reference": "#s"}, "contained": [{"resourceType": "Specimen", "id": "s",
                                                          "note": [{"text": "hemolyzed"}]}]}, "unknown"),
        ({"specimen": {"reference": "Specimen/s3"}}, "low"),
    ],
)  # fmt: skip
def test_potassium_of_a_hemolyzed_specimen_is_not_evaluated(marked: dict[str, Any], expected: str) -> None:
    specimens = (
        resource("Specimen", id="s1", note=[{"text": "hemolysed"}]), resource("Specimen", id="s3"),
        resource("Specimen", id="s2", condition=[coded("http://terminology.hl7.org/CodeSystem/v2-0493", "HEM")]),
    )  # fmt: skip
    answer = infant(TREMOR, *specimens, lab(POTASSIUM, 3.0, MMOL, NOON, flagged="L", **marked),
                    lab(SODIUM, 130, MMOL, NOON, **marked))  # fmt: skip
    assert verdict(answer, "potassium") == expected
    assert verdict(answer, "sodium") == "low"


def test_a_result_inside_a_panel_component_counts() -> None:
    parts = [{"code": codeable(GLUCOSE), "valueQuantity": quantity(30, MGDL)},
             {"code": codeable(SODIUM), "valueQuantity": quantity(140, MMOL)}]  # fmt: skip
    answer = infant(TREMOR, observation(coded(LOINC, "51990-0"), NOON, component=parts))
    assert (verdict(answer, "glucose"), verdict(answer, "sodium")) == ("low", "normal")
    assert workups(answer)["correct_metabolic"] == "critical"


def test_low_glucose_alone_says_nothing() -> None:
    assert workups(infant(lab(GLUCOSE, 20, MGDL))) == {}
    assert not not_evaluated(infant(lab(GLUCOSE, 20, MGDL)))
