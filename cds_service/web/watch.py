"""What is tried in the background: every rule on its probe infant, hourly; whether the store can be written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any

from cds_service.rules.probes import NO_PROBE, probes_of, run_probes
from cds_service.rules.rule import Outcome
from cds_service.settings import Settings
from cds_service.store.database import Database, kind_of
from cds_service.store.period import written
from cds_service.store.readiness import StoreCondition, condition_of
from cds_service.web.health import Health
from cds_service.web.in_force import RulesInForce
from cds_service.web.logs import logger

STORE_SECONDS = 15.0
STALE_SECONDS = 4 * STORE_SECONDS  # without a round that ended well: what was found before says nothing of now
PROBE_SECONDS = 3600.0
SPEAKS = Outcome.RECOMMENDED.value


class Watch:
    """The background checks of one worker. Without ``start`` they are made once, when first asked for."""

    def __init__(
        self, rules: RulesInForce, settings: Settings, database: Database, health: Health, now: Callable[[], datetime]
    ) -> None:
        self._rules = rules
        self._only_signed = settings.only_signed_rules
        self._database = database
        self._health = health
        self._now = now
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._rounded_at: float | None = None
        self._probe_due = 0.0
        self._probed_at = ""
        self._outcomes: dict[str, str] = {}
        self._store_at = ""
        self._store = StoreCondition("", "not tried yet")

    def start(self) -> None:
        """Check from now on, in a thread of its own; until the first round is done /readyz is red."""
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Check no more after the round under way."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            if all([self._went_well(self.try_store), self._went_well(self._probe_when_due)]):
                self._rounded_at = monotonic()
            self._stopped.wait(STORE_SECONDS)

    def _went_well(self, check: Callable[[], None]) -> bool:
        """Make the check. Whatever it raises, the next ones are made all the same."""
        try:
            check()
        except Exception as problem:
            logger.error("check-failed", kind=kind_of(problem))
            return False
        return True

    def _probe_when_due(self) -> None:
        if monotonic() >= self._probe_due:
            self.probe()
            self._probe_due = monotonic() + PROBE_SECONDS

    def try_store(self) -> None:
        """Ask the database whether it can be written."""
        self._store, self._store_at = condition_of(self._database), written(self._now())
        self._health.store_writable.set(self._store.writable)

    def probe(self) -> None:
        """Ask every rule for its own infant as of today. A rule that does not speak is named and logged."""
        with self._lock:
            now, library = self._now(), self._rules.library
            self._outcomes = run_probes(library, probes_of(library), now.date().isoformat())
            self._probed_at = written(now)
        for rule, outcome in self._outcomes.items():
            self._health.probes.labels(rule).set(outcome == SPEAKS)
            if outcome != SPEAKS:
                logger.error("probe-silent", rule=rule, outcome=outcome)

    def report(self) -> dict[str, Any]:
        """What /readyz says of rules and store; the checks are made now if nobody has made them."""
        if self._thread is None and not self._store_at:
            self.try_store()
            self.probe()
        library = self._rules.library
        silent = len(library.silent)
        return {
            "rules": len(library.rules),
            "speaking": len(library.rules) - silent,
            "signed": len(library.signatures),
            "stopped": sorted(self._rules.stops),
            "ruleSet": {"version": library.reading.pack_version, "hash": library.hash},
            "store": {"writable": self._store.writable, "schema": self._store.schema, "at": self._store_at or None},
            "probes": {"at": self._probed_at or None, "outcomes": self._outcomes},
        }

    def problems(self) -> list[str]:
        """Why this worker is not ready: rules, store, probes, and what its Health knows."""
        problems = []
        library = self._rules.library
        if not library.rules:
            problems.append("rules: none is loaded")
        elif self._only_signed and len(library.silent) == len(library.rules):
            problems.append("rules: none is signed off, so none speaks; see CDS_SIGNOFF_FILE and cds-service sign-off")
        if not self._store.writable:
            problems.append(f"store: {self._store.problem}")
        if not self._probed_at:
            problems.append("probes: not tried yet")
        if self._rounded_at is not None and (ago := monotonic() - self._rounded_at) > STALE_SECONDS:
            problems.append(f"checks: the last round ended {ago:.0f} seconds ago")
        problems += [_silent(rule, outcome) for rule, outcome in self._outcomes.items() if outcome != SPEAKS]
        return problems + self._health.problems()


def _silent(rule: str, outcome: str) -> str:
    if outcome == NO_PROBE:
        return f"rule {rule}: has no probe infant; a case that expects recommended is needed"
    return f"rule {rule}: does not speak on its probe infant ({outcome})"
