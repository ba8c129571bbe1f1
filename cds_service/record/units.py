"""Quantities as intervals in a known unit. Only UCUM codes of a closed table are understood.

``mEq/L`` is not UCUM (``meq/L`` is), and a unit that an analyte's table does not hold is not converted:
the value is then not evaluated, never guessed (ENCODING §4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from cds_service.record.codes import UCUM
from cds_service.record.decode import Quantity
from cds_service.record.facts import Interval

T = TypeVar("T")


def interval_of(quantity: Quantity | None) -> Interval | None:
    """The numbers that the quantity can be; None without a finite value or with an unknown comparator."""
    if quantity is None or quantity.value is None or not math.isfinite(quantity.value):
        return None
    value = quantity.value
    match quantity.comparator:
        case None:
            return Interval(value, value)
        case "<" | "<=" as sign:
            return Interval(-math.inf, value, hi_open=sign == "<")
        case ">" | ">=" as sign:
            return Interval(value, math.inf, lo_open=sign == ">")
    return None


def unit_code(quantity: Quantity, known: Mapping[str, T]) -> str | None:
    """The quantity's UCUM code if the table holds it; the printed unit serves when no UCUM code is given."""
    if quantity.code is not None and quantity.system == UCUM:
        return quantity.code if quantity.code in known else None
    if quantity.unit is not None:
        return quantity.unit if quantity.unit in known else None
    return quantity.code if quantity.system is None and quantity.code in known else None


def scaled(interval: Interval, factor: float) -> Interval:
    """The interval in another unit: each end × factor."""
    if factor == 1.0:
        return interval
    return interval._replace(lo=interval.lo * factor, hi=interval.hi * factor)
