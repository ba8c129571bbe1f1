"""What clinicians did with cards: written to the disk before it is acknowledged, each statement once.

Feedback is joined to its card when it is read, not when it is written: the decision log may be a moment behind.
A client's feedback joins that client's cards only; for any other card it stays unjoined, like one never shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, RowMapping, and_, func, select

from cds_service.store import available
from cds_service.store.database import Database, insert_into
from cds_service.store.schema import cards, decisions, feedback


class Kept(NamedTuple):
    """How many statements were new, and how many of all are about a card that is not (yet) in the log."""

    new: int
    unknown: int


class FeedbackStore:
    """The table ``feedback``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, statements: Sequence[Mapping[str, Any]], client_id: str, service: str, received_at: str) -> Kept:
        """Write the statements, the members of hooks.feedback.Entry. On return they are on the disk.

        Raises StoreUnavailable when they could not be written; then none of them is, and all may be sent again.
        """
        if not statements:
            return Kept(0, 0)
        rows = [
            {
                **statement,
                "suggestions": orjson.dumps(sorted(statement["suggestions"])).decode(),
                "identity": _identity(statement, client_id),
                "client_id": client_id,
                "service": service,
                "received_at": received_at,
            }
            for statement in statements
        ]
        with available.writing(self._database) as connection:
            new = insert_once(connection, rows)
            known = _known(connection, {statement["card_uuid"] for statement in statements}, client_id)
        return Kept(new, sum(statement["card_uuid"] not in known for statement in statements))

    def joined(self, since: str = "") -> Iterator[Mapping[str, Any]]:
        """Each statement received since then, with the card it is about: rules, workups, decision; None if unknown.

        Where a card was given more than once (a call that was sent again), its latest giving counts.
        """
        latest = (
            select(func.max(cards.c.id).label("id")).group_by(cards.c.card_uuid, cards.c.client_id).subquery("latest")
        )
        shown = (
            select(cards, decisions.c.request_id, decisions.c.rule_set_version, decisions.c.rule_set_hash)
            .join(latest, latest.c.id == cards.c.id)
            .join(decisions, and_(decisions.c.writer == cards.c.writer, decisions.c.seq == cards.c.seq))
            .subquery("shown")
        )
        query = (
            select(
                feedback, shown.c.family, shown.c.indicator, shown.c.rules, shown.c.workups, shown.c.decided_at,
                shown.c.request_id, shown.c.rule_set_version, shown.c.rule_set_hash,
            )
            .outerjoin(
                shown,
                and_(shown.c.card_uuid == feedback.c.card_uuid, shown.c.client_id == feedback.c.client_id),
            )
            .where(feedback.c.received_at >= since)
            .order_by(feedback.c.id)
        )  # fmt: skip
        with self._database.reading() as connection:
            for row in connection.execute(query).mappings():
                yield _read(row)

    def shown(self, since: str = "") -> Mapping[str, int]:
        """How many cards of each family were given since then."""
        query = select(cards.c.family, func.count()).where(cards.c.decided_at >= since).group_by(cards.c.family)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


def insert_once(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows of ``feedback`` whose identity is not there yet; how many they were."""
    once = insert_into(connection, feedback).values(rows).on_conflict_do_nothing(index_elements=["identity"])
    return len(connection.execute(once.returning(feedback.c.identity)).all())


def _identity(statement: Mapping[str, Any], client_id: str) -> str:
    """What makes a statement the same as another: who, card, outcome, when, and what was accepted."""
    said = [client_id, *(statement[name] for name in ("card_uuid", "outcome", "outcome_at"))]
    said.append(sorted(statement["suggestions"]))
    return hashlib.sha256(orjson.dumps(said)).hexdigest()


def _known(connection: Connection, uuids: set[str], client_id: str) -> set[str]:
    query = select(cards.c.card_uuid).where(cards.c.card_uuid.in_(uuids), cards.c.client_id == client_id)
    return set(connection.execute(query).scalars())


def _read(row: RowMapping) -> Mapping[str, Any]:
    lists = {name: orjson.loads(row[name]) if row[name] else None for name in ("suggestions", "rules", "workups")}
    return {**row, **lists}
