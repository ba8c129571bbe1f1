"""The summary of an audit or a replay as one HTML page: tables with bars, readable on paper, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cds_service.population.disclosure import HIDDEN, SMALLEST_SHOWN, Shown, rounded

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
    way = waterfall(summary["attrition"], summary["patients"]["all"])
    return _page("report.html", summary, way=way, widest=WIDEST)


def replay_page(summary: Mapping[str, Any]) -> str:
    """The page of a replay. Every number in it stands in the summary."""
    return _page("replay.html", summary)


def _page(name: str, summary: Mapping[str, Any], **more: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"bar": bar, "amount": amount}
    return environment.get_template(name).render(summary, **more)


def waterfall(attrition: Mapping[str, Shown], everybody: Shown) -> list[Step]:
    """The stages in the order of the way, with how many go on after each; after the last is nobody.

    Who go on is the sum of the later numbers as they are shown, so that it tells no more than they do.
    """
    numbers = list(attrition.items())
    whole = max(amount(everybody), sum(map(amount, attrition.values())), 1)
    steps = []
    for place, (stage, number) in enumerate(numbers):
        later = [left for _, left in numbers[place + 1 :] if left != 0]
        going = sum(map(amount, later))
        came = going + amount(number)
        start, end = round(WIDEST * going / whole), round(WIDEST * came / whole)
        width = max(end - start, 1 if came > going else 0)
        guessed = any(isinstance(left, str) for left in later) and len(later) > 1
        about = f"about {min(rounded(going), amount(everybody))}"
        shown = later[0] if len(later) == 1 else about if guessed else going
        steps.append(Step(stage, STEPS.get(stage, stage), number, shown, min(start, WIDEST - width), width, end))
    return steps


def amount(number: Shown) -> int:
    """A number to draw; a hidden one has the middle of its range."""
    return SMALLEST_SHOWN // 2 if number == HIDDEN else int(number)


def bar(number: Shown, of: Shown) -> int:
    """How wide the bar of a number is beside that of the whole."""
    part, whole = amount(number), amount(of)
    return round(WIDEST * min(part, whole) / whole) if whole else 0
