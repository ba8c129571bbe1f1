"""A client whose FHIR server is dead costs its own calls, and nobody else's (threat D3).

Bulkhead: so many requests of one client fetch at once in this worker, the next is told "busy" at once. Breaker: after
FAILURES failures within WINDOW seconds nothing is tried for PAUSE seconds; then one request tries for all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

AT_ONCE = 8
FAILURES = 5
WINDOW = 30.0
PAUSE = 15.0


class Entry(Enum):
    """Whether a request may fetch."""

    FREE = "free"
    BUSY = "busy"
    OPEN = "open"


class Breaker:
    """Bulkhead and circuit breaker of one client in one worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds of any steady clock."""
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._open_until = float("-inf")
        self._on_trial = False

    def enter(self) -> Entry:
        """Take a place; whoever got FREE gives it back by ``leave``, after ``report``."""
        now = self._clock()
        with self._lock:
            if now < self._open_until or (self._on_trial and self._inside):
                return Entry.OPEN
            if self._inside >= AT_ONCE:
                return Entry.BUSY
            self._inside += 1
            return Entry.FREE

    def leave(self) -> None:
        """Give the place back: when the last thread that worked for the request has ended."""
        with self._lock:
            self._inside -= 1

    def report(self, *, reached: bool) -> None:
        """Whether the server could be reached by the request that holds a place."""
        now = self._clock()
        with self._lock:
            if reached:
                self._failures.clear()
                self._on_trial = False
                return
            self._failures.append(now)
            recent = len(self._failures) == FAILURES and now - self._failures[0] <= WINDOW
            if recent or self._on_trial:
                self._open_until = now + PAUSE
                self._on_trial = True
