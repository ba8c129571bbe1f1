"""Laboratory results beside the point: without unit, as text, just inside a limit, hemolysed, too old …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from cds_service.population.synthetic.findings import RECENT, coded
from cds_service.population.synthetic.infant_chart import InfantChart, Json
from cds_service.population.synthetic.results import FLAGS, Way, limit_on, quantity, result_code
from cds_service.record.times import DAY

HEMOLYSED = "Specimen hemolysed, interpret with care."


def _way(chart: InfantChart, says: str, fits: Callable[[str, Way], bool] = lambda analyte, way: True) -> (
    tuple[str, Way] | None
):  # fmt: skip
    """An analyte of which the chart says nothing yet, and a way to write it that has such numbers."""
    known = chart.names_planted()
    ways = [
        (analyte, way)
        for analyte, several in chart.content.data["labs"].items()
        for way in several
        if analyte not in known and says in way and fits(analyte, way)
    ]
    return chart.one_of(ways) if ways else None


def _write(
    chart: InfantChart, planted_as: str, analyte: str, way: Way, value: Json, day: date | None = None, **more: Any
) -> bool:  # fmt: skip
    body: Json = {"status": "final", "code": result_code(chart, way), **value, **more}
    body["effectiveDateTime"] = (day or chart.day_ago(RECENT)).isoformat()
    reference = chart.add("Observation", body)
    truth: Json = {"lab": analyte, "encoding": "observation"}
    if planted_as == "present":
        truth |= {"says": "low", "value": value["valueQuantity"]["value"], "unit": way["unit"], "encoding": "value",
                  "place": "alone", "time": "date", "near": "just-outside"}  # fmt: skip
    chart.plant(planted_as, reference, **truth)
    return True


def _low(chart: InfantChart, kind: str, shape: Callable[[Way, float], Json], **more: Any) -> bool:
    """A result that would be low, in a shape or with an element that keeps it from saying so."""
    found = _way(chart, "low")
    if found is None:
        return False
    return _write(chart, f"decoy:{kind}", *found, shape(found[1], _number(chart, found[1], "low")), **more)


def _number(chart: InfantChart, way: Way, says: str) -> float:
    return chart.between(way[says], way["decimals"])


def _quantity(way: Way, value: float) -> Json:
    return {"valueQuantity": quantity(value, way["unit"])}


def _without_unit(chart: InfantChart) -> bool:
    return _low(chart, "lab-without-unit", lambda way, value: {"valueQuantity": {"value": value}})


def _as_text(chart: InfantChart) -> bool:
    return _low(chart, "lab-as-text", lambda way, value: {"valueString": f"{value} {way['unit']}"})


def _not_ucum(chart: InfantChart) -> bool:
    found = _way(chart, "low", lambda analyte, way: "not_ucum" in way)
    if found is None:
        return False
    value = {"value": _number(chart, found[1], "low"), "unit": found[1]["not_ucum"]}
    return _write(chart, "decoy:lab-not-ucum", *found, {"valueQuantity": value})


def _beside_limit(chart: InfantChart, status: str, sign: int) -> bool:
    """One last digit beside the pack's limit for this infant on this day."""
    day = chart.day_ago(RECENT)
    found = _way(chart, "low", lambda analyte, way: limit_on(chart, analyte, way, "low", day) is not None)
    if found is None:
        return False
    analyte, way = found
    limit = limit_on(chart, analyte, way, "low", day) or 0.0
    value = round(limit + sign * 10.0 ** -way["decimals"], way["decimals"])
    return _write(chart, status, analyte, way, _quantity(way, value if way["decimals"] else int(value)), day)


def _just_inside(chart: InfantChart) -> bool:
    return _beside_limit(chart, "decoy:lab-just-inside", 1)


def _just_outside(chart: InfantChart) -> bool:
    return _beside_limit(chart, "present", -1)


def _called_normal(chart: InfantChart) -> bool:
    return _low(chart, "lab-called-normal", _quantity, interpretation=[coded(FLAGS, "N")])


def _hemolysed(chart: InfantChart) -> bool:
    """High only because the specimen was spoiled, which a note or the Specimen tells."""
    spoiled = {name for name, analyte in chart.reading.analytes.items() if analyte.spoiled_by_hemolysis}
    found = _way(chart, "high", lambda analyte, way: analyte in spoiled)
    if found is None:
        return False
    told: Json = {"note": [{"text": HEMOLYSED}]}
    if chart.chance(0.5):
        system, code = chart.one_of(sorted(chart.reading.hemolyzed_codes))
        specimen = chart.add("Specimen", {"condition": [coded(system, code)]} if chart.chance(0.5) else told)
        told = {"specimen": {"reference": specimen}}
    value = _quantity(found[1], _number(chart, found[1], "high"))
    return _write(chart, "decoy:lab-hemolysed", *found, value, None, **told)


def _old(chart: InfantChart) -> bool:
    """Low once, long before the newest finding of any story."""
    window = chart.reading.lab_window // DAY
    if chart.age_days < 10 * window:
        return False
    found = _way(chart, "low")
    if found is None:
        return False
    value = _quantity(found[1], _number(chart, found[1], "low"))
    return _write(chart, "decoy:lab-old", *found, value, chart.day_ago((6 * window, 9 * window)))


def _entered_in_error(chart: InfantChart) -> bool:
    return _low(chart, "lab-entered-in-error", _quantity, status="entered-in-error")


def _of_other_specimen(chart: InfantChart) -> bool:
    """A number that would be low in blood, measured in something else."""
    other = chart.content.data["near_misses"]["other_specimen"]
    if other["concept"] in chart.names_planted():
        return False
    body = {
        "status": "final", "code": chart.code(other["concept"]), "effectiveDateTime": chart.day.isoformat(),
        "valueQuantity": quantity(chart.between(other["value"]), other["unit"]),
    }  # fmt: skip
    reference = chart.add("Observation", body)
    chart.plant("present", reference, work=other["concept"], done=True, encoding="result")
    chart.plant("decoy:lab-of-other-specimen", reference, lab=other["of"], encoding="observation")
    return True


RESULT_KINDS: Mapping[str, Callable[[InfantChart], bool]] = {
    "lab-without-unit": _without_unit, "lab-as-text": _as_text, "lab-not-ucum": _not_ucum,
    "lab-just-inside": _just_inside, "lab-just-outside": _just_outside, "lab-called-normal": _called_normal,
    "lab-hemolysed": _hemolysed, "lab-old": _old, "lab-entered-in-error": _entered_in_error,
    "lab-of-other-specimen": _of_other_specimen,
}  # fmt: skip
