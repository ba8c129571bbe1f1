"""Lines → one file per group of patients on the disk, so that no more than one group is ever held in memory.

Each kept line is written as ``patient TAB file:line TAB resource``. A resource that is lost to a fault but whose
patient can still be read leaves ``!Type`` in its place: what it could have said is unknown of that patient.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cds_service.errors import InputError
from cds_service.population.ndjson import COMPLETE, Line, SourceFile
from cds_service.record.binding import NEUTRAL_TYPES
from cds_service.record.sources import SOURCES

BUFFERED = 8 << 20
SHOWN_PER_FILE = 20  # bad lines that are named; the others are counted
READ_TYPES = frozenset({"Patient", *SOURCES})
ANY_TYPE = "*"
LINES, MEDICATIONS = "lines", "medications"  # a folder of what each process read, and a file
KEPT, LOST_OF_SOMEBODY = "kept", "bad, patient known"  # the fates of the lines that stand in a part
_OWNER = re.compile(rb"(?:(?:https?://[^\s?#\"]+/)?Patient/|urn:uuid:)([A-Za-z0-9\-.]{1,256})(?:/_history/[^\s\"]+)?")
_SUBJECT = re.compile(rb'"reference"\s*:\s*"((?:https?://[^\s?#"]+/)?Patient/[A-Za-z0-9\-.]{1,256})"')
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}", re.ASCII)


class _Reference(Struct, gc=False):
    reference: str | None = None


class _Header(Struct, gc=False):
    resourceType: str
    id: str | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None


_read_header = msgspec.json.Decoder(_Header).decode


class Tally(Struct, kw_only=True):
    """What became of every line of one file; ``fates`` sums to the number of lines. ``shown``: bad lines, and why."""

    name: str
    sha256: str = ""
    bytes: int = 0
    ending: str = COMPLETE
    lines: int = 0
    fates: dict[str, int] = {}
    types: dict[str, int] = {}
    bad: dict[str, int] = {}
    shown: list[tuple[int, str]] = []


class Partitioned(Struct, kw_only=True):
    """The whole input on the disk: how many parts, what became of its lines, and of which types some are lost."""

    parts: int
    files: list[Tally]
    kept: int
    lost_types: list[str]

    @property
    def types(self) -> frozenset[str]:
        """The resource types of which the input holds any."""
        return frozenset(kind for tally in self.files for kind in tally.types)


def whole_input(parts: int, tallies: Sequence[Tally]) -> Partitioned:
    """What all files held, each told of once. Of a file of several types any may stand in what could not be read."""
    early = [tally.types for tally in tallies if tally.ending != COMPLETE]
    lost = {kind for types in early for kind in (types if len(types) == 1 else {ANY_TYPE: 0})}
    kept = sum(tally.fates.get(fate, 0) for tally in tallies for fate in (KEPT, LOST_OF_SOMEBODY))
    return Partitioned(parts=parts, files=list(tallies), kept=kept, lost_types=sorted(lost))


def joined(tallies: Sequence[Tally], sha256: str) -> Tally:
    """What became of every line of a file that was read in pieces; these are in its order."""
    fates, types, bad = Counter[str](), Counter[str](), Counter[str]()
    for tally in tallies:
        fates.update(tally.fates)
        types.update(tally.types)
        bad.update(tally.bad)
    return Tally(
        name=tallies[0].name, sha256=sha256, bytes=sum(tally.bytes for tally in tallies),
        ending=next((tally.ending for tally in tallies if tally.ending != COMPLETE), COMPLETE),
        lines=sum(tally.lines for tally in tallies), fates=dict(sorted(fates.items())),
        types=dict(sorted(types.items())), bad=dict(sorted(bad.items())),
        shown=[one for tally in tallies for one in tally.shown][:SHOWN_PER_FILE],
    )  # fmt: skip


def part_of(patient: bytes, parts: int) -> int:
    """The number of the part that holds all of a patient."""
    return zlib.crc32(patient) % parts


class Partitioner:
    """Writes lines to the parts in ``folder``; memory is bounded by BUFFERED."""

    def __init__(self, folder: Path, parts: int) -> None:
        self._folder = folder
        self._parts = parts
        self._names = [f"part-{part:04}" for part in range(parts)]
        self._waiting: defaultdict[str, list[bytes]] = defaultdict(list)
        self._size = 0
        self._known: tuple[str, bytes | None] = "", None  # the reference read last: a patient's lines come together

    def take_all(self, files: Sequence[SourceFile], first: int = 0) -> Partitioned:
        """Every line of every file to its part. Raises InputError when the disk does not take it.

        ``first``: the number of the first of these files in the whole input.
        """
        tallies = [self.take(number, file) for number, file in enumerate(files, first)]
        self.flush()
        return whole_input(self._parts, tallies)

    def take(self, place: int, file: SourceFile) -> Tally:
        """Every line of one file to its part; the last of them wait for ``flush``. ``place``: the file's number."""
        fates: defaultdict[str, int] = defaultdict(int)
        types: defaultdict[str, int] = defaultdict(int)
        bad: defaultdict[str, int] = defaultdict(int)
        shown: list[tuple[int, str]] = []
        for line in file.lines():
            fate, problem = self._line(b"%d:%d" % (place, line.number), line, types)
            fates[fate] += 1
            if problem:
                bad[problem] += 1
                if len(shown) < SHOWN_PER_FILE:
                    shown.append((line.number, problem))
        fates["blank"] = file.blank
        lost = file.number_of_lines - sum(fates.values())
        if lost:
            raise AssertionError(f"{file.name}: {lost} lines are accounted for nowhere")
        return Tally(
            name=file.name, sha256=file.sha256, bytes=file.bytes_read, ending=file.ending, lines=file.number_of_lines,
            fates=dict(sorted(fates.items())), types=dict(sorted(types.items())), bad=dict(sorted(bad.items())),
            shown=shown,
        )  # fmt: skip

    def _line(self, where: bytes, line: Line, types: dict[str, int]) -> tuple[str, str]:
        """Write the line where it belongs; its fate, and what is wrong with it."""
        if line.too_long:
            return self._lost(where, line.content, types), "the line is too long"
        try:
            header = _read_header(line.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._unusual(where, line.content, types)
        return self._place(where, header, line.content, types)

    def _unusual(self, where: bytes, content: bytes, types: dict[str, int]) -> tuple[str, str]:
        """A line whose first elements are not as FHIR has them."""
        try:
            value = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._lost(where, content, types), "it is not JSON"
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            return "bad", "it is no FHIR resource"
        return self._place(where, _lenient_header(value), content, types)

    def _place(self, where: bytes, header: _Header, content: bytes, types: dict[str, int]) -> tuple[str, str]:
        kind = header.resourceType
        types[kind] += 1
        if kind == "Medication":
            name = header.id if header.id and _ID.fullmatch(header.id) else ""
            self._write(MEDICATIONS, name.encode(), where, content)
            return "medication", ""
        if kind not in READ_TYPES:
            return "about nobody" if kind in NEUTRAL_TYPES else "not read by any rule", ""
        if kind == "Patient":
            if not header.id or not _ID.fullmatch(header.id):
                return "bad", "a Patient without a usable id"
            owner = header.id.encode()
        else:
            about = header.subject or header.patient
            reference = (about.reference or "") if about is not None else ""
            if reference != self._known[0]:
                self._known = reference, _owner_of(reference.encode())
            known = self._known[1]
            if known is None:
                return "about no patient", ""
            owner = known
        self._write(self._names[part_of(owner, self._parts)], owner, where, content)
        return KEPT, ""

    def _lost(self, where: bytes, content: bytes, types: dict[str, int]) -> str:
        """A line that cannot be read: when it still shows whose it was, its type is in doubt for that patient."""
        kinds, subjects = _TYPE.search(content), set(_SUBJECT.findall(content))
        kind = kinds[1].decode() if kinds else ANY_TYPE
        if len(subjects) == 1 and (kind in SOURCES or kind == ANY_TYPE):
            owner = _owner_of(subjects.pop())
            if owner is not None:
                if kind != ANY_TYPE:
                    types[kind] += 0  # the type was exported, whatever became of this line
                self._write(self._names[part_of(owner, self._parts)], owner, where, b"!" + kind.encode())
                return LOST_OF_SOMEBODY
        return "bad"

    def _write(self, name: str, owner: bytes, where: bytes, content: bytes) -> None:
        record = b"%b\t%b\t%b\n" % (owner, where, content)
        self._waiting[name].append(record)
        self._size += len(record)
        if self._size > BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises InputError when the disk does not take it."""
        try:
            for name, waiting in self._waiting.items():
                with (self._folder / name).open("ab") as file:
                    file.writelines(waiting)
        except OSError as problem:
            raise disk_refused(self._folder, problem) from None
        self._waiting.clear()
        self._size = 0


def _owner_of(reference: bytes) -> bytes | None:
    """The id of the Patient that a reference names."""
    found = _OWNER.fullmatch(reference)
    return None if found is None else found[1]


def disk_refused(folder: Path, problem: OSError) -> InputError:
    """What to tell when a disk takes no more: the run can be taken up again."""
    return InputError(
        f"{folder}: {problem.strerror}. Nothing more was written; make room (about twice the unpacked input) "
        "and give the same command again: it goes on from the last finished part"
    )


def _lenient_header(value: dict[str, Any]) -> _Header:
    identity = value.get("id")
    about = value.get("subject", value.get("patient"))
    reference = about.get("reference") if isinstance(about, dict) else None
    return _Header(
        resourceType=value["resourceType"],
        id=identity if isinstance(identity, str) else None,
        subject=_Reference(reference if isinstance(reference, str) else None),
    )
