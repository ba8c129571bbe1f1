"""Laboratory results in every legal form: mass and amount, printed units, flags, ranges, panels (table FORMS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from cds_service.population.synthetic.encodings import TIMES, Time
from cds_service.population.synthetic.findings import RECENT, STATUSES, coded
from cds_service.population.synthetic.infant_chart import InfantChart, Json
from cds_service.record.ages import NOT_RECORDED, Birth, Gestation, in_band
from cds_service.record.codes import UCUM
from cds_service.record.times import parse_span
from cds_service.record.truth import FALSE, TRUE

FLAGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
FLAG = {"low": "L", "normal": "N", "high": "H"}
Way = Mapping[str, Any]


def quantity(value: float, unit: str) -> Json:
    """The number with its UCUM unit."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _range(way: Way) -> Json:
    low, high = (quantity(end, way["unit"]) for end in way["range"])
    return {"referenceRange": [{"low": low, "high": high}]}


def _flag(says: str) -> Json:
    return {"interpretation": [coded(FLAGS, FLAG[says])]}


def _measured(way: Way, value: float, says: str) -> Json:
    return {"valueQuantity": quantity(value, way["unit"])}


def _at_least(way: Way, value: float, says: str) -> Json:
    sign = {"low": "<", "high": ">"}.get(says)
    return {"valueQuantity": quantity(value, way["unit"]) | ({"comparator": sign} if sign else {})}


# The value elements of a result, by the way in which it is told.
FORMS: Mapping[str, Callable[[Way, float, str], Json]] = {
    "value": _measured,
    "printed-unit": lambda way, value, says: {"valueQuantity": {"value": value, "unit": way["unit"]}},
    "with-range": lambda way, value, says: _measured(way, value, says) | _range(way),
    "with-flag": lambda way, value, says: _measured(way, value, says) | _flag(says),
    "flag-without-unit": lambda way, value, says: {"valueQuantity": {"value": value}, **_flag(says)},
    "comparator": _at_least,
}
JUDGED_BY_SENDER = ("with-range", "with-flag")
PLACES = ("alone", "alone", "component", "panel-member")


def state_lab(chart: InfantChart, fact: Mapping[str, Any], forms: Sequence[str] = tuple(FORMS)) -> None:
    """Plant one result of a story that is low, normal or high."""
    says = chart.drawn(fact["is"])
    way = chart.one_of([way for way in chart.content.data["labs"][fact["lab"]] if says in way])
    value = chart.between(way[says], way["decimals"])
    form = chart.one_of(forms)
    write_result(chart, fact["lab"], way, value, says, form, chart.day_ago(fact.get("days_ago", RECENT)))


def write_result(
    chart: InfantChart, analyte: str, way: Way, value: float, says: str, form: str, day: date
) -> None:  # fmt: skip
    """Write a result alone, as a component of a panel or as its member, and plant it."""
    code = result_code(chart, way)
    time = chart.one_of(list(TIMES))
    when = TIMES[time](Time(day, chart.clock(), 1))
    body = {"code": code, **FORMS[form](way, value, says)}
    base: Json = {"status": chart.one_of(STATUSES), **when}
    place = chart.one_of(PLACES) if analyte in chart.content.data["panel_analytes"] else "alone"
    panel = chart.one_of(chart.content.data["panels"])
    if place == "component":
        reference = chart.add("Observation", {**base, "code": chart.code(panel), "component": [body]})
    else:
        reference = chart.add("Observation", {**base, **body})
    chart.plant("present", reference, lab=analyte, says=says, value=value, unit=way["unit"], encoding=form, place=place,
                time=time)  # fmt: skip
    if place == "panel-member":
        members = {"code": chart.code(panel), "hasMember": [{"reference": reference}]}
        chart.plant("present", chart.add("Observation", {**base, **members}), work=panel, done=True, encoding=place)
    elif place == "component":
        chart.plant("present", reference, work=panel, done=True, encoding=place)


def result_code(chart: InfantChart, way: Way) -> Json:
    """The way's code, with the system that it has in the vocabulary."""
    coding = next(c for c in chart.content.codings[way["concept"]] if c.code == way["code"])
    return coding.coded(chart.display(way["concept"]))


def limit_on(chart: InfantChart, analyte: str, way: Way, side: str, day: date) -> float | None:
    """The pack's limit for this infant on a day, in the way's unit; None when no one band applies for certain."""
    reading = chart.reading
    at, born = parse_span(day.isoformat()), parse_span(chart.identity.born.isoformat())
    recorded = any("gestation" in item for item in chart.planted)
    gestation = Gestation(TRUE, chart.identity.gestation_days) if recorded else NOT_RECORDED
    if at is None or born is None or not chart.birth_date_written:
        return None
    birth = Birth(born, gestation, reading.term_days, reading.preterm_below_days)
    scale, factor = reading.analytes[analyte].units[way["unit"]]
    found = []
    for band in reading.analytes[analyte].bands[way["concept"]]:
        inside = in_band(birth, at, band.start, band.end, band.preterm)
        if band.direction == side and inside is not FALSE:
            found.append((inside, band.limit.get(scale)))
    if len(found) != 1 or found[0][0] is not TRUE or found[0][1] is None:
        return None
    return found[0][1] / factor
