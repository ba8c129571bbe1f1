"""Whether the decision log is as it was written: each chain walked from its anchor to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from cds_service.store.chain import cards_digest, digest, hash_of
from cds_service.store.database import Database
from cds_service.store.schema import cards, chains, decisions, kept_inputs

Row = dict[str, Any]
STEP = 500


class Break(NamedTuple):
    """A place where the log is not as it was written."""

    writer: str
    seq: int
    what: str

    def __str__(self) -> str:
        return f"chain {self.writer}, decision {self.seq}: {self.what}"


class Head(NamedTuple):
    """The end of a chain. Noted elsewhere, it shows later that nothing before it was changed."""

    writer: str
    seq: int
    hash: str


class Verdict(NamedTuple):
    """What was found: decisions read, the chains' ends, and every break."""

    decisions: int
    heads: tuple[Head, ...]
    breaks: tuple[Break, ...]


def verify(
    database: Database, noted: tuple[Head, ...] = (), progress: Callable[[int], object] = lambda done: None
) -> Verdict:
    """Walk every chain. ``noted``: ends of chains at an earlier time, kept where the database's writer cannot reach.

    Without ``noted``, one who may write the whole database can rewrite it all, hashes and ends included.
    """
    found: list[Break] = []
    count = 0
    with database.reading() as connection:
        query = select(chains).order_by(chains.c.started_at, chains.c.writer)
        known = [dict(chain) for chain in connection.execute(query).mappings()]
        writers = {chain["writer"] for chain in known}
        for chain in known:
            if chain["after"] and chain["after"] not in writers:
                found.append(Break(chain["after"], 0, "the whole chain was removed"))
                writers.add(chain["after"])
            for row, problem in _walk(connection, chain, noted):
                count += row
                if problem is not None:
                    found.append(problem)
                if count % STEP == 0:
                    progress(count)
        for head in noted:
            if head.writer not in writers:
                found.append(Break(head.writer, head.seq, "the whole chain was removed"))
        strangers = select(decisions.c.writer, decisions.c.seq).where(
            decisions.c.writer.not_in(select(chains.c.writer))
        )
        found += [Break(row.writer, row.seq, "inserted: no such chain") for row in connection.execute(strangers)]
    progress(count)
    heads = tuple(Head(chain["writer"], chain["last_seq"], chain["last_hash"]) for chain in known)
    return Verdict(count, heads, tuple(found))


def _walk(connection: Connection, chain: Row, noted: tuple[Head, ...]) -> Iterator[tuple[int, Break | None]]:
    """A pair for each decision of the chain (1, its break if any), and for each break besides (0, break)."""
    writer, at, last = chain["writer"], chain["anchor_seq"], chain["anchor_hash"]
    due = {head.seq: head.hash for head in noted if head.writer == writer and head.seq > at}
    for row, own_cards, sealed in _rows(connection, writer):
        seq = row["seq"]
        if seq <= chain["anchor_seq"] or seq > chain["last_seq"]:
            yield 1, Break(writer, seq, "inserted: beyond the ends of its chain")
            continue
        if seq > at + 1:
            yield 0, Break(writer, at + 1, f"removed, up to {seq - 1}" if seq > at + 2 else "removed")
        problem = None
        if hash_of(row) != row["hash"] or (seq == at + 1 and row["prev_hash"] != last):
            problem = "changed"
        elif cards_digest(own_cards) != row["cards_digest"]:
            problem = "its cards were changed"
        elif sealed is not None and digest(sealed) != row["kept_digest"]:
            problem = "its kept input was changed"
        elif due.pop(seq, row["hash"]) != row["hash"]:
            problem = "rewritten since its hash was noted"
        yield 1, Break(writer, seq, problem) if problem else None
        at, last = seq, row["hash"]
    if at < chain["last_seq"]:
        yield 0, Break(writer, at + 1, f"removed, up to {chain['last_seq']}, the end of its chain")
    elif last != chain["last_hash"]:
        yield 0, Break(writer, at, "the end of its chain is another one")
    for seq in sorted(seq for seq in due if seq > chain["last_seq"]):
        yield 0, Break(writer, seq, "removed since its hash was noted")


def _rows(connection: Connection, writer: str) -> Iterator[tuple[dict[str, Any], list[Row], bytes | None]]:
    """The decisions of a chain in order, each with its cards and its sealed input if it is still there."""
    at = -1
    while True:
        query = select(decisions).where(decisions.c.writer == writer, decisions.c.seq > at)
        page = [dict(row) for row in connection.execute(query.order_by(decisions.c.seq).limit(STEP)).mappings()]
        if not page:
            return
        first, at = page[0]["seq"], page[-1]["seq"]
        shown: dict[int, list[Row]] = {}
        within = select(cards).where(cards.c.writer == writer, cards.c.seq.between(first, at))
        for card in connection.execute(within.order_by(cards.c.seq, cards.c.place)).mappings():
            shown.setdefault(card["seq"], []).append(dict(card))
        kept = select(kept_inputs.c.seq, kept_inputs.c.sealed).where(
            kept_inputs.c.writer == writer, kept_inputs.c.seq.between(first, at)
        )
        sealed = {row.seq: bytes(row.sealed) for row in connection.execute(kept)}
        for row in page:
            yield row, shown.get(row["seq"], []), sealed.get(row["seq"])
