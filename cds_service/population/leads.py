"""What followed a first card, after how many days, and what is not known of that: bands to count in, and quartiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cds_service.population.disclosure import Disclosure, Shown

LEADS = ((0, "same day"), (7, "1 to 7 days"), (30, "8 to 30 days"), (90, "31 to 90 days"))
LATER, NOTHING = "over 90 days", "nothing followed"
DAY_NOT_KNOWN, NOT_KNOWN = "followed, day not known", "not known whether any followed"
DAYS = (*(name for _, name in LEADS), LATER)
BANDS = (*DAYS, DAY_NOT_KNOWN, NOT_KNOWN, NOTHING)
QUARTILES = (("firstQuartile", 1), ("median", 2), ("thirdQuartile", 3))  # in quarters


class Followed(NamedTuple):
    """A disorder or workup by its name, and where it is recorded. ``days``: the fewest and the most its date allows.

    ``ordered``: of work, that it was not yet done.
    """

    name: str
    days: tuple[int, int]
    reference: str
    ordered: bool = False

    @property
    def day(self) -> int | None:
        """The days after the first card; None where the date leaves them open."""
        return self.days[0] if self.days[0] == self.days[1] else None


class WhatFollowed(NamedTuple):
    """What followed for certain; the names of which that is not known, and why of others it is not either."""

    followed: tuple[Followed, ...]
    doubtful: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def day(self) -> int | None:
        """To the first of those that followed for certain; None: there is none, or its date leaves the day open."""
        fewest = min((one.days[0] for one in self.followed), default=None)
        return fewest if fewest == min((one.days[1] for one in self.followed), default=None) else None

    @property
    def not_known(self) -> list[str]:
        """All that is not known, as an infant's row says it."""
        return [*self.doubtful, *self.missing]

    @property
    def band(self) -> str:
        """Where the infant is counted."""
        if self.followed:
            return DAY_NOT_KNOWN if self.day is None else lead_band(self.day)
        return NOT_KNOWN if self.not_known else NOTHING


def lead_band(days: int) -> str:
    """How long before what followed the first card would have come."""
    return next((name for most, name in LEADS if days <= most), LATER)


def quartiles(infants: Mapping[int, int], disclosure: Disclosure) -> dict[str, Shown | None]:
    """The days within which it had followed for a quarter, half and three quarters of the infants; None: there is none.

    ``infants``: how many, by their days. Each number is the days of one of them, the nearest rank.
    """
    number = sum(infants.values())
    return {name: _days_of(-(-number * quarters // 4), infants, disclosure) for name, quarters in QUARTILES}


def _days_of(rank: int, infants: Mapping[int, int], disclosure: Disclosure) -> Shown | None:
    reached = 0
    for days in sorted(infants):
        reached += infants[days]
        if reached >= rank:
            return disclosure.rank(days, rank, sum(infants.values()))
    return None
