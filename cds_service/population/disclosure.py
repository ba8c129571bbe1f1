"""Small numbers of infants are not shown, larger ones are rounded, so that no table points at a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SMALLEST_SHOWN = 11
ROUNDED_TO = 5
HIDDEN = f"<{SMALLEST_SHOWN}"
SELDOM = "(seldom written, so not shown)"
NOT_TOLD = "not told"
Shown = int | str


def rounded(number: int) -> int:
    """The nearest multiple of ROUNDED_TO."""
    return (number + ROUNDED_TO // 2) // ROUNDED_TO * ROUNDED_TO


class Disclosure(NamedTuple):
    """How numbers of people leave the house: as they are (``exact``), or suppressed and then rounded."""

    exact: bool

    def shown(self, number: int) -> Shown:
        """The number, or HIDDEN; nobody at all is shown as 0."""
        if self.exact or number == 0:
            return number
        if number < SMALLEST_SHOWN:
            return HIDDEN
        return rounded(number)

    def text(self, text: str, number: int) -> str:
        """A text from outside, written this often: one that few wrote may be about one of them."""
        return SELDOM if isinstance(self.shown(number), str) else text

    def table(self, numbers: Mapping[str, int]) -> dict[str, Shown]:
        """Every number of a table."""
        return {name: self.shown(number) for name, number in numbers.items()}

    def rank(self, value: int, rank: int, of: int) -> Shown:
        """The value at this rank of so many infants' values, in order.

        Unless ``exact`` it is rounded, and NOT_TOLD where fewer than SMALLEST_SHOWN infants lie on one side of it.
        """
        if self.exact:
            return value
        return rounded(value) if min(rank, of - rank) >= SMALLEST_SHOWN else NOT_TOLD

    @property
    def told(self) -> str:
        """What stands under every table."""
        if self.exact:
            return "Exact numbers."
        return (
            f"Numbers of infants from 1 to {SMALLEST_SHOWN - 1} are shown as {HIDDEN}, others rounded to {ROUNDED_TO}; "
            "parts may therefore not add up to their total."
        )
