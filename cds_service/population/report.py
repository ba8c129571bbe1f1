"""The summary as one HTML page: tables with bars, readable on paper, with nothing from elsewhere in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cds_service.population.disclosure import HIDDEN, SMALLEST_SHOWN, Shown

TEMPLATES = Path(__file__).parent / "templates"
WIDEST = 240  # of a bar, in the units of the SVG


def report_page(summary: Mapping[str, Any]) -> str:
    """The page. Every number in it stands in the summary."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["bar"] = bar
    return environment.get_template("report.html").render(summary, way=waterfall(summary["attrition"]))


def waterfall(attrition: Mapping[str, Shown]) -> list[tuple[str, Shown]]:
    """The stages at which infants leave, in the order of the way."""
    return list(attrition.items())


def bar(number: Shown, of: Shown) -> int:
    """How wide the bar of a number is beside that of the whole; a hidden number has the middle of its range."""
    part, whole = (SMALLEST_SHOWN // 2 if value == HIDDEN else int(value) for value in (number, of))
    return round(WIDEST * min(part, whole) / whole) if whole else 0
