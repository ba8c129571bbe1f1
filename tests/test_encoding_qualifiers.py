"""What is said of a movement, and what several facts show together (ENCODING §3 and its readings in §7)."""

from __future__ import annotations

from typing import Any

import pytest
from infants import (
    ABSENT_REASON,
    LOINC,
    QUALIFIER,
    QUALIFIER_EXTENSION,
    SNOMED,
    UCUM,
    codeable,
    coded,
    condition,
    infant,
    lab,
    observation,
    outcome,
    qualifier,
    quantity,
    report,
    resource,
    workups,
)

from cds_service.hooks.respond import HookResponse
from cds_service.record.truth import Truth

Said = tuple[str, Any]
CODED = {
    "frequency": ["occasional", "frequent", "clustered"], "state": ["awake", "asleep"],
    "awareness": ["preserved", "altered", "lost"],
    "provoked-by": ["activity", "cold", "excitement", "startle", "hiccup", "sleep-onset"],
    "laterality": ["left", "right", "bilateral"], "course": ["persistent", "worsening", "improving"],
    "severity": ["mild", "moderate", "severe"], "pattern": ["flexion-stiffening", "rhythmic", "irregular"],
    "body-area": ["leg", "arm", "trunk", "face", "whole-body"], "interferes-with": ["feeding", "sleep", "activity"],
    "onset-manner": ["sudden", "gradual"],
}  # fmt: skip
EVERY_CODED = [(name, value) for name, values in CODED.items() for value in values]
BOTH = [observation, condition]


def said_of(answer: HookResponse, concept: str = "tremor") -> dict[str, frozenset[str]]:
    return answer.record.finding(concept).present[0].qualifiers.coded


def shown(answer: HookResponse, concept: str, name: str) -> Truth:
    found: Truth = getattr(answer.record.finding(concept).course, name)
    return found


@pytest.mark.parametrize("write", BOTH)
@pytest.mark.parametrize(("name", "value"), EVERY_CODED)
def test_every_coded_qualifier_is_read_from_component_and_extension(write: Any, name: str, value: str) -> None:
    assert said_of(infant(write("tremor", "2026-11-21", (name, value)))) == {name: frozenset({value})}


@pytest.mark.parametrize("write", BOTH)
@pytest.mark.parametrize(
    ("name", "value", "number"),
    [("duration", (90, "s"), 90), ("duration", (2, "min"), 120), ("duration", (1500, "ms"), 1.5), ("beats", 12, 12),
     ("beats", (12, "{beats}"), 12), ("beats", (12, "1"), 12), ("event-count", 3, 3)],
)  # fmt: skip
def test_every_number_is_read_from_component_and_extension(write: Any, name: str, value: Any, number: float) -> None:
    fact = infant(write("ankle_clonus", "2026-11-21", (name, value))).record.finding("ankle_clonus").present[0]
    assert fact.qualifiers.numbers[name].lo == fact.qualifiers.numbers[name].hi == number


@pytest.mark.parametrize(
    "said",
    [("severity", "severe"), ("course", "worsening"), ("course", "persistent"), ("frequency", "frequent"),
     ("interferes-with", "feeding"), ("interferes-with", "sleep"), ("interferes-with", "activity"),
     ("onset-manner", "sudden"), ("duration", (61, "s")), ("duration", (1.1, "min")), ("duration", (60001, "ms"))],
)  # fmt: skip
def test_a_tremor_that_is_marked_wants_blood_tests_and_no_reassurance(said: Said) -> None:
    answer = infant(observation("tremor", "2026-11-21", said))
    assert {"pediatric_review", "glucose", "calcium", "magnesium", "electrolytes"} <= workups(answer).keys()
    assert "reassurance" not in workups(answer)


@pytest.mark.parametrize(
    "said",
    [("severity", "mild"), ("severity", "moderate"), ("course", "improving"), ("frequency", "occasional"),
     ("onset-manner", "gradual"), ("duration", (60, "s")), ("duration", (1, "min")), ("duration", (60000, "ms")),
     ("provoked-by", "cold"), ("awareness", "preserved"), ("vigorous", True), ("vigorous", False), ("state", "awake")],
)  # fmt: skip
def test_a_mild_tremor_stays_reassured(said: Said) -> None:
    assert workups(infant(observation("tremor", "2026-11-21", said))) == {"reassurance": "info"}


