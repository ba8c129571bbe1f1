"""The rules as they speak at this moment: those that somebody stopped are silent, those signed since speak.

Every worker looks every two seconds, so that a stop holds in all of them within five, and from the start on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from cds_service.errors import ContentError, StoreUnavailable
from cds_service.rules.library import RuleLibrary
from cds_service.rules.pack import packaged_cards
from cds_service.rules.signoff import read_signoffs, signatures_in_force
from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.store.stops import StopRow, stopped
from cds_service.web.logs import logger

LOOK_SECONDS = 2.0
LATE_SECONDS = 10.0


class RulesInForce:
    """The library of one worker. Without ``start`` it looks when asked, at most every LOOK_SECONDS."""

    def __init__(self, library: RuleLibrary, settings: Settings, database: Database) -> None:
        self._given = self._library = library
        self._only_signed = settings.only_signed_rules
        self._read = False
        self._file = settings.signoff_file
        self._signed = _written_at(self._file)
        self._database = database
        self._stops: Mapping[str, StopRow] = {}
        self._asked_at = self._known_at = -LATE_SECONDS
        self._file_problem = ""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    @property
    def library(self) -> RuleLibrary:
        """The rules as they speak now. Take it once for a request."""
        if self._thread is None and monotonic() - self._asked_at >= LOOK_SECONDS:
            self.look()
        return self._library

    def require_stops(self) -> None:
        """Production answers no call before it has read once which rules are stopped: a restart lifts no stop.

        Raises StoreUnavailable. Once read, the known stops hold while the database is away, and cards go on.
        """
        if self._only_signed and not self._read:
            raise StoreUnavailable("rules.unknown", "Which rules may speak cannot be read now. Try again.")

    @property
    def stops(self) -> Mapping[str, StopRow]:
        """The rules that are stopped now, as this worker knows."""
        _ = self.library
        return self._stops

    def start(self) -> None:
        """Look from now on in a thread of its own."""
        self.look()
        self._thread = threading.Thread(target=self._watch, name="rules-in-force", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as problem:  # whatever it is, the next look may succeed; warnings() tells how old this is
                logger.error("rules-not-looked-at", kind=type(problem).__name__)

    def look(self) -> None:
        """Read stops and signatures. Where the database does not answer, what was known goes on to hold."""
        with self._lock:
            self._asked_at = monotonic()
            given = self._signed_since()
            try:
                stops = stopped(self._database)
            except StoreUnavailable:
                stops = self._stops
            else:
                self._known_at, self._read = monotonic(), True
            if given is self._given and stops == self._stops:
                return
            changed = set(stops) ^ set(self._stops)
            self._given, self._stops = given, stops
            silent = given.silent | (stops.keys() & {rule.id for rule in given.rules})
            self._library = given.speaking_as(given.signatures, silent)
        for rule in sorted(changed):
            logger.warning("rule-stopped" if rule in stops else "rule-speaks-again", rule=rule)

    def _signed_since(self) -> RuleLibrary:
        """The library with the signatures of its file, read anew when the file was written."""
        written = _written_at(self._file)
        if self._file is None or written == self._signed:
            return self._given
        try:
            root = self._given.root if self._given.root is not None else packaged_cards()
            signatures = signatures_in_force(read_signoffs(root, self._file), self._given.contents)
        except ContentError:
            self._file_problem = "signatures: the sign-off file cannot be read; those read before hold"
            return self._given
        self._signed, self._file_problem = written, ""
        unsigned = frozenset(self._given.contents) - signatures.keys()
        return self._given.speaking_as(signatures, unsigned if self._only_signed else self._given.silent)

    def warnings(self) -> list[str]:
        """What an operator has to know; none of it stops the service."""
        told = [self._file_problem] if self._file_problem else []
        _ = self.library
        if monotonic() - self._known_at > LATE_SECONDS:
            told.append("rules: whether one was stopped cannot be read from the database; what was known holds")
        return told


def _written_at(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0
