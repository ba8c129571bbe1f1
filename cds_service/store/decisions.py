"""The decision log: what was decided for each call, kept apart from the answer so that it can never delay it.

A bounded queue and one writer thread. When the queue is full or the database fails, the decision is dropped,
counted and reported by /readyz; the caller has the cards all the same. No name, no value of a patient.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Mapping, Sequence

import orjson
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
)

BATCH = 1000
LINGER = 0.25  # seconds in which decisions gather, so that a busy service commits four times a second
metadata = MetaData()
decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("decided_at", String(30), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("hook_instance", String(256), nullable=False),
    Column("as_of", String(30), nullable=False),
    Column("rule_set_version", String(20), nullable=False),
    Column("rule_set_hash", String(64), nullable=False),
    Column("outcomes", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("card_uuids", Text, nullable=False),
)


class Decision(Struct, frozen=True, kw_only=True):
    """One decision. ``outcomes``: rule id → outcome; ``inputs``: prefetch key → state."""

    decided_at: str
    request_id: str
    hook_instance: str
    as_of: str
    rule_set_version: str
    rule_set_hash: str
    outcomes: Mapping[str, str]
    inputs: Mapping[str, str]
    card_uuids: Sequence[str]

    def row(self) -> dict[str, str]:
        """The decision as a row of the table."""
        return {
            "decided_at": self.decided_at,
            "request_id": self.request_id,
            "hook_instance": self.hook_instance,
            "as_of": self.as_of,
            "rule_set_version": self.rule_set_version,
            "rule_set_hash": self.rule_set_hash,
            "outcomes": _text(self.outcomes),
            "inputs": _text(self.inputs),
            "card_uuids": _text(list(self.card_uuids)),
        }


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def open_database(url: str) -> Engine:
    """The database; SQLite in write-ahead mode, so that readers and the writer do not wait for one another."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _pragmas(connection: object, _: object) -> None:
            cursor = connection.cursor()  # type: ignore[attr-defined]
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=2000", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    return engine


class DecisionLog:
    """Takes decisions without waiting and writes them in the background. Its thread starts with the first one."""

    def __init__(self, url: str, capacity: int) -> None:
        self._url = url
        self._queue: queue.Queue[Decision | None] = queue.Queue(capacity)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None
        self.dropped = 0

    def record(self, decision: Decision) -> bool:
        """Take the decision for writing; False, and counted, when there is no room."""
        if self._writer is None:
            self._start()
        try:
            self._queue.put_nowait(decision)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Write what is waiting and stop."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.set()
            self._queue.put(None)
            writer.join(timeout=10)

    def _start(self) -> None:
        with self._lock:
            if self._writer is None:
                self._closing.clear()
                self._writer = threading.Thread(target=self._write, name="decision-log", daemon=True)
                self._writer.start()
                atexit.register(self.close)

    def _write(self) -> None:
        engine: Engine | None = None
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            self._closing.wait(LINGER)
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            stopping = None in batch
            rows = [decision.row() for decision in batch if decision is not None]
            if not rows:
                continue
            try:
                if engine is None:
                    engine = open_database(self._url)
                    metadata.create_all(engine)
                with engine.begin() as connection:
                    connection.execute(insert(decisions), rows)
            except Exception:  # whatever it is: the loss is counted, and the next batch is tried
                self.dropped += len(rows)
                engine = None
        if engine is not None:
            engine.dispose()