def test_vigorous_counts_only_while_awake_and_on_the_same_fact() -> None:
    vigorous, awake = ("vigorous", True), ("state", "awake")
    assert outcome(infant(observation("tremor", "2026-11-21", vigorous, awake)), "R22") == "recommended"
    apart = infant(observation("tremor", "2026-11-21", vigorous), observation("tremor", "2026-11-20", awake))
    assert outcome(apart, "R22") == "not-applicable"


def test_course_may_repeat() -> None:
    tremor = observation("tremor", "2026-11-21", ("course", "persistent"), ("course", "improving"))
    assert said_of(infant(tremor))["course"] == {"persistent", "improving"}


@pytest.mark.parametrize(
    "value", [coded(QUALIFIER, "terrible"), coded(SNOMED, "24484000"), coded(None, "severe"), {"text": "severe"}]
)
def test_an_unknown_value_is_ignored_and_listed(value: dict[str, Any]) -> None:
    tremor = observation("tremor", "2026-11-21", ("severity", value))
    answer = infant(tremor)
    assert workups(answer) == {"reassurance": "info"}
    assert [item["resource"] for item in report(answer)["ignored"]] == [f"Observation/{tremor['id']}"]


def test_an_unknown_qualifier_is_ignored_and_listed() -> None:
    assert report(infant(observation("tremor", "2026-11-21", ("mood", "severe"))))["ignored"]


@pytest.mark.parametrize(
    "value", [{"coding": [{"system": "urn:local", "code": "3"}, {"system": QUALIFIER, "code": "severe"}]},
              {"coding": [{"display": "?"}, {"code": "x"}, {"system": QUALIFIER, "code": "severe"}], "text": "bad"}],
)  # fmt: skip
def test_a_known_value_after_unknown_codings_is_read(value: dict[str, Any]) -> None:
    assert said_of(infant(observation("tremor", "2026-11-21", ("severity", value))))["severity"] == {"severe"}


@pytest.mark.parametrize(
    "part",
    [
        {"code": coded(QUALIFIER, "duration"), "valueQuantity": quantity(5)},
        {"code": coded(QUALIFIER, "duration"), "valueQuantity": {"value": 5, "unit": "h", "code": "h", "system": UCUM}},
        {"code": coded(QUALIFIER, "duration"), "valueString": "5 minutes"},
        {"code": coded(QUALIFIER, "duration"), "dataAbsentReason": ABSENT_REASON},
        {"code": coded(QUALIFIER, "severity"), "dataAbsentReason": ABSENT_REASON},
        {"code": coded(QUALIFIER, "severity"), "valueString": "severe"},
        {"code": coded(QUALIFIER, "course"), "valueBoolean": True},
    ],
)
def test_a_qualifier_that_cannot_be_read_is_unknown_and_takes_reassurance_away(part: dict[str, Any]) -> None:
    answer = infant(observation("tremor", "2026-11-21", component=[part]))
    assert outcome(answer, "R22") == outcome(answer, "R46") == "data-required"
    assert workups(answer) == {}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("10:00:00Z", "10:01:01Z", "recommended"), ("10:00:00Z", "10:01:00Z", "not-applicable"),
     ("10:00:00Z", "10:00:20Z", "not-applicable"), ("10:00:00+01:00", "09:01:30Z", "recommended"),
     ("10:00:00Z", "23:00:00Z", "recommended")],
)  # fmt: skip
def test_the_period_of_a_movement_is_its_duration(start: str, end: str, expected: str) -> None:
    period = {"start": f"2026-11-21T{start}", "end": f"2026-11-21T{end}"}
    assert outcome(infant(observation("tremor", None, effectivePeriod=period)), "R22") == expected


def test_a_stated_duration_goes_before_the_period() -> None:
    period = {"start": "2026-11-21T10:00:00Z", "end": "2026-11-21T10:30:00Z"}
    tremor = observation("tremor", None, ("duration", (5, "s")), effectivePeriod=period)
    assert workups(infant(tremor)) == {"reassurance": "info"}


