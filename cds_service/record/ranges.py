"""The normal ranges that a sender gives with a laboratory value, and which of them are of this infant (ENCODING §4)."""

from __future__ import annotations

from cds_service.record.ages import Age, Birth, in_band
from cds_service.record.codes import UCUM
from cds_service.record.conditions import AGE_UNITS, LONGEST_AGE
from cds_service.record.decode import Observation, ObservationComponent, Quantity
from cds_service.record.facts import NormalRange
from cds_service.record.reading import Analyte
from cds_service.record.times import Span
from cds_service.record.truth import FALSE
from cds_service.record.units import unit_code

BIRTH, NEVER = Age(0, "d"), Age(LONGEST_AGE, "mo")


def ranges_of(part: Observation | ObservationComponent, code: str | None, analyte: Analyte) -> tuple[NormalRange, ...]:
    """The sender's normal ranges that are in the very unit of the value, with ends in the scale's unit.

    UCUM spells the litre l and L: mmol/l is the very unit of mmol/L.
    """
    found = []
    for given in part.referenceRange:
        if given.type is not None and not any(c.code == "normal" for c in given.type.coding):
            continue
        ends: list[float | None] = []
        for quantity in (given.low, given.high):
            unit = unit_code(quantity, analyte.units) if quantity is not None else None
            if quantity is None or quantity.value is None or (unit or "").lower() != (code or "").lower():
                ends.append(None)
            else:
                ends.append(quantity.value * analyte.units[code or ""][1])
        if ends != [None, None]:
            since, until = (None, None) if given.age is None else (_age(given.age.low), _age(given.age.high))
            found.append(NormalRange(ends[0], ends[1], since, until))
    return tuple(found)


def meant_for(ranges: tuple[NormalRange, ...], birth: Birth | None, at: Span) -> list[NormalRange]:
    """Without those that name an age which the infant did not have then; an age that cannot be read bars nothing."""
    return [
        given
        for given in ranges
        if (given.since is None and given.until is None)
        or in_band(birth, at, Age(*given.since or BIRTH), Age(*given.until or NEVER), None) is not FALSE
    ]


def _age(quantity: Quantity | None) -> Age | None:
    if quantity is None or quantity.value is None or quantity.system not in (None, UCUM):
        return None
    unit = AGE_UNITS.get(quantity.code or "")
    if unit is None or not 0 <= quantity.value <= LONGEST_AGE or quantity.value != int(quantity.value):
        return None
    name, factor = unit
    return Age(int(quantity.value) * factor, name)
