"""One infant of an audit asked again from the export, by the audit's own reading of lines and the hook's own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cds_service.errors import InputError, MalformedJson, RequestError
from cds_service.hooks.respond import HookResponse, respond
from cds_service.hooks.strict_json import load
from cds_service.population.finished import Summary
from cds_service.population.infant_request import (
    Exported,
    Json,
    read_chart_lines,
    references_to_medications,
    request_of,
)
from cds_service.population.ndjson import Line, SourceFile, source_files
from cds_service.population.partition import MEDICATIONS, Partitioner
from cds_service.record.times import parse_as_of
from cds_service.rules.library import RuleLibrary

LARGEST_EXPORT = 1 << 30  # bytes that are read for one infant
Record = tuple[bytes, bytes, bytes]  # whose, or of a Medication its id; where; what


class NotAgain(InputError):
    """Why an infant cannot be asked again. The text names no patient."""


class Again(NamedTuple):
    """The new answer; ``changed``: the export is not as it was when the audit read it."""

    response: HookResponse
    changed: bool


def readable_export(folder: str) -> int:
    """The bytes that would be read. Raises NotAgain when the export is not to be read from here."""
    place = Path(folder)
    if "://" in folder or not folder or not place.is_dir():
        raise NotAgain("The folder of the export is not to be seen from here.")
    try:
        size = sum(file.stamp[0] for file in source_files(place))
    except (InputError, OSError):
        raise NotAgain("The folder of the export cannot be read from here.") from None
    if size > LARGEST_EXPORT:
        raise NotAgain(f"The export is larger than {LARGEST_EXPORT >> 20} MB, too much to read for one infant.")
    return size


def ask_again(folder: str, patient: str, summary: Summary, library: RuleLibrary) -> Again:
    """What the rules in ``library`` say of this patient for the run's moment. Raises NotAgain."""
    readable_export(folder)
    name = patient.encode()
    read, hashes = _lines(Path(folder), lambda line: name in line)
    lines = [record for part, records in read.items() if part != MEDICATIONS for record in records]
    chart = read_chart_lines(patient, [(where, content) for owner, where, content in lines if owner == name])
    needed = references_to_medications(chart.resources)
    medications: dict[str, list[Json]] = {}
    if needed:
        wanted = frozenset(item.encode() for item in needed)
        read, _ = _lines(Path(folder), lambda line: b"Medication" in line and any(item in line for item in wanted))
        for item, _, content in sorted(read.get(MEDICATIONS, ())):
            if item in wanted:
                _add(medications, item.decode(), content)
    as_of = parse_as_of(summary.run.as_of)
    if as_of is None:
        raise NotAgain("The run does not say for which moment it asked.")
    exported = Exported(frozenset(summary.run.exported), frozenset(summary.input.lost_for.everybody))
    try:
        response = respond(
            request_of(chart, chart.resources, medications, exported), library, as_of, summary.run.public_url
        )
    except RequestError as refusal:
        raise NotAgain(f"The hook refuses what the export holds of this infant: {refusal.code}.") from None
    return Again(response, sorted(hashes) != sorted(file.sha256 for file in summary.input.files))


def _add(medications: dict[str, list[Json]], name: str, content: bytes) -> None:
    try:
        medications.setdefault(name, []).append(load(content))
    except MalformedJson:
        return


class _Chosen(SourceFile):
    """A file of which only some lines are handed on; all of it is read, so that its digest tells whether it changed."""

    chosen: Callable[[bytes], bool]

    def lines(self) -> Iterator[Line]:
        handed = 0
        for line in super().lines():
            if self.chosen(line.content):
                handed += 1
                yield line
        self.number_of_lines = handed + self.blank


class _InMemory(Partitioner):
    """A partitioner that writes nothing to a disk."""

    def __init__(self) -> None:
        super().__init__(Path(), 1)
        self.written: dict[str, list[Record]] = {}

    def _write(self, name: str, owner: bytes, where: bytes, content: bytes) -> None:
        self.written.setdefault(name, []).append((owner, where, content))


def _lines(folder: Path, chosen: Callable[[bytes], bool]) -> tuple[Mapping[str, list[Record]], list[str]]:
    """The chosen lines as the audit places them, by part, and the digest of every file."""
    files = []
    for file in source_files(folder):
        some = _Chosen(file.path, file.name)
        some.chosen = chosen
        files.append(some)
    reader = _InMemory()
    try:
        tallies = reader.take_all(files).files
    except (InputError, OSError):
        raise NotAgain("The folder of the export cannot be read from here.") from None
    return reader.written, [tally.sha256 for tally in tallies]
