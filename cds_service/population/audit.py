"""A folder of bulk NDJSON → what the hook would say to every infant in it: partition, answer, merge, report."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import orjson
from msgspec import Struct

from cds_service.errors import InputError
from cds_service.population.answers import Rows
from cds_service.population.attrition import Counts
from cds_service.population.infant_request import Exported
from cds_service.population.merge import merge
from cds_service.population.ndjson import LONGEST_LINE, SourceFile
from cds_service.population.partition import (
    SHOWN_PER_FILE,
    Partitioned,
    disk_refused,
)
from cds_service.population.pool import Done, Job, replace_file, result_file
from cds_service.population.summary import add_found_later, require
from cds_service.record.sources import SOURCES
from cds_service.record.times import iso

WORK, PLAN, RESULTS, PUBLISHED = ".work", "plan.json", "results", "published.json"
FEWEST_PARTS, MOST_PARTS = 32, 4096  # so that every worker has something to do, and each file its name
PART_WORTHWHILE = 1 << 20
UNPACKED = 12  # a packed file is taken to hold so many times its size
LINE_COST = 3  # memory that a part takes in a worker, for each of its bytes


class Options(Struct, frozen=True, kw_only=True):
    """What decides the answers (to ``since``), and what decides only how they are had."""

    as_of: int
    public_url: str
    exported: tuple[str, ...] = ()
    since: int | None = None  # only patients with anything new since this moment
    workers: int = 1
    memory: int = 96  # megabytes that the part in a worker may take
    parts: int | None = None
    longest_line: int = LONGEST_LINE


class Progress(Protocol):
    """Who is told how far it is."""

    def phase(self, name: str, unit: str, total: int) -> None:
        """Something begins that goes to ``total``."""

    def advance(self, number: int, note: str = "") -> None:
        """It went on by so many."""


class Engine(Protocol):
    """What does the work: this machine's processes, or a cluster. Both leave the same files in ``work``."""

    def files(self, folder: Path | str, longest: int) -> list[SourceFile]:
        """Every file of the input, by name."""

    def partition(self, files: list[SourceFile], work: Path, parts: int, progress: Progress) -> Partitioned:
        """Read every line and tell what became of it."""

    def answer(self, job: Job, parts: int, left: list[int], finished: Callable[[Done], object]) -> None:
        """Answer those of the parts that are left."""

    def stop(self) -> None:
        """End what was started for it."""


class Audited(NamedTuple):
    """All parts answered and merged: the counts, what went in, and which types count as exported.

    ``results``: the folder within the unfinished work that holds the merged outputs, and takes the others.
    """

    results: Path
    input: Partitioned
    counts: Counts
    exported: Exported
    input_digest: str
    outputs: frozenset[str]


def answer_all(
    folder: Path | str, out: Path, ask: Callable[..., Rows], cards: tuple[Path | None, ...], hashes: tuple[str, ...],
    options: Options, progress: Progress, engine: Engine,
) -> Audited:  # fmt: skip
    """Ask this of every patient in the folder and merge the answers within the unfinished work of ``out``.

    An unfinished run of the same files, rules and options in ``out`` is taken up where it stopped. Raises InputError
    when a folder is unfit, holds another run's work or the disk is full, AssertionError when what comes out is not
    what went in. ``publish`` ends the run.
    """
    files = engine.files(folder, options.longest_line)
    work = _workplace(folder, out, files, hashes, options, ask.__name__)
    input_ = _partitioned(engine, files, work, options, progress)
    exported = Exported(_exported(input_, options), frozenset(input_.lost_types))
    job = Job(work, ask, cards, hashes, options.as_of, options.public_url, exported, options.since)
    left = [part for part in range(input_.parts) if not result_file(work, part).exists()]
    progress.phase("answer", "parts", input_.parts)
    progress.advance(input_.parts - len(left))

    def finished(done: Done) -> None:
        progress.advance(1, f"{done.patients} patients")

    engine.answer(job, input_.parts, left, finished)
    return _merged(work, input_, exported)