@pytest.mark.parametrize(
    ("start", "end"), [("2026-11-21", "2026-11-21"), ("2026-11-21T10:00:00", "2026-11-21T10:05:00")]
)
def test_a_period_too_vague_for_a_duration_never_counts_as_short(start: str, end: str) -> None:
    answer = infant(observation("tremor", None, effectivePeriod={"start": start, "end": end}))
    assert "reassurance" not in workups(answer)


@pytest.mark.parametrize("write", BOTH)
@pytest.mark.parametrize(
    ("durations", "expected"),
    [((20, 90), "data-required"), ((90, 20), "data-required"), ((70, 90), "recommended"), ((20, 20), "not-applicable")],
)
def test_of_two_durations_stated_the_order_decides_nothing(
    write: Any, durations: tuple[int, int], expected: str
) -> None:
    tremor = write("tremor", "2026-11-21", *(("duration", (seconds, "s")) for seconds in durations))
    assert outcome(infant(tremor), "R22") == expected


def test_a_period_of_a_day_or_more_is_no_duration() -> None:
    period = {"start": "2026-11-20T10:00:00Z", "end": "2026-11-21T10:00:00Z"}
    fact = infant(observation("tremor", None, effectivePeriod=period)).record.finding("tremor").present[0]
    assert not fact.qualifiers.numbers


def test_a_period_that_ends_after_today_does_not_make_a_new_tremor_persistent() -> None:
    tremor = observation("tremor", None, effectivePeriod={"start": "2026-11-21", "end": "9999-12-31"})
    assert shown(infant(tremor), "tremor", "persistent") is not Truth.TRUE


@pytest.mark.parametrize(
    ("minutes", "expected"), [((0, 30, 60), Truth.TRUE), ((0, 30, 61), Truth.FALSE), ((0, 30), Truth.FALSE),
                              ((0, 61, 80, 100), Truth.TRUE), ((0, 0, 0), Truth.TRUE)]
)  # fmt: skip
@pytest.mark.parametrize("ids", [True, False])
def test_three_jerks_within_an_hour_cluster(minutes: tuple[int, ...], expected: Truth, ids: bool) -> None:
    kinds = ["myoclonus", "twitching", "myoclonic_seizure", "myoclonus"]
    jerks = [
        observation(kind, f"2026-11-21T{10 + m // 60}:{m % 60:02}:00Z", **({} if ids else {"id": None}),
                    note=[{"text": str(index)}])
        for index, (kind, m) in enumerate(zip(kinds, minutes, strict=False))
    ]  # fmt: skip
    answer = infant(*jerks)
    assert shown(answer, "myoclonus", "clustered") is expected
    assert outcome(answer, "R03") == ("recommended" if expected is Truth.TRUE else "not-applicable")


def test_three_jerks_of_one_date_may_be_a_cluster() -> None:
    answer = infant(*(observation("myoclonus", "2026-11-21") for _ in range(3)))
    assert outcome(answer, "R03") == "data-required"


def test_three_tremors_or_three_conditions_do_not_cluster() -> None:
    times = [f"2026-11-21T10:0{minute}:00Z" for minute in range(3)]
    assert shown(infant(*(observation("tremor", at) for at in times)), "tremor", "clustered") is Truth.FALSE
    assert shown(infant(*(condition("myoclonus", at) for at in times)), "myoclonus", "clustered") is Truth.FALSE


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([observation("tremor", "2026-11-07"), observation("tremor", "2026-11-21")], Truth.TRUE),
        ([observation("tremor", "2026-11-08"), observation("tremor", "2026-11-21")], Truth.FALSE),
        ([observation("tremor", "2026-11"), observation("tremor", "2026-11-21")], Truth.UNKNOWN),
        ([observation("tremor", "2026-11"), observation("tremor", "2026-11")], Truth.UNKNOWN),
        ([observation("tremor", "2026-11")], Truth.FALSE),
        ([observation("tremor", "2026-11-07"), observation("tremor", "2026-11-21", valueBoolean=False)], Truth.FALSE),
        ([observation("tremor", "2026-11-07"), observation("limb_tremor", "2026-11-21")], Truth.FALSE),
        ([condition("tremor", "2026-11-08")], Truth.TRUE), ([condition("tremor", "2026-11-09")], Truth.FALSE),
        ([condition("tremor", "2026-11-08", clinical="resolved")], Truth.FALSE),
        ([condition("tremor", None, recordedDate="2026-08-01")], Truth.FALSE),
        ([condition("tremor", "2026-11")], Truth.UNKNOWN),
        ([condition("tremor", None, onsetString="last month")], Truth.UNKNOWN),
        ([observation("tremor", "2026-11-01"), condition("tremor")], Truth.TRUE),
    ],
)  # fmt: skip
def test_a_finding_on_two_days_a_fortnight_apart_is_persistent(facts: list[dict[str, Any]], expected: Truth) -> None:
    assert shown(infant(*facts), "tremor", "persistent") is expected


