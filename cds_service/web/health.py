"""How this worker is doing: counted for /metrics, said in words by /readyz. No label comes from a patient.

Where SHARED_COUNTS is set, as ``serve`` does for several workers, each worker writes its counts into files there and
/metrics adds them up, whichever worker answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from cds_service.settings import SHARED_COUNTS
from cds_service.store.decisions import DecisionLog
from cds_service.web.logs import Dropped, logger

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Health:
    """Counters of one worker process since its start."""

    def __init__(self, log: DecisionLog) -> None:
        self.registry = CollectorRegistry()
        self._log = log
        self.answers = Counter("cds_answers", "Answers by status and error code", ["status", "code"],
                               registry=self.registry)  # fmt: skip
        self.cards = Counter("cds_cards", "Cards given", ["family", "indicator"], registry=self.registry)
        self.rule_errors = Counter("cds_rule_errors", "Rules that raised: defects", ["rule"], registry=self.registry)
        self.seconds = Histogram("cds_decision_seconds", "Time to decide", registry=self.registry, buckets=BUCKETS)
        self.decisions_lost = Counter("cds_decisions_lost", "Decisions that were not logged", registry=self.registry)
        self.feedback = Counter("cds_feedback", "Feedback taken, repeats included", ["outcome"],
                                registry=self.registry)  # fmt: skip
        self.feedback_rejected = Counter("cds_feedback_rejected", "Entries not understood", registry=self.registry)
        self.feedback_unknown = Counter("cds_feedback_unknown_cards", "Entries on cards not (yet) in the log",
                                        registry=self.registry)  # fmt: skip
        self.probes = Gauge("cds_rule_probe", "Whether the rule speaks on its probe infant, in every worker", ["rule"],
                            registry=self.registry, multiprocess_mode="livemin")  # fmt: skip
        self.store_writable = Gauge("cds_store_writable", "Whether the database can be written, for every worker",
                                    registry=self.registry, multiprocess_mode="livemin")  # fmt: skip
        self.fields_dropped = Counter("cds_log_fields_dropped", "Fields left out of log lines: not on the list",
                                      registry=self.registry)  # fmt: skip
        Dropped.tell = self.fields_dropped.inc
        log.lost = self.decisions_lost.inc
        log.met = lambda kind: logger.error("decisions-not-written", kind=kind)
        self.problem_sources: list[Callable[[], list[str]]] = []
        self.warning_sources: list[Callable[[], list[str]]] = []
        self._failed: dict[str, int] = {}

    def exposition(self) -> bytes:
        """What /metrics answers: of this worker, or of all where they share a folder."""
        shared = os.environ.get(SHARED_COUNTS)
        if not shared:
            return generate_latest(self.registry)
        forget_dead_workers(Path(shared))
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)

    def rules_failed(self, rules: Iterable[str]) -> None:
        """Count rules that raised."""
        for rule in rules:
            self.rule_errors.labels(rule).inc()
            self._failed[rule] = self._failed.get(rule, 0) + 1

    def problems(self) -> list[str]:
        """Why this worker is not to be trusted, of calls, log and callers; empty when all is well."""
        problems = [f"rule {rule}: raised {count} times since start" for rule, count in sorted(self._failed.items())]
        if self._log.failing:
            problems.append("decision log: the database cannot be written; decisions wait in memory")
        if self._log.without_inputs:
            problems.append(f"decision log: {self._log.without_inputs} decisions were logged without their input")
        if self._log.dropped:
            problems.append(f"decision log: {self._log.dropped} decisions were not written")
        return problems + [told for source in self.problem_sources for told in source()]

    def warnings(self) -> list[str]:
        """What an operator may want to know though the service answers well."""
        return [told for source in self.warning_sources for told in source()]


def forget_dead_workers(folder: Path) -> None:
    """Remove what ended workers said of the present; what they counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        with suppress(ValueError):
            worker = int(file.stem.rsplit("_", 1)[1])
            if not Path(f"/proc/{worker}").exists():
                mark_process_dead(worker, str(folder))  # type: ignore[no-untyped-call]
