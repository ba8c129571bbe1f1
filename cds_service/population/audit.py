"""A folder of bulk NDJSON → what the hook would say to every infant in it: partition, answer, merge, report."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
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
from cds_service.population.ndjson import LONGEST_LINE, SourceFile, source_files
from cds_service.population.partition import (
    SHOWN_PER_FILE,
    Partitioned,
    Partitioner,
    disk_refused,
)
from cds_service.population.pool import Done, Job, result_file, run_parts
from cds_service.population.summary import add_found_later, require
from cds_service.record.sources import SOURCES

WORK = ".work"
FEWEST_PARTS, MOST_PARTS = 32, 4096  # so that every worker has something to do, and each file its name
PART_WORTHWHILE = 1 << 20
UNPACKED = 12  # a packed file is taken to hold so many times its size
LINE_COST = 3  # memory that a part takes in a worker, for each of its bytes


class Options(Struct, frozen=True, kw_only=True):
    """What decides the answers (``as_of``, ``public_url``, ``exported``) and what decides only how they are had."""

    as_of: int
    public_url: str
    exported: tuple[str, ...] = ()
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


class Audited(NamedTuple):
    """All parts answered and merged: the counts, what went in, and which types count as exported."""

    input: Partitioned
    counts: Counts
    exported: Exported
    input_digest: str
    outputs: frozenset[str]


def answer_all(
    folder: Path, out: Path, ask: Callable[..., Rows], cards: tuple[Path | None, ...], hashes: tuple[str, ...],
    options: Options, progress: Progress,
) -> Audited:  # fmt: skip
    """Ask this of every patient in the folder and write the merged outputs to ``out``.

    An unfinished run of the same files, rules and options in ``out`` is taken up where it stopped. Raises InputError
    when a folder is unfit or the disk is full, AssertionError when what comes out is not what went in.
    """
    files = source_files(folder, options.longest_line)
    work = _workplace(folder, out, files, hashes, options, ask.__name__)
    input_ = _partitioned(files, work, options, progress)
    exported = Exported(_exported(input_, options), frozenset(input_.lost_types))
    job = Job(work, ask, cards, options.as_of, options.public_url, exported)
    left = [part for part in range(input_.parts) if not result_file(work, part).exists()]
    progress.phase("answer", "parts", input_.parts)
    progress.advance(input_.parts - len(left))

    def finished(done: Done) -> None:
        progress.advance(1, f"{done.patients} patients")

    run_parts(job, left, min(options.workers, max(len(left), 1)), finished)
    return _merged(work, out, input_, exported)


def _workplace(
    folder: Path, out: Path, files: list[SourceFile], hashes: tuple[str, ...], options: Options, asked: str
) -> Path:
    """The place for unfinished work, empty unless it belongs to the very same run."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: it lies in the folder to be audited; choose another")
    work = out / WORK
    stats = [(file.name, file.path.stat()) for file in files]
    plan = {
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        "rules": hashes, "asked": asked, "as_of": options.as_of, "public_url": options.public_url,
        "exported": options.exported, "longest": options.longest_line, "parts": options.parts, "memory": options.memory,
    }  # fmt: skip
    text = orjson.dumps(plan)
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (work / "plan.json").exists():
        raise InputError(f"{out}: it is not an empty folder; choose another")
    try:
        if not (work / "plan.json").exists() or (work / "plan.json").read_bytes() != text:
            shutil.rmtree(work, ignore_errors=True)
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            work.mkdir()
            (work / "plan.json").write_bytes(text)
    except OSError as problem:
        raise disk_refused(out, problem) from None
    return work


def _partitioned(files: list[SourceFile], work: Path, options: Options, progress: Progress) -> Partitioned:
    ready = work / "partitioned.json"
    if ready.exists():
        return msgspec.json.decode(ready.read_bytes(), type=Partitioned)
    for left in work.iterdir():
        if left.name != "plan.json":
            left.unlink()
    sizes = {file.name: file.path.stat().st_size for file in files}
    progress.phase("partition", "bytes", sum(sizes.values()))
    read: dict[int, int] = {}

    def tick(file: SourceFile) -> None:
        before = read.get(id(file), 0)
        read[id(file)] = file.bytes_read
        progress.advance(file.bytes_read - before)

    parts = options.parts or _number_of_parts(files, options.memory)
    found = Partitioner(work, parts, tick).take_all(files)
    try:
        waiting = work / "partitioned.json.new"
        waiting.write_bytes(msgspec.json.encode(found))
        waiting.replace(ready)
    except OSError as problem:
        raise disk_refused(work, problem) from None
    return found


def _number_of_parts(files: list[SourceFile], memory: int) -> int:
    """So many that a part of average size takes no more than ``memory`` megabytes in a worker."""
    size = 0
    for file in files:
        size += file.path.stat().st_size * (UNPACKED if file.is_packed else 1)
    return max(min(FEWEST_PARTS, size // PART_WORTHWHILE + 1), min(MOST_PARTS, size * LINE_COST // (memory << 20)))


def _exported(input_: Partitioned, options: Options) -> frozenset[str]:
    """The types that were exported: those of which there is any, and those of which the user says so."""
    named = frozenset(SOURCES) if "all" in options.exported else frozenset(options.exported)
    return (input_.types | named) & frozenset(SOURCES)


def _merged(work: Path, out: Path, input_: Partitioned, exported: Exported) -> Audited:
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
    patients = {name: merge(parts, out / f"{name}.ndjson") for name, parts in sorted(outputs.items())}
    if "evaluations" in patients:
        require("groups, against distinct patients", patients["evaluations"], counts["patients",])
    add_found_later(input_.files, bad, SHOWN_PER_FILE)
    digest = hashlib.sha256("".join(sorted(file.sha256 for file in input_.files)).encode()).hexdigest()
    return Audited(input_, counts, exported, digest, frozenset(outputs))


def close(out: Path) -> None:
    """Remove the unfinished work: the run is finished."""
    shutil.rmtree(out / WORK)


def run_of(
    audited: Audited, hashes: tuple[str, ...], version: str, options: Options, extra: dict[str, Any]
) -> dict[str, Any]:
    """Who this run is: the digest of its input, rules and options is its id; no clock and no machine is in it."""
    said = {
        "inputDigest": audited.input_digest, "ruleSets": list(hashes), "rulesVersion": version,
        "asOf": options.as_of, "publicUrl": options.public_url, "exported": sorted(audited.exported.types), **extra,
    }  # fmt: skip
    return {"id": hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16], **said}
