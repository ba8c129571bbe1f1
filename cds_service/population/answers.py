"""One patient of an export, answered by the hook's own path; what is written down of the answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from cds_service.errors import RequestError
from cds_service.explain import rule_as_json
from cds_service.hooks.cards import BASIS
from cds_service.hooks.respond import EVALUATION, HookResponse, respond
from cds_service.population.attrition import (
    EXCLUDED,
    NOT_EVALUATED,
    OTHER_AGE,
    Counts,
    age_band,
    count_infant,
    stages_of,
)
from cds_service.population.infant_request import Chart, Exported, Json, request_of
from cds_service.record.times import iso
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome

WORKLIST = ("patient", "urgency", "age", "workups", "rules", "because", "evidence", "not known")
URGENCIES = ("critical", "warning", "info")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


class Asking(NamedTuple):
    """What every patient is asked with: the rules, or two sets of them to compare."""

    libraries: tuple[RuleLibrary, ...]
    as_of: int
    public_url: str
    exported: Exported

    @property
    def library(self) -> RuleLibrary:
        """The rules asked; of two sets, the first."""
        return self.libraries[0]


class Rows(NamedTuple):
    """Lines of the outputs about one patient, by output."""

    lines: dict[str, list[bytes]]


def answer_patient(chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking, counts: Counts) -> Rows:
    """The answer that the hook would give, as rows; counted under every heading."""
    counts["patients",] += 1
    count_faults(chart, counts)
    request = request_of(chart, chart.resources, medications, asking.exported)
    try:
        response = respond(request, asking.library, asking.as_of, asking.public_url)
    except RequestError as refusal:
        why = refusal.code if chart.has_patient else "no Patient resource"
        counts["refused", why] += 1
        counts["stage", NOT_EVALUATED] += 1
        return Rows({"evaluations": [_line({"patient": chart.patient, "status": "refused", "why": why})]})
    return _rows(chart, response, asking, counts)


def count_faults(chart: Chart, counts: Counts) -> None:
    """What is wrong with the chart as it came."""
    counts["resources", "answered"] += len(chart.resources)
    counts["resources", "repeated"] += chart.repeated
    counts["resources", "bad"] += len(chart.bad)
    counts["resources", "conflicting"] += len(chart.conflicting)
    for kind in chart.lost:
        counts["lost", kind] += 1


def _rows(chart: Chart, response: HookResponse, asking: Asking, counts: Counts) -> Rows:
    record = response.record
    report = response.body["extension"][EVALUATION]
    status = "deceased" if record.facts.deceased else "evaluated"
    counts["status", status] += 1
    if status == "deceased":
        counts["refused", "deceased"] += 1
        counts["stage", NOT_EVALUATED] += 1
        return Rows({"evaluations": [_line({"patient": chart.patient, "status": status})]})
    stages = stages_of(response.evaluated, asking.library)
    band = age_band(record)
    stage = count_infant(counts, band, response.pertinent, stages)
    for key in ("unreadable", "ignored"):
        for item in report.get(key, ()):
            counts[key, item["reason"]] += 1
    for item in report.get("uncoded", ()):
        counts["uncoded", item["looksLike"]] += 1
    cards = response.body["cards"]
    row: Json = {
        "patient": chart.patient, "status": status, "asOf": iso(record.as_of), "age": band, "stage": stage,
        "findings": _findings(response), "rules": [_rule(e, stages.of_rules[e.rule.id]) for e in response.pertinent],
        "otherAge": [name for name, left_at in stages.of_rules.items() if left_at == OTHER_AGE],
        "cards": [{"family": card["source"]["topic"]["code"], "urgency": card["indicator"]} for card in cards],
    }  # fmt: skip
    row |= {key: report[key] for key in ("unreadable", "uncoded", "ignored") if key in report}
    if chart.conflicting:
        row["conflicting"] = list(chart.conflicting)
    lines = {"evaluations": [_line(row)]}
    counts["highest card", cards[0]["indicator"] if cards else "none"] += 1
    for card in cards:
        counts["card", card["source"]["topic"]["code"], card["indicator"]] += 1
        lines.setdefault("cards", []).append(_line({"patient": chart.patient, "card": card}))
    if cards:
        lines[f"worklist-{cards[0]['indicator']}"] = [_worklist(chart.patient, row["age"], response)]
    return Rows(lines)


def _rule(evaluation: Evaluation, stage: str) -> Json:
    """What a rule says, where the infant leaves its way, and of an exclusion by what."""
    excluded = {"decidedBy": list(evaluation.decided_by)} if stage == EXCLUDED else {}
    return rule_as_json(evaluation) | {"stage": stage} | excluded


def _findings(response: HookResponse) -> dict[str, dict[str, Any]]:
    """Each finding that the chart says anything of: where it is present now, and how often it is unsure or denied."""
    found = {}
    for name in sorted(response.record.written):
        state = response.record.finding(name)
        found[name] = {
            "present": sorted({fact.evidence.reference for fact in state.present}),
            "unknown": len(state.unknown), "denied": len(state.denied),
        }  # fmt: skip
    return found


def _worklist(patient: str, age: str, response: HookResponse) -> bytes:
    """One row for people: who, how soon, what is suggested, by which rules and on what evidence."""
    spoken = [e for e in response.pertinent if e.outcome is Outcome.RECOMMENDED]
    basis = [card["extension"][BASIS] for card in response.body["cards"]]
    workups = [item for part in basis for item in part["workups"]]
    shown = {item["id"] for part in basis for item in part["rules"]}
    asking = [e for e in spoken if e.rule.id in shown]
    evidence = dict.fromkeys(
        f"{item.reference} {item.concept}" + "".join(f" {part}" for part in (item.value, item.unit, item.when) if part)
        for e in asking for item in e.evidence
    )  # fmt: skip
    columns = (
        patient, response.body["cards"][0]["indicator"], age,
        "; ".join(f"{item['id']} ({item['urgency']})" for item in workups),
        "; ".join(e.rule.id for e in asking), "; ".join(e.rule.title for e in asking), "; ".join(evidence),
        "; ".join(dict.fromkeys(item for e in asking for item in e.not_known)),
    )  # fmt: skip
    return csv_line(columns)


def csv_line(columns: Sequence[str]) -> bytes:
    """One line of CSV; a value that a spreadsheet would take for a formula is written as text."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        ["'" + value if value.startswith(_FORMULA) else value.replace("\n", " ") for value in columns]
    )
    return line.getvalue().encode()


def _line(row: Json) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
