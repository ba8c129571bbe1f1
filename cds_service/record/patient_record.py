"""What the rules may know about one patient at one moment. Immutable; built from resources bound to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import msgspec
from msgspec import Struct

from cds_service.record import labs
from cds_service.record.ages import Birth
from cds_service.record.course import Course, clustered, course_of, dated, first_seen, is_stale, persistence
from cds_service.record.facts import Evidence, Finding, LabResult, Medication, Presence, Unreadable, Work
from cds_service.record.reading import Reading
from cds_service.record.sources import BIRTH_EVENT_SOURCES, FINDING_SOURCES, SOURCES
from cds_service.record.times import DAY, EARLIEST, Span
from cds_service.record.truth import FALSE, TRUE

NO_COURSE = Course()


class Uncoded(Struct, frozen=True):
    """A text that looks like a finding but has no code that we know; it fires nothing."""

    reference: str
    element: str
    word: str


class FindingState(Struct, frozen=True, kw_only=True):
    """All that is known of one finding: where it is present, where it cannot be told, where it is denied."""

    present: tuple[Finding, ...] = ()
    unknown: tuple[Finding, ...] = ()
    denied: tuple[Finding, ...] = ()
    course: Course = NO_COURSE


NOT_WRITTEN = FindingState()


class Facts(Struct, frozen=True, kw_only=True):
    """Everything gathered from the resources, before it is put together.

    ``unknown_codes``: system and code of what was read of findings and could not be understood, each once.
    """

    birth: Birth | None = None
    birth_evidence: Evidence | None = None
    deceased: bool = False
    findings: Mapping[str, Sequence[Finding]]
    labs: Mapping[str, Sequence[LabResult]]
    work: Mapping[str, Sequence[Work]]
    medications: Sequence[Medication]
    unreadable: tuple[Unreadable, ...] = ()
    uncoded: tuple[Uncoded, ...] = ()
    ignored: tuple[Unreadable, ...] = ()
    unknown_codes: tuple[tuple[str, str], ...] = ()


class PatientRecord:
    """One patient at ``as_of`` (microseconds since 1970, UTC).

    ``answered`` holds the FHIR resource types whose query was answered in full: only of those may a fact
    that is not there count as not recorded. ``written`` holds the findings of which anything is said at all,
    ``possible`` those that are present or may be; None when any other may be too, for not all was answered.
    """

    def __init__(self, facts: Facts, answered: frozenset[str], as_of: int, reading: Reading) -> None:
        self.facts = facts
        self.answered = answered
        self.as_of = as_of
        self.today = as_of // DAY
        self.reading = reading
        self._findings = {name: self._state(found) for name, found in facts.findings.items()}
        self._tell_clusters()
        self.written = frozenset(self._findings)
        self.possible: frozenset[str] | None = None
        if answered.issuperset(BIRTH_EVENT_SOURCES):
            self.possible = frozenset(name for name, state in self._findings.items() if state.present or state.unknown)
        self._labs: dict[str, labs.LabAnswer] = {}

    @property
    def birth(self) -> Birth | None:
        """When the patient was born; None when no usable birth date is recorded."""
        return self.facts.birth

    def finding(self, name: str) -> FindingState:
        """All that is known of one finding."""
        return self._findings.get(name, NOT_WRITTEN)

    def unanswered(self, types: Iterable[str]) -> tuple[str, ...]:
        """The prefetch keys of those resource types whose query was not answered in full."""
        if self.answered.issuperset(types):
            return ()
        return tuple(SOURCES[kind] for kind in types if kind not in self.answered)

    @cached_property
    def anchor(self) -> Span:
        """When the newest movement or neurological finding was; ``as_of`` when one is ongoing or none is known.

        A finding that may be there but cannot be dated may be the newest: then any time up to ``as_of``.
        """
        newest: Span | None = None
        doubtful = bool(self.unanswered(FINDING_SOURCES))
        for name in self.reading.anchor_findings & self.written:
            state = self._findings[name]
            doubtful = doubtful or bool(state.unknown)
            for finding in state.present:
                if finding.ongoing:
                    return Span(self.as_of, self.as_of)
                if finding.span is not None and (newest is None or finding.span[::-1] > newest[::-1]):
                    newest = finding.span
        if doubtful:
            return Span(newest.lo if newest is not None else EARLIEST, self.as_of)
        return newest or Span(self.as_of, self.as_of)

    def lab(self, analyte: str) -> labs.LabAnswer:
        """How the newest usable result near the newest finding is judged."""
        known = self._labs.get(analyte)
        if known is None:
            kind = self.reading.analytes[analyte]
            results = [result for name in kind.concepts for result in self.facts.labs.get(name, ())]
            known = labs.NOT_MEASURED
            if results:
                known = labs.answer(results, kind, self.birth, self.anchor, self.reading.lab_window)
            self._labs[analyte] = known
        return known

    def _state(self, found: Sequence[Finding]) -> FindingState:
        """What is current, what cannot be told and what is denied; what is too old to speak of now drops out."""
        written = dated(found)
        lasts = persistence(written, self.as_of, self.reading.persistent_after_days)
        present, unknown = [], [f for f in found if f.presence is Presence.UNKNOWN]
        for finding in written:
            stale = is_stale(finding, lasts, self.as_of, self.reading.stale_after)
            if stale is FALSE:
                present.append(finding)
            elif stale is not TRUE:
                unknown.append(finding)
        return FindingState(
            present=tuple(present),
            unknown=tuple(unknown),
            denied=tuple(f for f in found if f.presence is Presence.ABSENT),
            course=course_of(present, lasts, first_seen(written), self.as_of, self.reading),
        )

    def _tell_clusters(self) -> None:
        members = [name for name in self.reading.cluster.findings if name in self._findings]
        together = clustered((f for name in members for f in self._findings[name].present), self.reading.cluster)
        if together is not FALSE:
            for name in members:
                state = self._findings[name]
                course = msgspec.structs.replace(state.course, clustered=together)
                self._findings[name] = msgspec.structs.replace(state, course=course)

    @property
    def knows_nothing(self) -> bool:
        """Whether not one query about the patient's findings was answered: then nothing can be evaluated."""
        return not self.answered.intersection(FINDING_SOURCES) and not self._findings
