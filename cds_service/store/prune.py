"""Retention: what is older than it may be is removed; the chains can still be verified from their anchors."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, delete, func, select, update

from cds_service.store.database import Database
from cds_service.store.schema import cards, chains, decisions, desk_log, feedback, kept_inputs, rule_outcomes


class Pruned(NamedTuple):
    """How many rows were removed."""

    decisions: int
    kept_inputs: int
    feedback: int
    desk_log: int = 0


def prune(database: Database, before: str, inputs_before: str, desk_log_before: str = "") -> Pruned:
    """Remove decisions with their cards and outcomes, and feedback, of before ``before``; kept inputs of before
    ``inputs_before``; of who looked at the desk, what was before ``desk_log_before``. The counts by day stay.

    All are times in the form of the tables. A chain loses its oldest decisions up to the first that is young
    enough; the last one removed leaves its place and hash as the chain's anchor.
    """
    removed = inputs = 0
    with database.reading() as connection:
        writers = connection.execute(select(chains.c.writer)).scalars().all()
    for writer in writers:
        with database.writing() as connection:  # one chain at a time, so that its writer does not wait long
            place = decisions.c.writer == writer, decisions.c.decided_at >= before
            young = connection.execute(select(func.min(decisions.c.seq)).where(*place)).scalar()
            old = [decisions.c.writer == writer]
            if young is not None:
                old.append(decisions.c.seq < young)
            query = select(decisions.c.seq, decisions.c.hash).where(*old).order_by(decisions.c.seq.desc()).limit(1)
            anchor = connection.execute(query).one_or_none()
            if anchor is None:
                continue
            for table in (kept_inputs, cards, rule_outcomes, decisions):
                count = connection.execute(delete(table).where(*_up_to(table, writer, anchor.seq))).rowcount
                inputs += count if table is kept_inputs else 0
                removed += count if table is decisions else 0
            connection.execute(
                update(chains).where(chains.c.writer == writer).values(anchor_seq=anchor.seq, anchor_hash=anchor.hash)
            )
    with database.writing() as connection:
        inputs += connection.execute(delete(kept_inputs).where(kept_inputs.c.decided_at < inputs_before)).rowcount
        said = connection.execute(delete(feedback).where(feedback.c.received_at < before)).rowcount
        looks = connection.execute(delete(desk_log).where(desk_log.c.at < desk_log_before)).rowcount
    return Pruned(removed, inputs, said, looks)


def _up_to(table: Table, writer: str, seq: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.writer == writer, table.c.seq <= seq
