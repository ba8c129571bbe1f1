"""A moment after which nothing goes on: whatever waits on the network then is cut off.

A timeout of a socket is per read: a server that sends a byte now and then holds its caller for ever, in the TLS
handshake, in the headers or in the body (threat D3). So each connection gives the deadline a way to cut it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Deadline:
    """So many seconds from now, for all that is done for one request."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cuts: set[Callable[[], None]] = set()
        self._is_cut = False

    @property
    def left(self) -> float:
        """Seconds left; not less than 0."""
        return 0.0 if self._is_cut else max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment is over, or the work was cut off before it."""
        return self._is_cut or time.monotonic() >= self._end

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """While the block runs, ``cut`` is called when the deadline passes; at once when it has passed."""
        with self._lock:
            self._cuts.add(cut)
            late = self._is_cut
        try:
            if late:
                cut()
            yield
        finally:
            with self._lock:
                self._cuts.discard(cut)

    def cut(self) -> None:
        """End all that still runs. The one who waits for the work calls it, at the latest when time is up."""
        with self._lock:
            self._is_cut = True
            for cut in self._cuts:
                cut()


@contextmanager
def cutting_itself(seconds: float) -> Iterator[Deadline]:
    """A deadline for one who does the work himself, so that nobody else is there to cut it."""
    deadline = Deadline(seconds)
    timer = threading.Timer(seconds, deadline.cut)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()
