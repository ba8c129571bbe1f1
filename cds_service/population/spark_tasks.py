"""What the workers of a cluster do: read one file into lines by part, and answer one part.

Both work in a folder of their own on the worker's disk, with the very functions of one machine, and hand on what these
leave there. So whatever one machine does with a line, a worker does.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import msgspec

from cds_service.errors import InputError
from cds_service.population.ndjson import SourceFile
from cds_service.population.partition import MEDICATIONS, Partitioned, Partitioner, disk_refused
from cds_service.population.pool import Job, Medications, answer_groups, keep_answers, read_groups
from cds_service.rules.library import RuleLibrary, load_library

CHUNK = 128 << 10  # bytes that travel as one record; of these Spark holds up to 1,000 in a worker, whatever their size
Chunk = tuple[int, bytes]
Piece = tuple[str, bytes]


class Pack(NamedTuple):
    """A set of rules as it travels: a zip of its folder, and the hash that it has to have on arrival."""

    zipped: bytes
    hash: str


class Work(NamedTuple):
    """What goes to every task that answers. ``software``: the version that has to be installed there."""

    job: Job
    packs: tuple[Pack, ...]
    software: str


def zipped(root: Traversable | Path) -> bytes:
    """A cards/ folder, packed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, root, "")
    return content.getvalue()


def _add(archive: zipfile.ZipFile, folder: Traversable | Path, name: str) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _add(archive, item, f"{name}{item.name}/")
        elif item.name.endswith((".yaml", ".json")):
            archive.writestr(f"{name}{item.name}", item.read_bytes())


def read_file(place: int, file: SourceFile, parts: int) -> Iterator[Chunk]:
    """The lines of one file by the number of their part; Medication as part ``parts``, the tally as the one after.

    ``place``: the number of the file in the whole input.
    """
    with tempfile.TemporaryDirectory(prefix="cds-read-") as made:
        folder = Path(made)
        found = Partitioner(folder, parts).take_all([file], place)
        for part in range(parts):
            yield from ((part, chunk) for chunk in _chunks(folder / f"part-{part:04}"))
        yield from ((parts, chunk) for chunk in _chunks(folder / MEDICATIONS))
        yield parts + 1, msgspec.json.encode((place, found))


def tallies(told: Iterable[bytes]) -> Partitioned:
    """What all files held, in the order of the input."""
    found = sorted((msgspec.json.decode(one, type=tuple[int, Partitioned]) for one in told), key=lambda one: one[0])
    return Partitioned(
        parts=found[0][1].parts, files=[tally for _, one in found for tally in one.files],
        kept=sum(one.kept for _, one in found),
        lost_types=sorted({kind for _, one in found for kind in one.lost_types}),
    )  # fmt: skip


def answer_part(part: int, chunks: Iterable[bytes], work: Work, medications: str) -> Iterator[Piece]:
    """The files that one machine would have left of this part, by name and piece by piece; the last is its state.

    ``medications``: the file of all Medication lines on this worker.
    """
    libraries = tuple(map(_library, work.packs, [work.software] * len(work.packs)))
    with tempfile.TemporaryDirectory(prefix="cds-answer-") as made:
        folder = Path(made)
        lines = folder / f"part-{part:04}"
        try:
            with lines.open("wb") as file:
                file.writelines(chunks)
        except OSError as problem:
            raise disk_refused(folder, problem) from None
        groups = read_groups(lines)
        lines.unlink(missing_ok=True)
        answered = answer_groups(work.job, groups, Medications(Path(medications)), libraries)
        keep_answers(folder, part, answered)
        for path in sorted(folder.iterdir(), key=lambda path: (path.name.startswith("done-"), path.name)):
            yield from ((path.name, chunk) for chunk in _chunks(path))


_LIBRARIES: dict[str, RuleLibrary] = {}


def _library(pack: Pack, software: str) -> RuleLibrary:
    """The rules as they were sent, compiled once in each process of a worker."""
    here = version("cds-service")
    if here != software:
        raise InputError(f"a worker has cds-service {here}, this is {software}: install the same on all")
    if pack.hash not in _LIBRARIES:
        folder = tempfile.mkdtemp(prefix="cds-rules-")
        with zipfile.ZipFile(io.BytesIO(pack.zipped)) as archive:
            archive.extractall(folder)
        library = load_library(Path(folder), checked_hash=pack.hash)
        if library.hash != pack.hash:
            raise InputError("the rules on a worker are not the rules that were sent")
        _LIBRARIES[pack.hash] = library
    return _LIBRARIES[pack.hash]


def _chunks(path: Path) -> Iterator[bytes]:
    """The content of a file in pieces that end with a line; nothing when there is no such file."""
    if path.exists():
        with path.open("rb") as file:
            while lines := file.readlines(CHUNK):
                yield b"".join(lines)
