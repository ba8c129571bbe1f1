"""Each token is accepted once: the ids of accepted tokens, kept until the tokens expire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from cds_service.errors import StoreUnavailable

PURGE_EVERY = 1000


class SeenTokens(Protocol):
    """The ids of tokens that were accepted. Times are seconds since 1970."""

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """True for the first use of this id by this client, False for every later one, whichever worker asks.

        Raises StoreUnavailable.
        """

    def known(self, client_id: str, jti: str) -> bool:
        """Whether the id was used; asking does not use it. Raises StoreUnavailable."""


class SeenInMemory:
    """Ids seen by this process only: for tests, and for a worker whose store does not answer."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now``: seconds since 1970."""
        self._now = now
        self._seen: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._next_purge = PURGE_EVERY

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """See SeenTokens."""
        with self._lock:
            if (client_id, jti) in self._seen:
                return False
            self._seen[client_id, jti] = expires
            if len(self._seen) > self._next_purge:
                now = self._now()
                self._seen = {key: until for key, until in self._seen.items() if until >= now}
                self._next_purge = len(self._seen) + PURGE_EVERY
            return True

    def known(self, client_id: str, jti: str) -> bool:
        """See SeenTokens."""
        with self._lock:
            return (client_id, jti) in self._seen


class SeenWithFallback:
    """The durable store, and while it does not answer this worker's memory, so that cards go on.

    ``unsure`` counts the tokens that were accepted while another worker might have seen them. After a failure
    the store is left alone for PAUSE seconds, so that a locked database does not delay every call.
    """

    PAUSE = 5.0

    def __init__(self, store: SeenTokens, memory: SeenTokens, clock: Callable[[], float]) -> None:
        """``clock``: seconds of any steady clock."""
        self._store = store
        self._memory = memory
        self._clock = clock
        self._paused_until = float("-inf")
        self.unsure = 0

    @property
    def troubled(self) -> bool:
        """Whether the store failed a moment ago."""
        return self._clock() < self._paused_until

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """See SeenTokens; never raises."""
        if not self._memory.use(client_id, jti, expires):
            return False
        if not self.troubled:
            try:
                return self._store.use(client_id, jti, expires)
            except StoreUnavailable:
                self._paused_until = self._clock() + self.PAUSE
        self.unsure += 1
        return True

    def known(self, client_id: str, jti: str) -> bool:
        """See SeenTokens."""
        return self._memory.known(client_id, jti) or self._store.known(client_id, jti)
