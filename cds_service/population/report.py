"""The summary as one HTML page: tables with bars, readable on paper, with nothing from elsewhere in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cds_service.population.attrition import RECOMMENDED
from cds_service.population.disclosure import HIDDEN, ROUNDED_TO, SMALLEST_SHOWN, Shown

TEMPLATES = Path(__file__).parent / "templates"
WIDEST = 240  # of a bar, in the units of the SVG
STEPS = {
    "not evaluated": "could not be evaluated", "other age": "not of the age of any rule",
    "no finding": "no finding that a rule asks about", "excluded": "a rule applies, but its exclusion does too",
    "rule failed": "a rule failed, a defect of the software", "not evaluable": "a rule waits for data",
    "done or ordered": "all that is asked for is done or ordered", "recommended": "a workup is recommended",
}  # fmt: skip


class Step(NamedTuple):
    """A step of the way. ``left``: the infants who leave it here; ``going``: who go on, in words where it is a guess.

    ``start`` and ``width``: where the bar of those who leave lies, in units of the SVG; ``whole``: of those who came.
    """

    stage: str
    words: str
    number: Shown
    going: Shown
    start: int
    width: int
    whole: int


def report_page(summary: Mapping[str, Any]) -> str:
    """The page. Every number in it stands in the summary, or is a difference of two that do."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["bar"] = bar
    way = waterfall(summary["attrition"], summary["patients"]["all"])
    return environment.get_template("report.html").render(summary, way=way, widest=WIDEST)


def waterfall(attrition: Mapping[str, Shown], everybody: Shown, widest: int = WIDEST) -> list[Step]:
    """The stages in the order of the way, with how many go on after each. The last is where nobody leaves any more.

    Who go on is said from the numbers shown alone, so that it tells no more than they do.
    """
    going, guessed = amount(everybody), isinstance(everybody, str)
    whole = max(going, 1)
    steps = []
    for stage, number in attrition.items():
        guessed |= isinstance(number, str) or (number > 0 and guessed)
        came = going
        if stage != RECOMMENDED:
            going = max(going - amount(number), 0)
        rounded = (going + ROUNDED_TO // 2) // ROUNDED_TO * ROUNDED_TO
        start = 0 if stage == RECOMMENDED else round(widest * going / whole)
        end = round(widest * (amount(number) if stage == RECOMMENDED else came) / whole)
        width = max(end - start, 1 if amount(number) else 0)
        shown = f"about {rounded}" if guessed else going
        steps.append(Step(stage, STEPS.get(stage, stage), number, shown, min(start, widest - width), width,
                          round(widest * came / whole)))  # fmt: skip
    return steps


def amount(number: Shown) -> int:
    """A number to draw; a hidden one has the middle of its range."""
    return SMALLEST_SHOWN // 2 if number == HIDDEN else int(number)


def bar(number: Shown, of: Shown, widest: int = WIDEST) -> int:
    """How wide the bar of a number is beside that of the whole."""
    part, whole = amount(number), amount(of)
    return round(widest * min(part, whole) / whole) if whole else 0
