"""A part on the disk → its answers on the disk; a part that is finished stays finished."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson

from cds_service.errors import InputError, MalformedJson
from cds_service.hooks.strict_json import load
from cds_service.population.answers import Asking, Rows
from cds_service.population.attrition import Counts
from cds_service.population.changed_since import changed_since, count_unchanged
from cds_service.population.infant_request import Chart, Exported, Json, read_chart_lines, references_to_medications
from cds_service.population.partition import LINES, MEDICATIONS, disk_refused
from cds_service.rules.library import RuleLibrary, load_library

Ask = Callable[[Chart, Mapping[str, Sequence[Json]], Asking, Counts], Rows]


class Job(NamedTuple):
    """What a worker does with every part; small enough to send with it.

    ``cards``: the folders of the rules asked. ``hashes``: what these rules have to be.
    """

    folder: Path
    ask: Callable[..., Rows]
    cards: tuple[Path | None, ...]
    hashes: tuple[str, ...]
    as_of: int
    public_url: str
    exported: Exported
    since: int | None = None


class Done(NamedTuple):
    """A finished part: its number, patients and lines."""

    part: int
    patients: int
    lines: int


def result_file(folder: Path, part: int) -> Path:
    """Where the counts of a finished part stand; written last, so its presence says that the part is finished."""
    return folder / f"done-{part:04}.json"


def answer_part(job: Job, part: int) -> Done:
    """Answer one part. Raises InputError when the disk takes no more, or the rules are not those that were asked."""
    try:
        return _answer(job, part)
    except OSError as problem:
        raise disk_refused(job.folder, problem) from None


@lru_cache(maxsize=1)
def _libraries(cards: tuple[Path | None, ...], hashes: tuple[str, ...]) -> tuple[RuleLibrary, ...]:
    """The rules, loaded once in each process."""
    found = tuple(load_library(root, checked_hash=hash) for root, hash in zip(cards, hashes, strict=True))
    if tuple(library.hash for library in found) != hashes:
        raise InputError("the rules were changed while they were asked: give the command again")
    return found


class Answered(NamedTuple):
    """The rows of a part's outputs, by patient, and what is counted of it."""

    rows: dict[str, list[bytes]]
    state: Json


def _answer(job: Job, part: int) -> Done:
    groups = read_groups(*(read / f"part-{part:04}" for read in (job.folder / LINES).iterdir()))
    answered = answer_groups(job, groups, Medications(job.folder / MEDICATIONS), _libraries(job.cards, job.hashes))
    return keep_answers(job.folder, part, answered)


def keep_answers(folder: Path, part: int, answered: Answered) -> Done:
    """Write down a finished part."""
    for name, found in answered.rows.items():
        replace_file(folder / f"{name}-{part:04}", b"".join(found))
    replace_file(result_file(folder, part), orjson.dumps(answered.state))
    return Done(part, answered.state["patients"], answered.state["lines"])


def answer_groups(
    job: Job, groups: dict[bytes, list[tuple[bytes, bytes]]], medications: Medications,
    libraries: tuple[RuleLibrary, ...],
) -> Answered:  # fmt: skip
    """Ask about every patient in these groups of lines, by id; the groups are used up."""
    lines = sum(map(len, groups.values()))
    charts = (read_chart_lines(patient.decode(), groups.pop(patient)) for patient in sorted(groups))
    counts: Counts = Counter()
    rows: dict[str, list[bytes]] = {}
    bad: list[tuple[str, str]] = []
    for chart in charts:
        bad += chart.bad
        if job.since is not None and not changed_since(chart, job.since):
            count_unchanged(chart, counts)
            continue
        needed = medications.of(references_to_medications(chart.resources))
        asking = Asking(libraries, job.as_of, job.public_url, job.exported)
        for name, found in job.ask(chart, needed, asking, counts).lines.items():
            key = chart.patient.encode()
            rows.setdefault(name, []).extend(b"%b\t%b" % (key, line) for line in found)
    state: Json = {
        "patients": counts["patients",], "lines": lines, "outputs": sorted(rows),
        "counts": sorted([*key, number] for key, number in counts.items()),
        "bad": bad,
    }  # fmt: skip
    return Answered(rows, state)


def read_groups(*paths: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """The lines of a part by patient, each with where it stood; those of a path that does not exist are none."""
    groups: defaultdict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
    for path in filter(Path.exists, paths):
        with path.open("rb") as file:
            for record in file:
                patient, where, content = record.rstrip(b"\n").split(b"\t", 2)
                groups[patient].append((where, content))
    return groups


class Medications:
    """The Medication resources by id. They are about nobody, so any patient of any part may refer to them."""

    def __init__(self, path: Path) -> None:
        self._places: dict[str, list[int]] | None = None
        self._path = path

    def of(self, names: set[str]) -> dict[str, list[Json]]:
        """Those of these ids that were exported and can be read."""
        if not names:
            return {}
        if self._places is None:
            self._places = self._index()
        found: dict[str, list[Json]] = {}
        with self._path.open("rb") if self._path.exists() else open(os.devnull, "rb") as file:
            for name in sorted(names):
                for place in self._places.get(name, ()):
                    file.seek(place)
                    content = file.readline().rstrip(b"\n").split(b"\t", 2)[2]
                    try:
                        found.setdefault(name, []).append(load(content))
                    except MalformedJson:
                        continue
        return {name: sorted(items, key=orjson.dumps) for name, items in found.items()}

    def _index(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        if self._path.exists():
            with self._path.open("rb") as file:
                place = 0
                for record in file:
                    places.setdefault(record.split(b"\t", 1)[0].decode(), []).append(place)
                    place += len(record)
        return places


def replace_file(path: Path, content: bytes) -> None:
    """Write the whole file or none of it."""
    waiting = path.with_name(path.name + ".new")
    waiting.write_bytes(content)
    waiting.replace(path)
