"""Where the marks of a chart lie, in the units of its SVG; the template draws them, and a table holds the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 36


class Mark(NamedTuple):
    """One point of the line. ``low`` and ``high``: where its limits lie, None without; ``title`` says it in words."""

    x: float
    y: float
    low: float | None
    high: float | None
    outside: bool
    label: str
    title: str


class Chart(NamedTuple):
    """A line over weeks. ``ticks`` are (y, words); ``markers`` are (x, words), such as a release."""

    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    markers: Sequence[tuple[float, str]]

    @property
    def line(self) -> str:
        """The points of the polyline."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)

    def limit(self, side: str) -> str:
        """The points of the lower or upper limit."""
        return " ".join(
            f"{mark.x:.1f},{value:.1f}" for mark in self.marks if (value := getattr(mark, side)) is not None
        )


class Point(NamedTuple):
    """A value of one week, with its limits."""

    week: str
    value: float
    low: float | None = None
    high: float | None = None
    outside: bool = False


def chart(points: Sequence[Point], unit: str, markers: Mapping[str, str]) -> Chart:
    """The chart of these weeks; ``markers`` maps a week to what began in it. Values are not negative."""
    most = max((value for point in points for value in (point.value, point.high or 0.0)), default=0.0)
    top = _round_up(most)
    inner = WIDTH - LEFT - RIGHT

    def x(place: int) -> float:
        return LEFT + (inner * place / (len(points) - 1) if len(points) > 1 else inner / 2)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    marks = [
        Mark(x(place), y(point.value), None if point.low is None else y(point.low),
             None if point.high is None else y(point.high), point.outside, point.week,
             f"Week of {point.week}: {point.value:.3g}{unit}" + (", outside its limits" if point.outside else ""))
        for place, point in enumerate(points)
    ]  # fmt: skip
    ticks = [(y(top * part / 4), f"{top * part / 4:.3g}{unit}") for part in range(5)]
    weeks = [point.week for point in points]
    places = [(x(weeks.index(week)), words) for week, words in markers.items() if week in weeks]
    return Chart(marks, ticks, places)


def _round_up(most: float) -> float:
    """The next 1, 2, 4 or 5 of a power of ten, so that ticks are plain numbers."""
    if most <= 0:
        return 1.0
    step = 10.0
    while step > most:
        step /= 10
    while step * 10 < most:
        step *= 10
    return next(factor * step for factor in (1, 2, 4, 5, 10) if factor * step >= most)
