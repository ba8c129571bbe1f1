"""A record written as a case of a rule: what was decided for an infant becomes a test, without the infant.

Nothing is copied out of resources. Each line is made of names of our own content (findings, analytes, workups,
qualifiers), numbers in units that we know, and days before the as-of day, which itself is moved to AS_OF. So no name,
id, free text or date of the patient can come along. Whether the case shows the same is tried out before it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import yaml

from cds_service.record.facts import Finding, Interval, LabResult, Presence
from cds_service.record.patient_record import PatientRecord
from cds_service.record.reading import Reading
from cds_service.record.sources import SOURCES
from cds_service.record.times import DAY, Span, iso, parse_as_of
from cds_service.record.truth import FALSE, TRUE, UNKNOWN
from cds_service.rules.cases import Case, record_of
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.readable import Readable
from cds_service.rules.rule import Rule

AS_OF = "2026-06-15"
COUNTS = {"beats": "beats", "event-count": "event_count"}


class CannotBeWritten(Exception):
    """No case in the short hand shows what the record shows."""


class WrittenCase(NamedTuple):
    """An entry of a cases file, as data and as the text to append to it."""

    entry: Mapping[str, Any]
    text: str


def write_case(evaluation: Evaluation, library: RuleLibrary) -> WrittenCase:
    """The record as a case of which the rule says the same, of every criterion too. Raises CannotBeWritten.

    First with the facts that the rule asks about, by days; where that shows something else, with all that is coded,
    and with times of day.
    """
    record, rule = evaluation.record, evaluation.rule
    for only in (concepts_of(rule, library), None):
        for clock in (False, True):
            entry = _Writer(record, only, clock).entry(evaluation)
            if _shows_the_same(entry, evaluation, library):
                return WrittenCase(entry, _text(entry))
    raise CannotBeWritten("its facts cannot all be said in the short hand of cases")


def concepts_of(rule: Rule, library: RuleLibrary) -> frozenset[str]:
    """The findings, results, medicines and work that the rule and its workups ask about."""
    asked = set(Readable(library.reading, library.groups).concepts(rule))
    open_ones = [*rule.criteria.values()]
    while open_ones:
        criterion = open_ones.pop()
        open_ones += criterion.parts.values()
        named = criterion.definition.get("lab", ())
        for name in [named] if isinstance(named, str) else named if isinstance(named, list) else ():
            asked.update(library.reading.analytes[str(name)].concepts)
    for item in rule.recommend:
        for way in library.workups[item.workup].done_or_ordered:
            asked.update(way.concepts, way.onset_of)
    return frozenset(asked)


def _shows_the_same(entry: Mapping[str, Any], evaluation: Evaluation, library: RuleLibrary) -> bool:
    chart = {key: entry[key] for key in ("as_of", "born", "facts", "unanswered") if key in entry}
    case = Case(name="", line=0, chart=chart, expect=evaluation.outcome, workups=None, missing=())
    try:
        again = library.evaluate(record_of(case, library)).all
    except (KeyError, ValueError):
        return False
    found = next((e for e in again if e.rule.id == evaluation.rule.id), None)
    return found is not None and _said(found) == _said(evaluation)


def _said(evaluation: Evaluation) -> tuple[object, ...]:
    truths = [evaluation.answer(criterion).truth for criterion in evaluation.rule.criteria.values()]
    return evaluation.outcome, truths, _workups(evaluation)


def _workups(evaluation: Evaluation) -> dict[str, str]:
    return {
        item.workup.id: item.urgency.indicator for item in evaluation.suggested if item.taken_care_of.truth is not TRUE
    }


class _Writer:
    """Writes the facts of one record in the short hand. ``only``: of these concepts; ``clock``: with times of day."""

    def __init__(self, record: PatientRecord, only: Collection[str] | None, clock: bool) -> None:
        self._record = record
        self._reading: Reading = record.reading
        self._only = only
        self._clock = clock
        day = parse_as_of(AS_OF)
        assert day is not None
        self._shift = (day // DAY - record.today) * DAY

    def entry(self, evaluation: Evaluation) -> dict[str, Any]:
        """The case as a cases file has it."""
        record = self._record
        entry: dict[str, Any] = {"case": f"made from a decision: {evaluation.outcome.value}"}
        entry["as_of"] = iso(record.as_of + self._shift) if self._clock else AS_OF
        if record.birth is not None:
            entry["born"] = f"{min(0, record.birth.span.days[0] - record.today)} d"
        entry["facts"] = list(self._facts())
        unanswered = [key for kind, key in SOURCES.items() if kind not in record.answered]
        if unanswered:
            entry["unanswered"] = unanswered
        entry["expect"] = evaluation.outcome.value
        if evaluation.suggested:
            entry["workups"] = _workups(evaluation)
        missing = [item for item in evaluation.missing if item in SOURCES.values()]
        return {**entry, "missing": missing} if missing else entry

    def _facts(self) -> list[dict[str, Any]]:
        facts, birth = self._record.facts, self._record.birth
        found = [self._finding(f) for named in facts.findings.values() for f in named if self._asked(f.concept)]
        found += [self._lab(r) for named in facts.labs.values() for r in named if self._asked(r.analyte)]
        for name, work in facts.work.items():
            if self._asked(name) and name not in self._reading.analyte_of:
                found += [{"ordered" if w.ordered else "done": name, "on": self._on(w.span)} for w in work]
        for taken in facts.medications:
            if taken.concept is not None and self._asked(taken.concept):
                undated = {"on": "none"} if taken.problem else {}
                found.append({"administered" if taken.problem else "medication": taken.concept, **undated})
        if birth is not None and birth.gestation.known is TRUE and birth.gestation.evidence is not None:
            stated = birth.gestation.evidence
            found.append({"gestation": f"{stated.value} {stated.unit}"})
        return found

    def _asked(self, concept: str) -> bool:
        return self._only is None or concept in self._only

    def _on(self, span: Span | None) -> str:
        if span is None:
            return "none"
        if self._clock and span.lo == span.hi:
            return iso(span.lo + self._shift)
        return f"{min(0, span.days[0] - self._record.today)} d"

    def _finding(self, fact: Finding) -> dict[str, Any]:
        written: dict[str, Any] = {"finding": fact.concept}
        if fact.from_condition:
            written["as"] = "condition"
            if fact.presence is Presence.PAST:
                written["clinical"] = "resolved"
            elif fact.presence is Presence.ABSENT:
                written["verification"] = "refuted"
            elif fact.confirmed is UNKNOWN or fact.presence is Presence.UNKNOWN:
                written["verification" if fact.confirmed is UNKNOWN else "clinical"] = "unknown"
            elif fact.confirmed is FALSE:
                written["verification"] = "provisional"
        elif fact.presence is Presence.ABSENT:
            written["present"] = False
        if fact.span is not None or not fact.from_condition:
            written["on"] = self._on(None if fact.presence is Presence.UNKNOWN else fact.span)
        return written | _qualifiers(fact)

    def _lab(self, result: LabResult) -> dict[str, Any]:
        written: dict[str, Any] = {"lab": result.analyte, "on": self._on(result.span)}
        shown = result.evidence
        if shown.value and shown.value[0].isdigit() and not result.problem:
            written["value"] = f"{shown.value} {shown.unit}"
        if len(result.flags) == 1:
            written["flag"] = next(iter(result.flags))
        if len(result.ranges) == 1 and "value" in written:
            factor = self._reading.analyte_of[result.analyte].units[shown.unit][1]
            ends = [end / factor for end in result.ranges[0][:2] if end is not None]
            if len(ends) == 2:
                written["range"] = f"{ends[0]:g} - {ends[1]:g}"
        return written


def _qualifiers(fact: Finding) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, values in fact.qualifiers.coded.items():
        if name == "vigorous":
            said[name] = "true" in values
        else:
            said[name.replace("-", "_")] = sorted(values) if len(values) > 1 else next(iter(values))
    for name, number in fact.qualifiers.numbers.items():
        if number == Interval(number.lo, number.lo):
            said[COUNTS.get(name, name)] = f"{number.lo:g} s" if name not in COUNTS else int(number.lo)
    return said


def _text(entry: Mapping[str, Any]) -> str:
    """The entry as it stands in a cases file."""
    dumped = yaml.safe_dump([dict(entry)], sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "".join(f"  {line}\n" for line in dumped.replace("'on':", "on:").splitlines())
