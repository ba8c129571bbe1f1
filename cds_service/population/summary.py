"""The counts of all parts → the summary: what went in, where every infant went, and what was missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cds_service.population.attrition import BAND_NAMES, NOT_EVALUATED, STAGES, UNCHANGED, Counts
from cds_service.population.disclosure import Disclosure
from cds_service.population.partition import Partitioned, Tally
from cds_service.record.sources import SOURCES
from cds_service.rules.library import RuleLibrary

Json = dict[str, Any]
CARDS = ("critical", "warning", "info", "none")  # an infant's most urgent card


def summary_of(
    run: Mapping[str, Any], input_: Partitioned, counts: Counts, library: RuleLibrary, disclosure: Disclosure,
    exported: frozenset[str],
) -> Json:  # fmt: skip
    """The whole summary. Raises AssertionError when anything that goes in does not come out."""
    patients = counts["patients",]
    require("patients by stage", table_of(counts, "stage").total(), patients)
    evaluated = counts["status", "evaluated"]
    require("patients evaluated or not", evaluated + table_of(counts, "refused").total(), patients)
    lines = sum((Counter(tally.fates) for tally in input_.files), Counter[str]())
    require("lines", lines.total(), sum(tally.lines for tally in input_.files))
    resources = dict(table_of(counts, "resources"))
    lost = lines["bad, patient known"] - resources.get("bad", 0)
    require("kept lines", resources.get("answered", 0) + resources.get("repeated", 0) + resources.get("bad", 0) + lost,
            input_.kept)  # fmt: skip
    shown, highest = disclosure.table, table_of(counts, "highest card")
    return {
        "run": dict(run),
        "numbers": disclosure.told,
        "input": {
            "files": [_file(tally) for tally in sorted(input_.files, key=lambda tally: tally.name)],
            "lines": {"in": sum(tally.lines for tally in input_.files), **dict(sorted(lines.items()))},
            "resources": resources,
            "notExported": sorted(set(SOURCES) - exported),
            "lostFor": {"everybody": input_.lost_types, "patients": shown(table_of(counts, "lost"))},
        },
        "patients": {
            "all": disclosure.shown(patients), "evaluated": disclosure.shown(evaluated),
            "notEvaluated": shown(table_of(counts, "refused")),
            **({"notChangedSince": disclosure.shown(counts[UNCHANGED,])} if "since" in run else {}),
        },
        "attrition": shown(_staged(table_of(counts, "stage"))),
        "byAge": {band: shown(_staged(table_of(counts, "age", band))) for band in BAND_NAMES},
        "byDocument": {
            document: shown(_staged(table_of(counts, "document", document)))
            for document in dict.fromkeys(rule.document for rule in library.rules)
        },
        "byWorkup": {
            workup: shown(table) for workup in sorted(library.workups) if (table := table_of(counts, "workup", workup))
        },
        "byRule": {rule.id: _rule(rule.id, rule.title, rule.document, counts, disclosure) for rule in library.rules},
        "notEvaluableBy": shown(_by_number(table_of(counts, "cause"))),
        "cards": {
            "highest": shown({key: highest[key] for key in CARDS if key in highest}),
            "byFamily": {
                family.id: shown(table)
                for family in library.families if (table := table_of(counts, "card", family.id))
            },
        },
        "resourcesInDoubt": {
            key: shown(_by_number(table_of(counts, key))) for key in ("unreadable", "uncoded", "ignored")
        },
    }  # fmt: skip


def require(what: str, found: int, wanted: int) -> None:
    """Refuse to report numbers that do not add up."""
    if found != wanted:
        raise AssertionError(f"{what}: {wanted} went in, {found} came out")


def rule_stages(counts: Counts, rule_id: str) -> dict[str, int]:
    """All patients by the stage at which they leave a rule's way, in the order of the way."""
    stages = _staged(table_of(counts, "rule", rule_id))
    stages[NOT_EVALUATED] = counts["patients",] - sum(stages.values())
    return stages


def _rule(rule_id: str, title: str, document: str, counts: Counts, disclosure: Disclosure) -> Json:
    stages = rule_stages(counts, rule_id)
    require(f"rule {rule_id}", sum(stages.values()), counts["patients",])
    return {
        "title": title, "document": document, "attrition": disclosure.table(stages),
        "excludedBy": disclosure.table(_by_number(table_of(counts, "excluded by", rule_id))),
        "missing": disclosure.table(_by_number(table_of(counts, "missing", rule_id))),
    }  # fmt: skip


def table_of(counts: Counts, *heading: str) -> Counter[str]:
    """The counts under a heading by what follows it."""
    length = len(heading)
    found = (item for item in counts.items() if len(item[0]) == length + 1 and item[0][:length] == heading)
    return Counter({key[length]: number for key, number in sorted(found)})


def _staged(table: Mapping[str, int]) -> dict[str, int]:
    return {stage: table.get(stage, 0) for stage in STAGES}


def _by_number(table: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


def _file(tally: Tally) -> Json:
    return {
        "name": tally.name, "sha256": tally.sha256, "bytes": tally.bytes, "ending": tally.ending, "lines": tally.lines,
        "fates": tally.fates, "types": tally.types, "bad": tally.bad,
        "badLines": [{"line": line, "why": why} for line, why in tally.shown],
    }  # fmt: skip


def add_found_later(files: Sequence[Tally], bad: Sequence[tuple[str, str]], most_shown: int) -> None:
    """Lines that only the strict reading of a whole resource found bad go where the other bad lines are."""
    for where, why in sorted(bad, key=lambda item: tuple(map(int, item[0].split(":")))):
        file, line = map(int, where.split(":"))
        tally = files[file]
        tally.fates["kept"] -= 1
        tally.fates["bad, patient known"] = tally.fates.get("bad, patient known", 0) + 1
        tally.bad[why] = tally.bad.get(why, 0) + 1
        if len(tally.shown) < most_shown:
            tally.shown.append((line, why))
