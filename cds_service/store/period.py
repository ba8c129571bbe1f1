"""Times as the tables keep them, and the rows of a period."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement


def written(when: datetime) -> str:
    """The time as every table keeps it: UTC with milliseconds, so that its text sorts as it does."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds")


def within(at: ColumnElement[str], since: str, until: str) -> list[ColumnElement[bool]]:
    """What holds of a row from ``since`` on and before ``until``; an empty text is no bound."""
    return [bound for given, bound in ((since, at >= since), (until, at < until)) if given]
