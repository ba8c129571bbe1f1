"""FHIR times as intervals on one UTC line, so that a partial date never pretends to be exact.

A :class:`Span` holds the earliest and the latest microsecond (inclusive) that a written time can mean:
``2026`` is a whole year; a time with seconds is taken as that very moment. Comparisons answer true, false or
unknown.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

from cds_service.record.truth import Truth, decided

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
EARLIEST = (1 - EPOCH_ORDINAL) * DAY  # the first moment that a date can name
WIDEST_OFFSETS = (14 * HOUR, 12 * HOUR)  # a clock time without a zone: anywhere from UTC+14 to UTC-12

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


class Span(NamedTuple):
    """The earliest and the latest microsecond since 1970 (UTC) that a time can be."""

    lo: int
    hi: int

    @property
    def days(self) -> tuple[int, int]:
        """First and last UTC day number."""
        return self.lo // DAY, self.hi // DAY


def _midnight(year: int, month: int, day: int) -> int:
    return (date(year, month, day).toordinal() - EPOCH_ORDINAL) * DAY


def parse_span(text: str | None) -> Span | None:
    """The interval that a FHIR date, dateTime or instant means; None when it cannot be read.

    FHIR R4 §2.24.0.1 (date, dateTime, instant): second 60 is allowed, a date has no zone (read as UTC).
    """
    if not isinstance(text, str):
        return None
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year_text, month_text, day_text, hour, minute, second, fraction, zone = found.groups()
    year = int(year_text)
    try:
        if month_text is None:
            return Span(_midnight(year, 1, 1), _midnight(year, 12, 31) + DAY - 1)
        month = int(month_text)
        if day_text is None:
            lo = _midnight(year, month, 1)
            last = date(year, month, 28).toordinal() - EPOCH_ORDINAL + 4
            return Span(lo, (last - date.fromordinal(last + EPOCH_ORDINAL).day + 1) * DAY - 1)
        lo = _midnight(year, month, int(day_text))
    except (ValueError, OverflowError):
        return None
    if hour is None:
        return Span(lo, lo + DAY - 1)
    return _clock_time(lo, int(hour), int(minute), second, fraction, zone)


def _clock_time(
    midnight: int, hour: int, minute: int, second: str | None, fraction: str | None, zone: str | None
) -> Span | None:
    if hour > 23 or minute > 59 or (second is not None and int(second) > 60):
        return None
    lo = midnight + hour * HOUR + minute * 60 * SECOND
    width = 60 * SECOND
    if second is not None:
        lo += int(second) * SECOND + int(((fraction or "") + "000000")[:6])
        width = 1
    if zone is None:
        return Span(lo - WIDEST_OFFSETS[0], lo + width - 1 + WIDEST_OFFSETS[1])
    if zone != "Z":
        offset_hours, offset_minutes = int(zone[1:3]), int(zone[4:6])
        if offset_hours > 14 or offset_minutes > 59:
            return None
        offset = offset_hours * HOUR + offset_minutes * 60 * SECOND
        lo += -offset if zone[0] == "+" else offset
    return Span(lo, lo + width - 1)


def parse_as_of(text: str) -> int | None:
    """The moment a question is about: an instant is itself, a date is the end of that day in UTC.

    None when the text is neither: a year is no moment, a clock time without seconds or zone no instant.
    """
    span = parse_span(text)
    if span is None or len(text) < 10:
        return None
    if len(text) == 10:
        return span.hi
    return span.lo if span.lo == span.hi else None


def moment(when: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    delta = when.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


@lru_cache(maxsize=64)  # the moment of a question is said in several places
def iso(when: int) -> str:
    """The moment as an ISO 8601 instant in UTC, to the second."""
    day = date.fromordinal(when // DAY + EPOCH_ORDINAL)
    seconds = when % DAY // SECOND
    return f"{day.isoformat()}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"


def iso_day(day_number: int) -> str:
    """The UTC day as an ISO date."""
    return date.fromordinal(day_number + EPOCH_ORDINAL).isoformat()


def is_before(first: Span, second: Span) -> Truth:
    """Whether the first time lies before the second."""
    return decided(first.hi < second.lo, first.lo < second.hi)


def is_older_than(span: Span, as_of: int, window: int) -> Truth:
    """Whether the time lies more than ``window`` microseconds before ``as_of``."""
    return decided(span.hi < as_of - window, span.lo < as_of - window)


def within(first: Span, second: Span, window: int) -> Truth:
    """Whether the two times lie at most ``window`` microseconds apart, either way round."""
    farthest = max(first.hi - second.lo, second.hi - first.lo)
    nearest = max(0, first.lo - second.hi, second.lo - first.hi)
    return decided(farthest <= window, nearest <= window)


def months_after(birth_day: int, day: int) -> int:
    """Completed calendar months from one UTC day number to another; the day of the month decides."""
    born = date.fromordinal(birth_day + EPOCH_ORDINAL)
    then = date.fromordinal(day + EPOCH_ORDINAL)
    return (then.year - born.year) * 12 + then.month - born.month - (then.day < born.day)


@lru_cache(maxsize=1024)  # rules ask for the same few ages of an infant again and again
def add_months(day: int, months: int) -> int:
    """The UTC day number of the first day on which ``months`` calendar months are completed."""
    start = date.fromordinal(day + EPOCH_ORDINAL)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    if year >= date.max.year:
        return date.max.toordinal() - EPOCH_ORDINAL
    first = date(year, month + 1, 1).toordinal() - EPOCH_ORDINAL
    last = first + (date(year + (month == 11), (month + 1) % 12 + 1, 1) - date(year, month + 1, 1)).days
    return min(first + start.day - 1, last)
