"""What a change of rules does to a fixed cohort: who newly gets what, who no longer, and why.

The cohort is made up, the same for the same pack and number, or a small folder of FHIR bulk NDJSON as it is on the
day on which its newest file was written. Larger exports are for ``cds-service compare``.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import orjson

from cds_service.errors import InputError
from cds_service.population.answers import Asking
from cds_service.population.attrition import Counts
from cds_service.population.compare import compare_patient
from cds_service.population.infant_request import (
    Chart,
    Exported,
    Json,
    read_chart_lines,
    references_to_medications,
)
from cds_service.population.ndjson import source_files
from cds_service.population.partition import MEDICATIONS, Partitioner
from cds_service.population.pool import Medications, read_groups
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants
from cds_service.record.sources import SOURCES
from cds_service.record.times import moment
from cds_service.rules.library import RuleLibrary

SYNTHETIC_INFANTS, SEED, DAY = 300, 6, date(2026, 6, 15)
LARGEST_FOLDER = 64 * 1024 * 1024  # bytes of all files together; charts are held in memory


Asked = tuple[Chart, Mapping[str, Sequence[Json]]]


class Cohort(NamedTuple):
    """The infants asked about. ``name`` is another when they are others."""

    name: str
    made_up: bool
    as_of: int
    charts: Sequence[Asked]
    exported: Exported


class Changed(NamedTuple):
    """An infant to whom something else is said. ``rules``: rule → (newly, no longer or changed urgency; why)."""

    infant: str
    age: str
    cards: str
    before: str
    after: str
    rules: Mapping[str, tuple[str, str]]


class Effect(NamedTuple):
    """``infants`` by what becomes of their highest card; ``by_rule``: rule → change → infants; ``reasons``:
    (rule, change, why) → infants."""

    cohort: str
    number: int
    infants: Mapping[str, int]
    by_rule: Mapping[str, Mapping[str, int]]
    reasons: Mapping[tuple[str, str, str], int]
    changed: Sequence[Changed]


def synthetic_cohort(root: Traversable | Path, library: RuleLibrary) -> Cohort:
    """Made-up infants, of whom every type of resource is known."""
    made = infants(load_content(root, library.reading), SYNTHETIC_INFANTS, SEED, DAY)
    charts: list[Asked] = [(Chart(item.identity.id, item.resources, frozenset(), (), 0, ()), {}) for item in made]
    as_of = moment(datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC))
    return Cohort(f"{len(charts)} made-up infants", True, as_of, charts, Exported(frozenset(SOURCES), frozenset()))


def folder_cohort(folder: Path) -> Cohort:
    """The infants of an export. Raises InputError for a folder without NDJSON, or one that is too large."""
    files = source_files(folder)
    stamps = [file.stamp for file in files]
    if sum(size for size, _ in stamps) > LARGEST_FOLDER:
        raise InputError(f"The cohort is larger than {LARGEST_FOLDER >> 20} MB: use cds-service compare.")
    with tempfile.TemporaryDirectory(prefix="cds-cohort-") as name:
        work = Path(name)
        read = Partitioner(work, 1).take_all(files)
        groups = read_groups(work / "part-0000")
        medications = Medications(work / MEDICATIONS)
        charts: list[Asked] = []
        for patient in sorted(groups):
            chart = read_chart_lines(patient.decode(), groups[patient])
            charts.append((chart, medications.of(references_to_medications(chart.resources))))
    newest = max(written for _, written in stamps)
    digest = hashlib.sha256(b"".join(file.sha256.encode() for file in files)).hexdigest()
    return Cohort(
        f"{len(charts)} infants of a folder, content {digest[:12]}", False, newest // 1000, charts,
        Exported(read.types, frozenset(read.lost_types)),
    )  # fmt: skip


def effect(
    before: RuleLibrary, after: RuleLibrary, cohort: Cohort, public_url: str,
    tick: Callable[[int], object] = lambda done: None,
) -> Effect:  # fmt: skip
    """Both sets asked about every infant, every rule speaking: stops and missing signatures are left out."""
    sides = tuple(library.speaking_as(library.signatures, frozenset()) for library in (before, after))
    asking = Asking(sides, cohort.as_of, public_url, cohort.exported)
    counts: Counts = Counter()
    changed = []
    for place, (chart, medications) in enumerate(cohort.charts, 1):
        rows = compare_patient(chart, medications, asking, counts)
        changed += [_changed(orjson.loads(line)) for line in rows.lines.get("changes", ())]
        tick(place)
    return Effect(
        cohort.name, counts["patients",], _table(counts, "cards"), _by_rule(counts),
        {(key[1], key[2], key[3]): number for key, number in sorted(counts.items()) if key[0] == "reason"}, changed,
    )  # fmt: skip


def _changed(row: Json) -> Changed:
    rules = {name: (item["change"], item["why"]) for name, item in row["rules"].items()}
    return Changed(row["patient"], row["age"], row["cards"], row["before"] or "", row["after"] or "", rules)


def _table(counts: Counts, kind: str) -> dict[str, int]:
    return {key[1]: number for key, number in sorted(counts.items()) if key[0] == kind}


def _by_rule(counts: Counts) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for key, number in sorted(counts.items()):
        if key[0] == "rule":
            found.setdefault(key[1], {})[key[2]] = number
    return found