SIDE = {"left": coded(SNOMED, "7771000"), "right": coded(SNOMED, "24028007"), "both": coded(SNOMED, "51440002")}


@pytest.mark.parametrize(
    "clonus",
    [
        [observation("ankle_clonus", "2026-11-21", ("laterality", "bilateral"))],
        [observation("ankle_clonus", "2026-11-21", bodySite=SIDE["both"])],
        [condition("ankle_clonus", None, bodySite=[SIDE["both"]])],
        [condition("ankle_clonus", None, bodySite=[SIDE["left"], SIDE["right"]])],
        [observation("ankle_clonus", "2026-11-21", ("laterality", "left"), ("laterality", "right"))],
        [observation("ankle_clonus", "2026-11-21T08:00:00Z", ("laterality", "left")),
         observation("ankle_clonus", "2026-11-21T20:00:00Z", bodySite=SIDE["right"])],
        [condition("ankle_clonus", None, bodySite=[SIDE["left"]]),
         condition("ankle_clonus", None, bodySite=[SIDE["right"]])],
        [condition("ankle_clonus", "2026-11-18", bodySite=[SIDE["left"]]),
         condition("ankle_clonus", "2026-11-20", bodySite=[SIDE["right"]])],
    ],
)  # fmt: skip
def test_clonus_on_both_sides_is_bilateral(clonus: list[dict[str, Any]]) -> None:
    answer = infant(*clonus)
    assert outcome(answer, "R13") == "recommended"
    assert workups(answer)["mri_brain"] == "warning"


@pytest.mark.parametrize("beats", [10, (10, "{beats}")])
def test_ten_beats_are_not_many_and_eleven_are(beats: Any) -> None:
    assert outcome(infant(observation("ankle_clonus", "2026-11-21", ("beats", beats))), "R13") == "not-applicable"
    assert outcome(infant(observation("ankle_clonus", "2026-11-21", ("beats", 11))), "R13") == "recommended"
    more = {"code": coded(QUALIFIER, "beats"), "valueQuantity": quantity(10, "1", comparator=">")}
    assert outcome(infant(observation("ankle_clonus", "2026-11-21", component=[more])), "R13") == "recommended"


@pytest.mark.parametrize(("code", "severe"), [("24484000", True), ("6736007", False), ("255604002", False)])
def test_the_severity_of_a_condition_is_read(code: str, severe: bool) -> None:
    answer = infant(condition("tremor", "2026-11-20", severity=coded(SNOMED, code)))
    assert (outcome(answer, "R22") == "recommended") is severe


def test_an_interpretation_is_not_a_severity() -> None:
    flagged = lab("lab_glucose", None, None, flagged="HH")["interpretation"]
    assert workups(infant(observation("tremor", interpretation=flagged))) == {"reassurance": "info"}


def test_qualifiers_of_several_findings_in_one_observation_apply_to_each() -> None:
    both = [{"code": codeable("tremor")}, {"code": codeable("muscle_spasm")}, qualifier("severity", "severe")]
    answer = infant(observation(coded(LOINC, "85353-1"), component=both))
    assert said_of(answer, "tremor") == said_of(answer, "muscle_spasm") == {"severity": frozenset({"severe"})}


def test_an_extension_without_its_value_is_unknown() -> None:
    bare = resource("Condition", code=codeable("tremor"), extension=[
        {"url": QUALIFIER_EXTENSION, "extension": [{"url": "code", "valueCode": "severity"}]}])  # fmt: skip
    assert outcome(infant(bare), "R22") == "data-required"