def _workplace(
    folder: Path | str, out: Path, files: list[SourceFile], hashes: tuple[str, ...], options: Options, asked: str
) -> Path:
    """The place for unfinished work: new, or what the very same run left. Nobody else's work is touched."""
    if isinstance(folder, Path) and out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: it lies in the folder to be audited; choose another")
    work = out / WORK
    who = {
        "folder": str(folder.resolve() if isinstance(folder, Path) else folder),
        "files": [[file.name, *file.stamp] for file in files],
        "rules": list(hashes), "asked": asked, "as_of": options.as_of, "public_url": options.public_url,
        "exported": list(options.exported), "longest": options.longest_line, "since": options.since,
    }  # fmt: skip
    how = {"version": version("cds-service"), "parts": options.parts, "memory": options.memory}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (work / PLAN).exists():
            raise InputError(f"{out}: it is not an empty folder; choose another")
        plan = orjson.loads((work / PLAN).read_bytes())
        if plan.get("who") != who:
            raise InputError(
                f"{out}: it holds the unfinished work of another run (other files, rules, day or options); give that "
                "run's command again to finish it, or choose another folder"
            )
        _withdraw(out)
        if plan.get("how") == how:
            return work
        shutil.rmtree(work)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        out.chmod(0o700)
        work.mkdir()
        replace_file(work / PLAN, orjson.dumps({"who": who, "how": how}))
    except OSError as problem:
        raise disk_refused(out, problem) from None
    return work


def _partitioned(
    engine: Engine, files: list[SourceFile], work: Path, options: Options, progress: Progress
) -> Partitioned:
    ready = work / "partitioned.json"
    if ready.exists():
        return msgspec.json.decode(ready.read_bytes(), type=Partitioned)
    for left in work.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != PLAN:
            left.unlink()
    progress.phase("partition", "bytes", sum(file.stamp[0] for file in files))
    found = engine.partition(files, work, options.parts or _number_of_parts(files, options.memory), progress)
    try:
        replace_file(ready, msgspec.json.encode(found))
    except OSError as problem:
        raise disk_refused(work, problem) from None
    return found


def _number_of_parts(files: list[SourceFile], memory: int) -> int:
    """So many that a part of average size takes no more than ``memory`` megabytes in a worker."""
    size = 0
    for file in files:
        size += file.stamp[0] * (UNPACKED if file.is_packed else 1)
    return max(min(FEWEST_PARTS, size // PART_WORTHWHILE + 1), min(MOST_PARTS, size * LINE_COST // (memory << 20)))


def _exported(input_: Partitioned, options: Options) -> frozenset[str]:
    """The types that were exported: those of which there is any, and those of which the user says so."""
    named = frozenset(SOURCES) if "all" in options.exported else frozenset(options.exported)
    return (input_.types | named) & frozenset(SOURCES)


def _merged(work: Path, input_: Partitioned, exported: Exported) -> Audited:
    results = work / RESULTS
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    counts: Counts = Counter()
    outputs: dict[str, list[Path]] = {}
    bad: list[tuple[str, str]] = []
    lines = 0
    for part in range(input_.parts):
        done = orjson.loads(result_file(work, part).read_bytes())
        lines += done["lines"]
        bad += [(where, why) for where, why in done["bad"]]
        for *key, number in done["counts"]:
            counts[tuple(key)] += number
        for name in done["outputs"]:
            outputs.setdefault(name, []).append(work / f"{name}-{part:04}")
    require("lines of patients", lines, input_.kept)
    patients = {name: merge(parts, results / f"{name}.ndjson") for name, parts in sorted(outputs.items())}
    if "evaluations" in patients:
        require("groups, against distinct patients", patients["evaluations"], counts["patients",])
    add_found_later(input_.files, bad, SHOWN_PER_FILE)
    digest = hashlib.sha256("".join(sorted(file.sha256 for file in input_.files)).encode()).hexdigest()
    return Audited(results, input_, counts, exported, digest, frozenset(outputs))


def publish(out: Path) -> None:
    """Move the whole results to where they are looked for, and remove the unfinished work: the run is finished.

    Raises InputError when the disk refuses; what was moved is taken back when the run is taken up again.
    """
    work = out / WORK
    try:
        names = sorted(path.name for path in (work / RESULTS).iterdir())
        replace_file(work / PUBLISHED, orjson.dumps(names))
        for name in names:
            (work / RESULTS / name).rename(out / name)
        shutil.rmtree(work)
    except OSError as problem:
        raise disk_refused(out, problem) from None


def _withdraw(out: Path) -> None:
    """Remove what a publication that was interrupted had moved already: half a result is none."""
    listed = out / WORK / PUBLISHED
    if listed.exists():
        for name in orjson.loads(listed.read_bytes()):
            (out / name).unlink(missing_ok=True)
        listed.unlink()


def run_of(
    audited: Audited, hashes: tuple[str, ...], version: str, options: Options, extra: dict[str, Any]
) -> dict[str, Any]:
    """Who this run is: the digest of its input, rules and options is its id; no clock and no machine is in it."""
    said = {
        "inputDigest": audited.input_digest, "ruleSets": list(hashes), "rulesVersion": version,
        "asOf": options.as_of, "publicUrl": options.public_url, "exported": sorted(audited.exported.types), **extra,
    }  # fmt: skip
    if options.since is not None:
        said["since"] = iso(options.since)
    return {"id": hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16], **said}
