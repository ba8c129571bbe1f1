"""Every legal way to write a finding and what is said of it (docs/synthetic.md, the tables FORMS, TIMES, ONSETS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from cds_service.population.synthetic.infant_chart import InfantChart, Json, instant
from cds_service.record.codes import UCUM

Said = dict[str, Any]


class Say(NamedTuple):
    """What an Observation has to say: the finding's code, present or not, as a coded answer, to a question."""

    code: Json
    present: bool
    answer: Json
    question: Json


def _in_component(say: Say, component: Json) -> Json:
    return {"code": say.question, "component": [component]}


# Observations that state a finding present.
FORMS: Mapping[str, Callable[[Say], Json]] = {
    "observation-no-value": lambda say: {"code": say.code},
    "observation-boolean": lambda say: {"code": say.code, "valueBoolean": say.present},
    "observation-answer": lambda say: {"code": say.code, "valueCodeableConcept": say.answer},
    "observation-value": lambda say: {"code": say.question, "valueCodeableConcept": say.code},
    "component-no-value": lambda say: _in_component(say, {"code": say.code}),
    "component-boolean": lambda say: _in_component(say, {"code": say.code, "valueBoolean": say.present}),
    "component-answer": lambda say: _in_component(say, {"code": say.code, "valueCodeableConcept": say.answer}),
    "component-value": lambda say: _in_component(say, {"code": say.question, "valueCodeableConcept": say.code}),
}
# Those that can also state it absent.
DENYING = ("observation-boolean", "observation-answer", "component-boolean", "component-answer")


def answer(chart: InfantChart, present: bool) -> Json:
    """A coded yes or no."""
    codes = chart.reading.present_codes if present else chart.reading.absent_codes
    system, code = chart.one_of(sorted(codes))
    return {"coding": [{"system": system, "code": code}]}


class Time(NamedTuple):
    """When it was: the day, the time of day, and how long in seconds (for a Period)."""

    day: date
    clock: tuple[int, int, int]
    seconds: float


def _period(time: Time) -> Json:
    return {"start": instant(time.day, time.clock), "end": instant(time.day, time.clock, int(time.seconds))}


TIMES: Mapping[str, Callable[[Time], Json]] = {
    "date": lambda time: {"effectiveDateTime": time.day.isoformat()},
    "dateTime": lambda time: {"effectiveDateTime": instant(time.day, time.clock)},
    "local-dateTime": lambda time: {"effectiveDateTime": instant(time.day, time.clock, local=True)},
    "Instant": lambda time: {"effectiveInstant": instant(time.day, time.clock)},
    "Period": lambda time: {"effectivePeriod": _period(time)},
}


class Onset(NamedTuple):
    """How the onset is written, and the last day that it can mean; None when it says no day."""

    elements: Json
    latest: date | None


def _of_day(day: date, born: date) -> Onset:
    return Onset({"onsetDateTime": day.isoformat()}, day)


def _of_age(day: date, born: date) -> Onset:
    return Onset({"onsetAge": _age((day - born).days, "d")}, day)


def _of_age_in_months(day: date, born: date) -> Onset:
    months = (day.year - born.year) * 12 + day.month - born.month - (day.day < born.day)
    return Onset({"onsetAge": _age(months, "mo")}, day + timedelta(days=32))


def _of_period(day: date, born: date) -> Onset:
    return Onset({"onsetPeriod": {"start": day.isoformat()}}, day)


def _of_month(day: date, born: date) -> Onset:
    return Onset({"onsetDateTime": f"{day:%Y-%m}"}, day + timedelta(days=32))


def _unsaid(day: date, born: date) -> Onset:
    return Onset({}, None)


def _age(value: int, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


ONSETS: Mapping[str, Callable[[date, date], Onset]] = {
    "onset-day": _of_day, "onset-age": _of_age, "onset-period": _of_period, "onset-none": _unsaid,
    "onset-month": _of_month, "onset-age-months": _of_age_in_months,
}  # fmt: skip
VAGUE_ONSETS = ("onset-month", "onset-age-months")
AGES = ("onset-age", "onset-age-months")


def parts_of(chart: InfantChart, said: Said) -> list[tuple[str, Json]]:
    """Each qualifier as (code, value[x]); lists in one of the legal units."""
    return [(name, _value(chart, name, value)) for name, value in said.items()]


def _value(chart: InfantChart, name: str, value: Any) -> Json:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, str):
        concept = {"coding": [{"system": chart.reading.qualifier_system, "code": value}]}
        return {"valueCodeableConcept": concept}
    if name in COUNTS:
        if name == "event-count" or chart.chance(0.5):
            return {"valueInteger": value}
        unit = chart.one_of(sorted(chart.reading.count_units))
        return {"valueQuantity": {"value": value, "system": UCUM, "code": unit}}
    unit = chart.one_of(sorted(chart.reading.duration_units))
    number = round(value / chart.reading.duration_units[unit], 4)
    if number * chart.reading.duration_units[unit] != value:  # 7 s is no round number of minutes
        number, unit = value, "s"
    return {"valueQuantity": {"value": number, "unit": unit, "system": UCUM, "code": unit}}


COUNTS = ("beats", "event-count")


def components(chart: InfantChart, said: Said) -> list[Json]:
    """The qualifiers as components of an Observation."""
    system = chart.reading.qualifier_system
    return [{"code": {"coding": [{"system": system, "code": name}]}, **value} for name, value in parts_of(chart, said)]


def extensions(chart: InfantChart, said: Said) -> list[Json]:
    """The qualifiers as extensions of a Condition."""
    return [
        {
            "url": chart.reading.qualifier_extension,
            "extension": [{"url": "code", "valueCode": name}, {"url": "value", **value}],
        }
        for name, value in parts_of(chart, said)
    ]


def native(table: Mapping[tuple[str, str], str], value: str) -> Json | None:
    """The standard's own CodeableConcept for a value, when the pack knows one."""
    for (system, code), meaning in table.items():
        if meaning == value:
            return {"coding": [{"system": system, "code": code}]}
    return None
