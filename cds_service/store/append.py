"""Decisions → rows at the end of a chain, all of a batch or none, and none twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, insert, select, update

from cds_service.store.chain import START, cards_digest, digest, hash_of
from cds_service.store.counts import add_counts, counts_of, spoken
from cds_service.store.database import Database
from cds_service.store.decision import Decision
from cds_service.store.schema import cards, chains, decisions, kept_inputs, rule_outcomes
from cds_service.store.sealed_inputs import InputKeys


class Chain(NamedTuple):
    """Where a writer's chain ends."""

    writer: str
    seq: int
    hash: str


class ChainLost(Exception):
    """The database does not hold the chain that this writer has written: it was exchanged, or changed by others."""


class Batch(NamedTuple):
    """Rows to be appended after ``start``; the chain then ends at ``end``."""

    start: Chain
    decisions: Sequence[dict[str, Any]]
    cards: Sequence[dict[str, Any]]
    kept: Sequence[dict[str, Any]]
    end: Chain
    outcomes: Sequence[dict[str, Any]]
    counts: Sequence[dict[str, Any]]


def new_chain() -> Chain:
    """A chain of which nothing is written yet."""
    return Chain(str(uuid4()), 0, START)


def place_of(writer: str, seq: int) -> str:
    """A decision's place in the log, to which its sealed input is bound."""
    return f"{writer}:{seq}"


def batch_of(taken: Sequence[Decision], start: Chain, keys: InputKeys | None) -> Batch:
    """The rows of these decisions. Inputs are kept only where there are keys."""
    rows, card_rows, kept, outcomes, counted = [], [], [], [], []
    writer, seq, last = start
    for decision in taken:
        seq += 1
        common = {"writer": writer, "seq": seq, "decided_at": decision.decided_at}
        own = [
            common | card.row() | {"place": place, "client_id": decision.client_id}
            for place, card in enumerate(decision.cards)
        ]
        kept_digest = ""
        if keys is not None and decision.kept is not None:
            sealed = keys.seal(decision.kept, place_of(writer, seq))
            kept.append(common | {"key_id": sealed.key_id, "sealed": sealed.content})
            kept_digest = digest(sealed.content)
        row = common | decision.row()
        row |= {"prev_hash": last, "cards_digest": cards_digest(own), "kept_digest": kept_digest}
        row["hash"] = last = hash_of(row)
        rows.append(row)
        card_rows += own
        said = spoken(decision.outcomes)
        outcomes += [common | {"rule": rule, "outcome": outcome} for rule, outcome in said]
        counted.append((decision, said))
    return Batch(start, rows, card_rows, kept, Chain(writer, seq, last), outcomes, counts_of(counted))


def append(database: Database, batch: Batch) -> None:
    """Write the batch. When an earlier attempt had reached the disk after all, nothing is written again.

    Raises ChainLost, or SQLAlchemyError; then nothing was written.
    """
    with database.writing() as connection:
        append_in(connection, batch)


def append_in(connection: Connection, batch: Batch) -> None:
    """The statements of ``append``, in a transaction of the caller's."""
    start, end = batch.start, batch.end
    found = connection.execute(
        select(chains.c.last_seq, chains.c.last_hash).where(chains.c.writer == start.writer)
    ).one_or_none()
    if found is None and start.seq == 0:
        _register(connection, start.writer, batch.decisions[0]["decided_at"])
    elif found is not None and tuple(found) == (end.seq, end.hash):
        return
    elif found is None or tuple(found) != (start.seq, start.hash):
        raise ChainLost
    connection.execute(insert(decisions), batch.decisions)
    if batch.cards:
        connection.execute(insert(cards), batch.cards)
    if batch.kept:
        connection.execute(insert(kept_inputs), batch.kept)
    if batch.outcomes:
        connection.execute(insert(rule_outcomes), batch.outcomes)
    connection.execute(update(chains).where(chains.c.writer == end.writer).values(last_seq=end.seq, last_hash=end.hash))
    add_counts(connection, batch.counts)  # last: other writers wait for these rows until the commit


def _register(connection: Connection, writer: str, started_at: str) -> None:
    """A new chain, which names the one before it: a chain that is taken away leaves its name behind."""
    latest = select(chains.c.writer).order_by(chains.c.started_at.desc(), chains.c.writer).limit(1)
    connection.execute(
        insert(chains).values(
            writer=writer, after=connection.execute(latest).scalar() or "", started_at=started_at,
            last_seq=0, last_hash=START, anchor_seq=0, anchor_hash=START,
        )
    )  # fmt: skip
