"""Parts on the disk → answers on the disk, by a pool of processes; a part that is finished stays finished."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import orjson

from cds_service.errors import InputError, MalformedJson
from cds_service.hooks.strict_json import load
from cds_service.population.answers import Asking, Rows
from cds_service.population.attrition import Counts
from cds_service.population.changed import changed_since, count_unchanged
from cds_service.population.infant_request import Chart, Exported, Json, read_chart_lines, references_to_medications
from cds_service.population.partition import MEDICATIONS, disk_refused
from cds_service.rules.library import RuleLibrary, load_library

Ask = Callable[[Chart, Mapping[str, Sequence[Json]], Asking, Counts], Rows]


class Job(NamedTuple):
    """What a worker does with every part; small enough to send. ``cards``: the folders of the rules asked."""

    folder: Path
    ask: Callable[..., Rows]
    cards: tuple[Path | None, ...]
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


def run_parts(job: Job, parts: Sequence[int], workers: int, finished: Callable[[Done], object]) -> None:
    """Answer these parts, each once, in whatever order.

    Raises InputError when a worker is killed or the disk takes no more: what is finished stays so.
    """
    if workers == 1:
        _start(job)
        for part in parts:
            finished(_answer_part(part))
        return
    # Spawned, not forked: a worker holds the rules and its part, and nothing of what this process has loaded.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(job,)) as pool:
        waiting: set[Future[Done]] = set()
        try:
            for part in parts:
                waiting.add(pool.submit(_answer_part, part))
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    finished(future.result())
        except BrokenProcessPool:
            raise InputError(
                "a worker was killed, likely for want of memory: take fewer --workers or a smaller --memory, and give "
                "the command again: it goes on from the last finished part"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


_JOB: Job | None = None
_LIBRARIES: tuple[RuleLibrary, ...] = ()


def _start(job: Job) -> None:
    global _JOB, _LIBRARIES
    _JOB, _LIBRARIES = job, tuple(load_library(root) for root in job.cards)


def _answer_part(part: int) -> Done:
    if _JOB is None:
        raise TypeError("a worker that was not started")
    job = _JOB
    try:
        return _answer(job, part)
    except OSError as problem:
        raise disk_refused(job.folder, problem) from None


class Answered(NamedTuple):
    """The rows of a part's outputs, by patient, and what is counted of it."""

    rows: dict[str, list[bytes]]
    state: Json


def _answer(job: Job, part: int) -> Done:
    groups = read_groups(job.folder / f"part-{part:04}")
    answered = answer_groups(job, groups, Medications(job.folder / MEDICATIONS), _LIBRARIES)
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


def read_groups(path: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """The lines of a part by patient, each with where it stood."""
    groups: dict[bytes, list[tuple[bytes, bytes]]] = {}
    if path.exists():
        with path.open("rb") as file:
            for record in file:
                patient, where, content = record.rstrip(b"\n").split(b"\t", 2)
                groups.setdefault(patient, []).append((where, content))
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
