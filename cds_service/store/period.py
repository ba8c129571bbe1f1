"""Rows of a period: from a moment or day on, before another."""

from __future__ import annotations

from sqlalchemy import ColumnElement


def within(at: ColumnElement[str], since: str, until: str) -> list[ColumnElement[bool]]:
    """What holds of a row from ``since`` on and before ``until``; an empty text is no bound."""
    return [bound for given, bound in ((since, at >= since), (until, at < until)) if given]
