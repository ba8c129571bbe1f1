"""Clients' keys at hand: loaded ahead of calls, and kept fresh, as the registry is, by a thread of their own.

A request never fetches: keys are loaded at start and renewed in the background. A key id that is not
known only asks the background to look again, at most once a minute for each client. Between two looks at the registry
no more than one handful of key sets is waited for, so that whoever is revoked is refused within 15 seconds (the
registry's 8, the 5 of a dead key set, the 2 of a database that does not answer), however many key sets are dead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from cds_service.trust.clients import Client, ClientRegistry
from cds_service.trust.key_sets import Key, read_key_set

RENEW_SECONDS = 600.0
REGISTRY_SECONDS = 8.0
RETRY_SECONDS = 60.0
KEPT_SECONDS = 24 * 3600.0
AT_ONCE = 8  # key sets that are fetched side by side


class _Entry:
    """What is known of the keys of one client."""

    def __init__(self, client: Client, since: float) -> None:
        self.client = client
        self.since = since
        self.keys: Mapping[str, Key] = {}
        self.problem: str | None = None
        self.loaded: float | None = None
        self.tried: float | None = None
        self.wanted = False
        if client.jwks is not None:
            read = read_key_set(client.jwks, client.algorithms)
            self.keys, self.loaded = read.keys, 0.0
            self.problem = "; ".join(read.problems) if not read.keys else None

    @property
    def is_fetched(self) -> bool:
        """Whether the keys come from somebody else."""
        return self.client.jwks is None and not self.client.disabled

    def may_look_again(self, now: float) -> bool:
        """Whether the last look is long enough ago for an unknown key id to cause another."""
        return self.tried is None or now - self.tried >= RETRY_SECONDS

    def due(self, now: float) -> bool:
        """Whether to load the keys now."""
        if self.wanted or self.problem is not None:
            return self.may_look_again(now)
        return self.tried is None or now - self.tried >= RENEW_SECONDS

    def turn(self) -> tuple[bool, float]:
        """Its place among those that are due: first who was never asked for, the latest registered of them first."""
        return (False, -self.since) if self.tried is None else (True, self.tried)


Load = Callable[[Client], bytes]


class KeyRing:
    """The keys of all registered clients. ``load`` brings the bytes behind a client's ``jku``."""

    def __init__(self, registry: ClientRegistry, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds of any steady clock."""
        self._registry = registry
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._defect: str | None = None
        self._registry_read = clock()
        self._first_round = threading.Event()
        self._take_over()

    def find(self, client: Client, kid: str) -> Key | None:
        """The key of this id, from memory. An unknown id asks the background to look again, and returns at once."""
        entry = self._entries.get(client.id)
        if entry is None or entry.client != client:
            return None
        key = entry.keys.get(kid)
        if key is None and client.jwks is None and entry.may_look_again(self._clock()):
            entry.wanted = True
            self.start()
            self._wake.set()
        return key

    def start(self) -> None:
        """Keep registry and keys fresh from now on. A worker that was forked starts its own thread.

        Where the machine gives no thread now, the next call asks for one again.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = _started(self._run)

    def preload(self, seconds: float) -> None:
        """Start, and wait until every key set was asked for once, but no longer than this."""
        if any(entry.client.jwks is None for entry in self._entries.values()):
            self.start()
            self._first_round.wait(seconds)

    def refresh(self, only: Client | None = None) -> None:
        """Read the registry if it is time, then load key sets that are due until it is time again, or none is.

        Due is a key set that was not yet loaded, is old, or was asked for by an unknown key id.
        ``only``: look at this client's alone.
        """
        with self._turn:
            if self._registry_due() <= 0:
                self._registry_read = self._clock()
                self._follow_registry()
            while due := self._due(only):
                self._renew_together(due[:AT_ONCE])
                if self._registry_due() <= 0:
                    break

    def rest(self) -> float:
        """Seconds until ``refresh`` has something to do."""
        return 0.0 if self._due() else max(0.0, self._registry_due())

    def _registry_due(self) -> float:
        return self._registry_read + REGISTRY_SECONDS - self._clock()

    def _due(self, only: Client | None = None) -> list[_Entry]:
        now = self._clock()
        found = [
            entry
            for entry in self._entries.values()
            if entry.is_fetched and only in (None, entry.client) and entry.due(now)
        ]
        return sorted(found, key=_Entry.turn)

    def _renew_together(self, entries: Sequence[_Entry]) -> None:
        """Load these key sets side by side; those for which there is no thread one after another."""
        now = self._clock()
        others = [(entry, _started(self._renew, entry, now)) for entry in entries[1:]]
        self._renew(entries[0], now)
        for entry, thread in others:
            if thread is None:
                self._renew(entry, now)
            else:
                thread.join()

    def _renew(self, entry: _Entry, now: float) -> None:
        entry.tried, entry.wanted = now, False
        try:
            read = read_key_set(orjson.loads(self._load(entry.client)), entry.client.algorithms)
        except Exception as problem:  # whatever the far side did: the keys we have are kept for a day
            entry.problem = f"{type(problem).__name__}: {problem}" if isinstance(problem, OSError) else "not JSON"
        else:
            if read.keys:
                entry.keys, entry.loaded, entry.problem = read.keys, now, None
                return
            entry.problem = "; ".join(read.problems)
        if entry.loaded is not None and now - entry.loaded > KEPT_SECONDS:
            entry.keys = {}

    def _follow_registry(self) -> None:
        try:
            self._registry.reload()
            self._defect = None
        except Exception as problem:  # a defect of ours: the clients we know go on, and the thread too
            self._defect = type(problem).__name__
        self._take_over()

    def _take_over(self) -> None:
        """Keep what is known of clients that are as they were, and forget the others."""
        current: dict[str, _Entry] = {}
        for client in self._registry.clients():
            known = self._entries.get(client.id)
            same = known is not None and known.client == client
            current[client.id] = known if known is not None and same else _Entry(client, self._clock())
        self._entries = current

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self.refresh()
            if not self._due():
                self._first_round.set()
            self._wake.wait(self.rest())

    def problems(self) -> list[str]:
        """Clients whose tokens cannot be checked, for /readyz; nothing of a patient."""
        found = [
            f"client {entry.client.id}: no usable key{f' ({entry.problem})' if entry.problem else ''}"
            for entry in self._entries.values()
            if not entry.keys and not entry.client.disabled
        ]
        told = [*self._registry.problems, *([self._defect] if self._defect else [])]
        return found + [f"clients: {problem}" for problem in told]


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread | None:
    """A thread that does this; None where the machine gives none."""
    thread = threading.Thread(target=work, args=arguments, name="client-keys", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
