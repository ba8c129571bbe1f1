"""Whether a rule fires as often as it used to: the share of views in each week against limits of a p-chart.

A week outside its limits is as rare as three standard deviations would make it if nothing had changed (Shewhart).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

SIGMAS = 3.0
FEWEST_WEEKS = 4
FEWEST_VIEWS = 200  # in all weeks; below, limits say nothing


class Week(NamedTuple):
    """One week. ``low`` and ``high`` are the limits of its share, None where there are too few views for limits."""

    monday: str
    views: int
    fired: int
    low: float | None
    high: float | None

    @property
    def share(self) -> float:
        """Of the views, how many fired; 0 of none."""
        return self.fired / self.views if self.views else 0.0

    @property
    def outside(self) -> bool:
        """Whether the share lies beyond its limits."""
        return self.low is not None and self.high is not None and not self.low <= self.share <= self.high


def weeks_of(views: Mapping[str, int], fired: Mapping[str, int]) -> Sequence[Week]:
    """The weeks in which there were views, oldest first, with limits around their common share."""
    mondays = sorted(week for week, number in views.items() if number)
    total = sum(views[week] for week in mondays)
    common = sum(fired.get(week, 0) for week in mondays) / total if total else 0.0
    enough = len(mondays) >= FEWEST_WEEKS and total >= FEWEST_VIEWS
    found = []
    for week in mondays:
        spread = SIGMAS * sqrt(common * (1 - common) / views[week])
        limits = (max(0.0, common - spread), min(1.0, common + spread)) if enough else (None, None)
        found.append(Week(week, views[week], fired.get(week, 0), *limits))
    return found
