"""The counts of a rule, and of all rules together, as FHIR R4 MeasureReports of type summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cds_service.population.attrition import DONE, EXCLUDED, NOT_EVALUATED, OTHER_AGE, RECOMMENDED, STAGES, Counts
from cds_service.population.disclosure import HIDDEN, Disclosure, Shown
from cds_service.population.summary import rule_stages, tables_of
from cds_service.record.times import iso
from cds_service.rules.library import RuleLibrary

Json = dict[str, Any]
POPULATIONS = "http://terminology.hl7.org/CodeSystem/measure-population"
MASKED = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]}


def measure_reports(
    counts: Counts, library: RuleLibrary, run_id: str, as_of: int, disclosure: Disclosure
) -> Iterator[Json]:
    """One report for the set, then one per rule: how many needed the workup, and how many of them had it.

    Initial population: evaluated and of the rule's age. Denominator: the rule holds for them (excluded ones with
    it). Numerator: everything it asks for is done or ordered. A hidden number is masked, and the score with it.
    """
    tables, patients = tables_of(counts), counts["patients",]
    yield _report("all-rules", {stage: tables["stage",][stage] for stage in STAGES}, library, run_id, as_of, disclosure)
    for rule in library.rules:
        yield _report(rule.id, rule_stages(tables, patients, rule.id), library, run_id, as_of, disclosure)


def _report(
    name: str, stages: Mapping[str, int], library: RuleLibrary, run_id: str, as_of: int, disclosure: Disclosure
) -> Json:
    held = {stage: stages[stage] for stage in (EXCLUDED, DONE, RECOMMENDED)}
    numbers = {
        "initial-population": sum(stages.values()) - stages[NOT_EVALUATED] - stages[OTHER_AGE],
        "denominator": sum(held.values()), "denominator-exclusion": held[EXCLUDED], "numerator": held[DONE],
    }  # fmt: skip
    day = iso(as_of)
    return {
        "resourceType": "MeasureReport", "id": f"{run_id}-{name}"[:64], "status": "complete", "type": "summary",
        "measure": f"{library.reading.canonical}/Measure/{name}|{library.reading.pack_version}",
        "period": {"start": day, "end": day}, "group": [_group(numbers, disclosure)],
    }  # fmt: skip


def _group(numbers: Mapping[str, int], disclosure: Disclosure) -> Json:
    shown = disclosure.table(numbers)
    group: Json = {"population": [_population(code, number) for code, number in shown.items()]}
    needed = numbers["denominator"] - numbers["denominator-exclusion"]
    if needed and HIDDEN not in shown.values() and HIDDEN not in (disclosure.shown(needed),):
        group["measureScore"] = {"value": round(numbers["numerator"] / needed, 2)}
    return group


def suppressed_report(report: Json) -> Json:
    """A report of an exact run as a run without --exact has it. Raises KeyError and TypeError when it is no report."""
    populations = report["group"][0]["population"]
    numbers = {item["code"]["coding"][0]["code"]: item["count"] for item in populations}
    return report | {"group": [_group(numbers, Disclosure(exact=False))]}


def _population(code: str, number: Shown) -> Json:
    counted: Json = {"_count": MASKED} if isinstance(number, str) else {"count": number}
    return {"code": {"coding": [{"system": POPULATIONS, "code": code}]}, **counted}
