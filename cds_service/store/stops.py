"""Rules that were stopped in an emergency: by whom and why, and by whom and why they may speak again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import select, update

from cds_service.store import available
from cds_service.store.database import Database, insert_into
from cds_service.store.schema import rule_stops

SHORTEST_REASON, LONGEST_REASON = 10, 500


class StopRow(NamedTuple):
    """One stop of a rule. ``lifted_at`` is empty while it lasts."""

    id: int
    rule: str
    stopped_at: str
    stopped_by: str
    reason: str
    lifted_at: str
    lifted_by: str
    lift_reason: str


def reason_problem(reason: str) -> str:
    """What keeps this from being a reason that somebody later understands; empty when nothing does."""
    if SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        return ""
    return f"Give a reason of {SHORTEST_REASON} to {LONGEST_REASON} characters; it has {len(reason)}."


def stop(database: Database, rule: str, by: str, reason: str, at: str) -> bool:
    """Stop the rule; False, and nothing is changed, when it was stopped already. Raises StoreUnavailable."""
    row = {"rule": rule, "stopped_at": at, "stopped_by": by, "reason": reason}
    row |= {"lifted_at": "", "lifted_by": "", "lift_reason": ""}
    with available.writing(database) as connection:
        new = insert_into(connection, rule_stops).values(row)
        once = new.on_conflict_do_nothing(index_elements=["rule", "lifted_at"])
        return connection.execute(once.returning(rule_stops.c.id)).one_or_none() is not None


def lift(database: Database, rule: str, by: str, reason: str, at: str) -> bool:
    """Let the rule speak again; False when it was not stopped. Raises StoreUnavailable."""
    open_stop = update(rule_stops).where(rule_stops.c.rule == rule, rule_stops.c.lifted_at == "")
    with available.writing(database) as connection:
        done = connection.execute(open_stop.values(lifted_at=at, lifted_by=by, lift_reason=reason))
        return done.rowcount > 0


def stopped(database: Database) -> Mapping[str, StopRow]:
    """The rules that are stopped now. Raises StoreUnavailable."""
    with available.reading(database) as connection:
        rows = connection.execute(select(rule_stops).where(rule_stops.c.lifted_at == ""))
        return {row.rule: StopRow(*row) for row in rows}


def history(database: Database, rule: str = "") -> list[StopRow]:
    """Every stop, or every one of a rule, newest first. Raises StoreUnavailable."""
    query = select(rule_stops).order_by(rule_stops.c.id.desc())
    with available.reading(database) as connection:
        return [StopRow(*row) for row in connection.execute(query.where(rule_stops.c.rule == rule) if rule else query)]
