"""The decisions whose inputs were kept, with the inputs opened, oldest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, func, select

from cds_service.store.append import place_of
from cds_service.store.database import Database
from cds_service.store.schema import cards, decisions, kept_inputs
from cds_service.store.sealed_inputs import InputKeys, Sealed, UnreadableInput

STEP = 50


class Logged(NamedTuple):
    """A decision as it was logged. ``cards``: rows of the table; ``kept``: the input, or None and why not."""

    request_id: str
    decided_at: str
    rule_set_hash: str
    outcomes: Mapping[str, str]
    cards: Sequence[Mapping[str, Any]]
    kept: bytes | None
    unreadable: str = ""


def count_since(database: Database, since: str) -> tuple[int, int]:
    """How many decisions were logged since then, and of how many the input was kept."""
    with database.reading() as connection:
        everything = select(func.count()).select_from(decisions).where(decisions.c.decided_at >= since)
        kept = select(func.count()).select_from(kept_inputs).where(kept_inputs.c.decided_at >= since)
        return connection.execute(everything).scalar_one(), connection.execute(kept).scalar_one()


def logged_since(database: Database, since: str, keys: InputKeys) -> Iterator[Logged]:
    """Every decision since then whose input was kept."""
    same = and_(kept_inputs.c.writer == decisions.c.writer, kept_inputs.c.seq == decisions.c.seq)
    query = select(decisions, kept_inputs.c.key_id, kept_inputs.c.sealed).join(kept_inputs, same)
    at = 0
    while True:
        with database.reading() as connection:
            page = query.where(decisions.c.decided_at >= since, decisions.c.id > at).order_by(decisions.c.id)
            rows = [dict(row) for row in connection.execute(page.limit(STEP)).mappings()]
            given = {row["id"]: _cards_of(connection, row) for row in rows}
        for row in rows:
            sealed = Sealed(row["key_id"], bytes(row["sealed"]))
            kept, unreadable = None, ""
            try:
                kept = keys.open(sealed, place_of(row["writer"], row["seq"]))
            except UnreadableInput as problem:
                unreadable = str(problem)
            outcomes = orjson.loads(row["outcomes"])
            yield Logged(row["request_id"], row["decided_at"], row["rule_set_hash"], outcomes, given[row["id"]],
                         kept, unreadable)  # fmt: skip
        if len(rows) < STEP:
            return
        at = rows[-1]["id"]


def _cards_of(connection: Connection, decision: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    mine = cards.c.writer == decision["writer"], cards.c.seq == decision["seq"]
    return [dict(card) for card in connection.execute(select(cards).where(*mine).order_by(cards.c.place)).mappings()]
