"""How this worker is doing: counted for /metrics, said in words by /readyz. No label comes from a patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from cds_service.store.decisions import DecisionLog

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
        log.lost = self.decisions_lost.inc
        self.watched: list[Callable[[], list[str]]] = []
        self._failed: dict[str, int] = {}

    def rules_failed(self, rules: Iterable[str]) -> None:
        """Count rules that raised."""
        for rule in rules:
            self.rule_errors.labels(rule).inc()
            self._failed[rule] = self._failed.get(rule, 0) + 1

    def problems(self) -> list[str]:
        """What an operator needs to look at; empty when all is well."""
        problems = [f"rule {rule}: raised {count} times since start" for rule, count in sorted(self._failed.items())]
        if self._log.failing:
            problems.append("decision log: the database cannot be written; decisions wait in memory")
        if self._log.without_inputs:
            problems.append(f"decision log: {self._log.without_inputs} decisions were logged without their input")
        if self._log.dropped:
            problems.append(f"decision log: {self._log.dropped} decisions were not written")
        return problems

    def warnings(self) -> list[str]:
        """What an operator may want to know though the service answers well."""
        return [told for watch in self.watched for told in watch()]
