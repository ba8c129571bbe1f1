"""How old the infant is on a day, by calendar and corrected for early birth, as three-valued answers."""

from __future__ import annotations

from typing import NamedTuple

from cds_service.record.facts import Evidence
from cds_service.record.times import DAY, HOUR, Span, add_months
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth, decided


class Age(NamedTuple):
    """An age limit as written in a rule: whole hours, days, weeks or calendar months."""

    amount: int
    unit: str

    def reached_on(self, birth_day: int) -> int:
        """The UTC day number on which somebody born on ``birth_day`` reaches this age."""
        if self.unit == "mo":
            return add_months(birth_day, self.amount)
        return birth_day + self.amount * (7 if self.unit == "wk" else 1)


class Gestation(NamedTuple):
    """Gestational age at birth. ``known`` FALSE: not recorded. UNKNOWN: there, but it cannot be read."""

    known: Truth
    days: float = 0.0
    evidence: Evidence | None = None
    problem: str = ""


NOT_RECORDED = Gestation(FALSE)


class Birth(NamedTuple):
    """When the infant was born, to the day or only to the month or year, and how early."""

    span: Span
    gestation: Gestation
    term_days: int
    preterm_below_days: int

    def is_preterm(self) -> Truth:
        """Whether gestation ended before term; a gestation that is not recorded counts as term."""
        if self.gestation.known is TRUE:
            return TRUE if self.gestation.days < self.preterm_below_days else FALSE
        return self.gestation.known

    def days(self, corrected: bool) -> tuple[int, int]:
        """First and last possible birth day; corrected, the day that counts as birth at term."""
        first, last = self.span.days
        preterm = self.is_preterm()
        if not corrected or preterm is FALSE:
            return first, last
        if preterm is TRUE:
            early = round(self.term_days - self.gestation.days)
            return first + early, last + early
        return first, last + self.term_days

    def is_above(self, limit: Age, day: int, corrected: bool) -> Truth:
        """Whether the age on this day is past the limit: the day on which it is reached does not count."""
        first, last = self.days(corrected)
        reached = limit.reached_on(last)
        return decided(day > reached, first != last and day > limit.reached_on(first))

    def is_at_least(self, limit: Age, day: int, corrected: bool) -> Truth:
        """Whether the limit is reached on or before this day."""
        first, last = self.days(corrected)
        reached = limit.reached_on(last)
        return decided(day >= reached, first != last and day >= limit.reached_on(first))

    def reached_by(self, limit: Age, at: Span) -> Truth:
        """Whether the limit was reached at a time; hours are counted from an unknown hour of the birth day."""
        if limit.unit == "h":
            least, most = at.lo - self.span.hi, at.hi - self.span.lo
            return decided(least >= limit.amount * HOUR, most >= limit.amount * HOUR)
        first, last = self.span.days
        return decided(at.lo // DAY >= limit.reached_on(last), at.hi // DAY >= limit.reached_on(first))


def in_band(birth: Birth | None, at: Span, start: Age, end: Age, preterm: bool | None) -> Truth:
    """Whether a time falls into an age band [start, end) of infants born preterm, at term, or either."""
    if birth is None:
        return UNKNOWN
    parts = [birth.reached_by(start, at), NEGATION[birth.reached_by(end, at)]]
    if preterm is not None:
        early = birth.is_preterm()
        parts.append(early if preterm else NEGATION[early])
    return min(parts)
