"""The decision log: what was decided for each call, kept apart from the answer so that it can never delay it.

A bounded queue and one writer thread. While the database cannot be written, decisions wait in the queue and
/readyz says so; when the queue is full they are dropped and counted. A decision that the database refuses for what it
is (too long, a constraint) is dropped alone. The caller has the cards all the same.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize

from msgspec.structs import replace
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cds_service.errors import SettingsError
from cds_service.store.append import Batch, Chain, ChainLost, append, batch_of, new_chain
from cds_service.store.database import Database, kind_of
from cds_service.store.decision import Decision
from cds_service.store.schema_version import require_schema
from cds_service.store.sealed_inputs import InputKeys

BATCH = 1000
LINGER = 0.25  # seconds in which decisions gather, so that a busy service commits four times a second
RETRY = 1.0  # seconds between attempts while the database cannot be written
WAITING_BYTES = 64 * 1024 * 1024  # of inputs that wait to be sealed; beyond, decisions are logged without them
REFUSED = (DataError, IntegrityError)  # the row is at fault: trying again changes nothing
# Locked, full, read-only, away, a right or a table that is missing: an operator can cure it while decisions wait.
PASSING = (DBAPIError, PoolTimeout, OSError, SettingsError)


class DecisionLog:
    """Takes decisions without waiting and writes them in the background. Its thread starts with the first one.

    ``lost`` is called with the number of decisions that were dropped, each time; ``met`` with the kind of an error,
    once for each kind until decisions are written again.
    """

    def __init__(
        self, database: Database, capacity: int, *, keys: InputKeys | None = None, may_upgrade: bool = True
    ) -> None:
        self._database = database
        self._keys = keys
        self._may_upgrade = may_upgrade
        self.lost: Callable[[int], object] = lambda count: None
        self.met: Callable[[str], object] = lambda kind: None
        self._queue: queue.Queue[Decision | None] = queue.Queue(capacity)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None
        self._waiting_bytes = 0
        self.dropped = 0
        self.without_inputs = 0
        self.failing = False
        self._kinds: set[str] = set()

    def record(self, decision: Decision) -> bool:
        """Take the decision for writing; False, and counted, when there is no room."""
        if self._writer is None:
            self._start()
        if decision.kept is not None and not self._has_room(len(decision.kept)):
            decision = replace(decision, kept=None)
        try:
            self._queue.put_nowait(decision)
        except queue.Full:
            self._drop(1)
            self._give_back([decision])
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

    def _has_room(self, size: int) -> bool:
        with self._lock:
            if self._waiting_bytes + size > WAITING_BYTES:
                self.without_inputs += 1
                return False
            self._waiting_bytes += size
        return True

    def _give_back(self, decisions: Sequence[Decision]) -> None:
        with self._lock:
            self._waiting_bytes -= sum(len(decision.kept or b"") for decision in decisions)

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count
        self.lost(count)

    def _start(self) -> None:
        with self._lock:
            if self._writer is None:
                self._closing.clear()
                writer = threading.Thread(target=self._write, name="decision-log", daemon=True)
                try:
                    writer.start()
                except RuntimeError as problem:  # no thread is to be had now: decisions wait, the next one tries again
                    self.failing = True
                    self._say(kind_of(problem))
                    return
                self._writer = writer
                # Not atexit, which a worker that was forked by multiprocessing (granian's) does not run.
                Finalize(None, self.close, exitpriority=0)

    def _write(self) -> None:
        chain = new_chain()
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            self._closing.wait(LINGER)
            while (len(batch) < BATCH or self._closing.is_set()) and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            stopping = None in batch
            decisions = [decision for decision in batch if decision is not None]
            if decisions:
                chain = self._keep(decisions, chain)
                self._give_back(decisions)
        self._database.close()

    def _keep(self, decisions: Sequence[Decision], chain: Chain) -> Chain:
        """Write the decisions, trying until it succeeds, cannot ever, or the service stops. The chain's new end.

        When it cannot ever, one by one, so that only those at fault are lost.
        """
        batch: Batch | None = None
        while True:
            last = self._closing.is_set()
            try:
                batch = batch or batch_of(decisions, chain, self._keys)
                if chain.seq == 0:
                    require_schema(self._database, may_upgrade=self._may_upgrade)
                append(self._database, batch)
                self.failing = False
                self._kinds.clear()
                return batch.end
            except ChainLost:
                batch, chain = None, new_chain()
            except Exception as problem:
                if isinstance(problem, PASSING) and not isinstance(problem, REFUSED):
                    self._say(kind_of(problem))
                    self.failing = True
                    if last:
                        break
                    self._closing.wait(RETRY)
                    continue
                self.failing = False
                if len(decisions) == 1:
                    self._say(kind_of(problem))
                    break
                for decision in decisions:
                    chain = self._keep([decision], chain)
                return chain
        self._drop(len(decisions))
        self._database.close()
        return chain

    def _say(self, kind: str) -> None:
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.met(kind)
