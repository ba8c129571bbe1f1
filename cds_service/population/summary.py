"""The counts of all parts → the summary: what went in, where every infant went, and what was missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cds_service.population.attrition import BAND_NAMES, NOT_EVALUATED, STAGES, UNCHANGED, Counts
from cds_service.population.disclosure import Disclosure
from cds_service.population.partition import Partitioned, Tally
from cds_service.record.sources import SOURCES
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Rule

Json = dict[str, Any]
Tables = defaultdict[tuple[str, ...], Counter[str]]
CARDS = ("critical", "warning", "info", "none")  # an infant's most urgent card


def summary_of(
    run: Mapping[str, Any], input_: Partitioned, counts: Counts, library: RuleLibrary, disclosure: Disclosure,
    exported: frozenset[str],
) -> Json:  # fmt: skip
    """The whole summary. Raises AssertionError when anything that goes in does not come out."""
    patients, tables = counts["patients",], tables_of(counts)
    require("patients by stage", tables["stage",].total(), patients)
    evaluated = counts["status", "evaluated"]
    require("patients evaluated or not", evaluated + tables["refused",].total(), patients)
    lines = sum((Counter(tally.fates) for tally in input_.files), Counter[str]())
    require("lines", lines.total(), sum(tally.lines for tally in input_.files))
    resources = dict(tables["resources",])
    lost = lines["bad, patient known"] - resources.get("bad", 0)
    require("kept lines", resources.get("answered", 0) + resources.get("repeated", 0) + resources.get("bad", 0) + lost,
            input_.kept)  # fmt: skip
    shown, highest = disclosure.table, tables["highest card",]
    return {
        "run": dict(run),
        "numbers": disclosure.told,
        "input": {
            "files": [_file(tally) for tally in sorted(input_.files, key=lambda tally: tally.name)],
            "lines": {"in": sum(tally.lines for tally in input_.files), **dict(sorted(lines.items()))},
            "resources": resources,
            "notExported": sorted(set(SOURCES) - exported),
            "lostFor": {"everybody": input_.lost_types, "patients": shown(tables["lost",])},
        },
        "patients": {
            "all": disclosure.shown(patients), "evaluated": disclosure.shown(evaluated),
            "notEvaluated": shown(tables["refused",]),
            **({"notChangedSince": disclosure.shown(counts[UNCHANGED,])} if "since" in run else {}),
        },
        "attrition": shown(_staged(tables["stage",])),
        "byAge": {band: shown(_staged(tables["age", band])) for band in BAND_NAMES},
        "byDocument": {
            document: shown(_staged(tables["document", document]))
            for document in dict.fromkeys(rule.document for rule in library.rules)
        },
        "byWorkup": {
            workup: shown(table) for workup in sorted(library.workups) if (table := tables["workup", workup])
        },
        "byRule": {rule.id: _rule(rule, tables, patients, disclosure) for rule in library.rules},
        "notEvaluableBy": shown(_by_number(tables["cause",])),
        "cards": {
            "highest": shown({key: highest[key] for key in CARDS if key in highest}),
            "byFamily": {
                family.id: shown(table)
                for family in library.families if (table := tables["card", family.id])
            },
        },
        "resourcesInDoubt": {
            key: shown(_by_number(tables[key,])) for key in ("unreadable", "uncoded", "ignored")
        },
    }  # fmt: skip


def require(what: str, found: int, wanted: int) -> None:
    """Refuse to report numbers that do not add up."""
    if found != wanted:
        raise AssertionError(f"{what}: {wanted} went in, {found} came out")


def rule_stages(tables: Tables, patients: int, rule_id: str) -> dict[str, int]:
    """All patients by the stage at which they leave a rule's way, in the order of the way."""
    stages = _staged(tables["rule", rule_id])
    stages[NOT_EVALUATED] = patients - sum(stages.values())
    return stages


def _rule(rule: Rule, tables: Tables, patients: int, disclosure: Disclosure) -> Json:
    stages = rule_stages(tables, patients, rule.id)
    require(f"rule {rule.id}", sum(stages.values()), patients)
    return {
        "title": rule.title, "document": rule.document, "attrition": disclosure.table(stages),
        "excludedBy": disclosure.table(_by_number(tables["excluded by", rule.id])),
        "missing": disclosure.table(_by_number(tables["missing", rule.id])),
    }  # fmt: skip


def tables_of(counts: Counts) -> Tables:
    """All counts by heading, then by what follows it; a heading without counts has an empty table."""
    found: Tables = defaultdict(Counter)
    for key, number in sorted(counts.items()):
        found[key[:-1]][key[-1]] = number
    return found


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
