"""Proof beside limits.yaml: for each limit, results on both sides of it and of its age band."""

from __future__ import annotations

from typing import Any

from cds_service.errors import Mistake
from cds_service.record.binding import Batch, bind
from cds_service.record.chart import read_chart
from cds_service.record.sources import SOURCES
from cds_service.record.times import parse_as_of
from cds_service.record.truth import TRUE, UNKNOWN
from cds_service.rules.case_facts import FactWriter
from cds_service.rules.cases import PATIENT
from cds_service.rules.library import RuleLibrary
from cds_service.rules.yaml_source import Source


def judged(data: dict[str, Any], as_of: str, library: RuleLibrary) -> str:
    """How the result of one case is judged: low, high, abnormal, normal or not-evaluated."""
    writer = FactWriter(library.reading, as_of, PATIENT)
    resources = [writer.patient(data["born"])]
    if "gestation" in data:
        resources.append(writer.resource({"gestation": data["gestation"]}))
    resources.append(
        writer.resource({key: data[key] for key in ("lab", "value", "on", "flag", "range") if key in data})
    )
    moment = parse_as_of(as_of)
    if moment is None:
        raise ValueError("as_of is no date")
    bound = bind([Batch(resource["resourceType"], [resource], (), "case") for resource in resources], PATIENT)
    record = read_chart(bound, frozenset(SOURCES), moment, library.reading)
    answer = record.lab(library.reading.analyte_of[data["lab"]].name)
    if answer.low is UNKNOWN:
        return "not-evaluated"
    for word, truth in (("low", answer.low), ("high", answer.high), ("abnormal", answer.abnormal)):
        if truth is TRUE:
            return word
    return "normal" if answer.evidence else "not-evaluated"


def check_limit_cases(library: RuleLibrary, source: Source) -> tuple[int, list[Mistake]]:
    """How many cases there are, every one that is judged otherwise, and every limit without a case."""
    mistakes = []
    covered = set()
    for place, data in enumerate(source.data["cases"]):
        covered.add(data["limit"])
        got = judged(data, source.data["as_of"], library)
        if got != data["expect"]:
            what = f"{data['lab']} {data['value']} of an infant born {data['born']}"
            mistakes.append(source.mistake(("cases", place), f"{what}: expected {data['expect']}, got {got}"))
    for limit in library.limits:
        if limit not in covered:
            mistakes.append(source.mistake(("cases",), f"the limit {limit!r} has no case"))
    return len(source.data["cases"]), mistakes
