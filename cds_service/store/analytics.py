"""Numbers over time: sums of the daily counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select

from cds_service.store import available
from cds_service.store.database import Database
from cds_service.store.period import within
from cds_service.store.schema import daily_counts

counts = daily_counts.c
KINDS = ("views", "rule", "card", "workup", "shown", "missing", "state", "unread")
SUM = func.sum(daily_counts.c["count"])


class Totals(NamedTuple):
    """Sums by kind, name and detail (store.counts says what they are)."""

    sums: Mapping[str, Mapping[tuple[str, str], int]]

    def of(self, kind: str) -> Mapping[tuple[str, str], int]:
        """The sums of a kind by (name, detail)."""
        return self.sums.get(kind, {})

    @property
    def views(self) -> int:
        """How many calls were answered."""
        return sum(self.of("views").values())

    @property
    def views_with_card(self) -> int:
        """How many of them got a card."""
        return self.of("views").get(("", "with-card"), 0)


class DayCount(NamedTuple):
    """A count of one day."""

    day: str
    name: str
    detail: str
    number: int


class ClientCount(NamedTuple):
    """A sum of one client."""

    client_id: str
    kind: str
    name: str
    detail: str
    number: int


class Release(NamedTuple):
    """A rule set as it was in use: its version and hash, from which day to which, and for how many views."""

    rule_set: str
    first_day: str
    last_day: str
    views: int


def totals(
    database: Database, since: str, until: str, client: str | None = None, kinds: Iterable[str] = KINDS
) -> Totals:
    """The sums from day ``since`` on, before day ``until`` (each empty: open). Raises StoreUnavailable."""
    columns = counts.kind, counts.month, counts.name, counts.detail
    where = [*_between(since, until, client), counts.kind.in_(list(kinds))]
    # By month as well, for that is the order of the table's key: SQLite then sums what it reads and sorts nothing.
    query = select(counts.kind, counts.name, counts.detail, SUM).where(*where).group_by(*columns)
    found: Counter[tuple[str, str, str]] = Counter()
    with available.reading(database) as connection:
        for kind, name, detail, number in connection.execute(query).all():
            found[kind, name, detail] += int(number)
    sums: dict[str, dict[tuple[str, str], int]] = {}
    for (kind, name, detail), number in sorted(found.items()):
        sums.setdefault(kind, {})[name, detail] = number
    return Totals(sums)


def daily(
    database: Database, since: str, until: str, kind: str, client: str | None = None, name: str = "", detail: str = ""
) -> list[DayCount]:
    """The counts of a kind day by day, of a name or detail alone where one is given. Raises StoreUnavailable."""
    columns = counts.day, counts.name, counts.detail
    where = [*_between(since, until, client), counts.kind == kind]
    where += [counts.name == name] if name else []
    where += [counts.detail == detail] if detail else []
    with available.reading(database) as connection:
        rows = connection.execute(select(*columns, SUM).where(*where).group_by(*columns).order_by(*columns)).all()
        return [DayCount(*row[:3], int(row[3])) for row in rows]


def daily_by_name(
    database: Database, since: str, until: str, kind: str, details: Iterable[str], client: str | None = None
) -> list[DayCount]:
    """As ``daily``, of these details together. Raises StoreUnavailable."""
    columns = counts.day, counts.name
    where = [*_between(since, until, client), counts.kind == kind, counts.detail.in_(list(details))]
    with available.reading(database) as connection:
        rows = connection.execute(select(*columns, SUM).where(*where).group_by(*columns).order_by(*columns)).all()
        return [DayCount(row[0], row[1], "", int(row[2])) for row in rows]


def by_client(
    database: Database, since: str, until: str, kinds: Iterable[str] = ("views", "card")
) -> list[ClientCount]:
    """The sums of these kinds for each client. Raises StoreUnavailable."""
    columns = counts.client_id, counts.kind, counts.name, counts.detail
    where = [*_between(since, until, None), counts.kind.in_(list(kinds))]
    with available.reading(database) as connection:
        rows = connection.execute(select(*columns, SUM).where(*where).group_by(*columns).order_by(*columns)).all()
        return [ClientCount(*row[:4], int(row[4])) for row in rows]


def releases(database: Database, since: str, until: str, client: str | None = None) -> list[Release]:
    """The rule sets in use, in the order in which they came. Raises StoreUnavailable."""
    first = func.min(counts.day)
    query = select(counts.rule_set, first, func.max(counts.day), SUM)
    query = query.where(*_between(since, until, client), counts.kind == "views")
    with available.reading(database) as connection:
        rows = connection.execute(query.group_by(counts.rule_set).order_by(first, counts.rule_set))
        return [Release(*row[:3], int(row[3])) for row in rows]


def week_of(day: str) -> str:
    """The Monday of the week in which the day lies."""
    written = date.fromisoformat(day)
    return (written - timedelta(days=written.weekday())).isoformat()


def _between(since: str, until: str, client: str | None) -> list[ColumnElement[bool]]:
    """``since`` and ``until`` may be moments; the day in which they lie then counts as their day."""
    where = within(counts.day, since[:10], until[:10]) + within(counts.month, since[:7], "")
    where += [counts.month <= until[:7]] if until else []
    return where + ([counts.client_id == client] if client is not None else [])
