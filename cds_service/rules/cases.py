"""Proof beside each rule: small charts in a short hand, and what the rule has to say of each.

A case is a chart (born, facts) and an expected outcome. ``each`` makes one case per value: the value stands
wherever the chart says EACH, and a mapping is merged into the fact there. The short hand is turned into FHIR R4
resources, so that a case goes the same road as a request.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from cds_service.errors import Mistake
from cds_service.record.binding import Batch, bind
from cds_service.record.chart import read_chart
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import SOURCES
from cds_service.record.times import parse_as_of
from cds_service.rules.case_facts import FactWriter
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome, Rule
from cds_service.rules.yaml_source import Source

PATIENT = "case"


class Case(Struct, frozen=True, kw_only=True):
    """One chart with what the rule says of it. ``workups``: those it suggests, when the case names them."""

    name: str
    line: int
    chart: Mapping[str, Any]
    expect: Outcome
    workups: Mapping[str, str] | None
    missing: tuple[str, ...]


def cases_of(source: Source) -> list[Case]:
    """Every case of a cases file, ``each`` spelt out."""
    found = []
    for place, data in enumerate(source.data["cases"]):
        line = source.line(("cases", place))
        for name, chart in _spelt_out(data):
            found.append(
                Case(
                    name=name,
                    line=line,
                    chart={"as_of": source.data["as_of"], **chart},
                    expect=Outcome(data["expect"]),
                    workups=data.get("workups"),
                    missing=tuple(data.get("missing", ())),
                )
            )
    return found


def _spelt_out(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    chart = {key: data[key] for key in ("as_of", "born", "facts", "unanswered") if key in data}
    each = data.get("each")
    if each is None:
        yield data["case"], chart
        return
    for value in each:
        yield f"{data['case']}: {value}", _with(copy.deepcopy(chart), value)


def _with(part: Any, value: Any) -> Any:
    """The chart with the value in every place that says EACH."""
    if isinstance(part, dict):
        filled: dict[str, Any] = {}
        for key, item in part.items():
            if item == "EACH" and isinstance(value, dict):
                filled.update(value)
            else:
                filled[key] = _with(item, value)
        return filled
    if isinstance(part, list):
        return [_with(item, value) for item in part]
    return value if part == "EACH" else part


def resources_of(case: Case, library: RuleLibrary) -> list[dict[str, Any]]:
    """The FHIR R4 resources of a case: the Patient, then its facts."""
    writer = FactWriter(library.reading, case.chart["as_of"], PATIENT)
    facts = [writer.resource(fact) for fact in case.chart.get("facts", ())]
    return [writer.patient(case.chart.get("born")), *facts]


def record_of(case: Case, library: RuleLibrary) -> PatientRecord:
    """The patient record of a case, read as a request's would be."""
    as_of = parse_as_of(case.chart["as_of"])
    if as_of is None:
        raise ValueError(f"{case.name}: as_of is no date")
    resources = resources_of(case, library)
    unanswered = set(case.chart.get("unanswered", ()))
    answered = frozenset(kind for kind, key in SOURCES.items() if key not in unanswered)
    bound = bind([Batch(resource["resourceType"], [resource], (), "case") for resource in resources], PATIENT)
    return read_chart(bound, answered, as_of, library.reading)


def disagreement(case: Case, evaluation: Evaluation) -> str | None:
    """What is wrong with the outcome, in words; None when it is as the case expects."""
    if evaluation.outcome is not case.expect:
        missing = f" (missing: {', '.join(evaluation.missing)})" if evaluation.missing else ""
        return f"expected {case.expect.value}, got {evaluation.outcome.value}{missing}"
    if case.workups is not None:
        got = {
            item.workup.id: item.urgency.indicator
            for item in evaluation.suggested
            if item.taken_care_of.truth.name != "TRUE"
        }
        if got != dict(case.workups):
            return f"expected the workups {dict(case.workups)}, got {got}"
    lacking = [item for item in case.missing if not any(item in missing for missing in evaluation.missing)]
    return f"expected {lacking} among what is missing, got {list(evaluation.missing)}" if lacking else None


def check_cases(library: RuleLibrary, files: Mapping[str, Source]) -> tuple[int, list[Mistake]]:
    """How many cases there are, and every one that the library disagrees with."""
    mistakes: list[Mistake] = []
    count = 0
    for rule in library.rules:
        source = files.get(rule.id)
        if source is None:
            mistakes.append(Mistake(rule.file, 1, "the rule has no cases file beside it"))
            continue
        place = next(index for index, item in enumerate(library.rules) if item.id == rule.id)
        for case in cases_of(source):
            count += 1
            problem = disagreement(case, library.evaluate(record_of(case, library)).all[place])
            if problem is not None:
                mistakes.append(Mistake(source.file, case.line, f"{case.name}: {problem}"))
        mistakes += _unheld_hazards(rule, source)
    return count, mistakes


def _unheld_hazards(rule: Rule, source: Source) -> list[Mistake]:
    """Hazards whose case is not there, or does not show the rule speaking (or silent) as the hazard needs."""
    expected = {case["case"]: Outcome(case["expect"]) for case in source.data["cases"]}
    mistakes = []
    for key, hazard, speaks in (
        ("if_it_speaks_wrongly", rule.if_it_speaks_wrongly, False),
        ("if_it_stays_silent", rule.if_it_stays_silent, True),
    ):
        outcome = expected.get(hazard.held_by)
        if outcome is None or (outcome is Outcome.RECOMMENDED) is not speaks:
            which = "in which the rule speaks" if speaks else "in which the rule is silent"
            mistakes.append(Mistake(rule.file, 1, f"hazards.{key}.held_by names no case of {source.file} {which}"))
    return mistakes
