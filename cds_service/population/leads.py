"""How many days before what followed it a first card would have come: bands to count in, and quartiles."""

from __future__ import annotations

from collections.abc import Mapping

from cds_service.population.disclosure import Disclosure, Shown

LEADS = ((0, "same day"), (7, "1 to 7 days"), (30, "8 to 30 days"), (90, "31 to 90 days"))
LATER, NOTHING = "over 90 days", "nothing followed"
BANDS = (*(name for _, name in LEADS), LATER)
QUARTILES = (("firstQuartile", 1), ("median", 2), ("thirdQuartile", 3))  # in quarters


def lead_band(days: int | None) -> str:
    """How long before what followed the first card would have come; None: nothing did."""
    if days is None:
        return NOTHING
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
