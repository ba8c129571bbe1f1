"""An input read in pieces by several processes: every line once, with its own number, whatever it is cut into."""

from __future__ import annotations

import errno
import gzip
import io
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cds_service.commands.engines import engine_of
from cds_service.errors import InputError
from cds_service.population import local, pieces
from cds_service.population.answers import answer_patient
from cds_service.population.audit import Audited, Options, answer_all
from cds_service.population.local import Local
from cds_service.population.ndjson import CHUNK, SourceFile, source_files
from cds_service.population.partition import LINES, Partitioned, Partitioner
from cds_service.population.pieces import tasks_of
from cds_service.population.pool import read_groups
from cds_service.rules.library import load_library

PARTS = 3
AS_OF = 1_795_000_000_000_000


class Told:
    """Progress that remembers how many bytes it was told of."""

    def __init__(self) -> None:
        self.bytes = 0

    def phase(self, name: str, unit: str, total: int) -> None: ...

    def advance(self, number: int, note: str = "") -> None:
        self.bytes += number


def line(number: int) -> bytes:
    if number % 1000 == 7:
        return b"no json"
    if number % 1000 == 8:
        return b""
    about = b'"subject":{"reference":"Patient/p%d"}' % (number % 50)
    if number == 20_000:
        return b'{"resourceType":"Procedure","x":"' + b"y" * (2 * CHUNK) + b'",' + about + b"}"
    return b'{"resourceType":"Observation","id":"o%d",%b,"note":"%b"}' % (number, about, b"z" * 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain file of bad, blank and endless lines whose last has no end; small and packed files."""
    place = tmp_path / "in"
    place.mkdir()
    (place / "large").write_bytes(b"\n".join(line(number) for number in range(1, 40_000)))
    (place / "medicines").write_bytes(b'{"resourceType":"Medication","id":"m"}\n')
    (place / "packed").write_bytes(
        gzip.compress(b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(40_000)))
    )
    (place / "short.gz").write_bytes(gzip.compress(b'{"resourceType":"Condition"}\n')[:-9])
    return place


def by_line(found: Any) -> dict[bytes, list[tuple[bytes, bytes]]]:
    return {patient: sorted(lines) for patient, lines in found.items()}


def whole(folder: Path, place: Path) -> tuple[Partitioned, list[Any]]:
    """What one process finds in whole files."""
    place.mkdir()
    found = Partitioner(place, PARTS).take_all(source_files(folder, CHUNK))
    return found, [by_line(read_groups(place / f"part-{part:04}")) for part in range(PARTS)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_read_in_pieces_is_what_is_read_whole(folder: Path, tmp_path: Path, workers: int) -> None:
    expected, groups = whole(folder, tmp_path / "whole")
    work, told = tmp_path / "work", Told()
    work.mkdir()
    with engine_of("local", workers, folder) as engine:
        found = engine.partition(engine.files(folder, CHUNK), work, PARTS, told)
    assert found == expected
    assert (
        found.files[0].bad == {"it is not JSON": 40, "the line is too long": 1} and found.files[0].fates["blank"] == 40
    )
    read = list((work / LINES).iterdir())
    assert [by_line(read_groups(*(one / f"part-{part:04}" for one in read))) for part in range(PARTS)] == groups
    assert (work / "medications").read_bytes() == (tmp_path / "whole" / "medications").read_bytes()
    assert told.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_a_large_plain_file_is_cut_after_lines_and_no_other_is(folder: Path) -> None:
    tasks = list(tasks_of(source_files(folder), 2))
    assert all(len({piece.place for piece in task}) == len(task) for task in tasks)
    cut = [piece for task in tasks for piece in task if piece.is_cut]
    assert len(cut) >= 4 and {piece.name for piece in cut} == {"large"}
    content = (folder / "large").read_bytes()
    assert [piece.start for piece in cut] == [0, *(piece.start + piece.size for piece in cut[:-1])]
    assert cut[-1].start + cut[-1].size == len(content)
    for piece in cut[1:]:
        assert content[piece.start - 1 : piece.start] == b"\n"
        assert content[: piece.start].count(b"\n") == piece.lines_before


class Damaged(io.FileIO):
    """A file on a disk that cannot read beyond five megabytes."""

    def read(self, size: int | None = -1) -> bytes:
        left = 5 * CHUNK - self.tell()
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(left if size is None or size < 0 else min(size, left))


def test_a_file_that_cannot_be_read_further_ends_in_pieces_as_it_ends_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SourceFile, "open", lambda file: Damaged(file.path))
    monkeypatch.setattr(pieces, "LARGEST", CHUNK)
    expected, _ = whole(folder, tmp_path / "whole")
    (tmp_path / "work").mkdir()
    engine = Local(1)
    found = engine.partition(engine.files(folder, CHUNK), tmp_path / "work", PARTS, Told())
    assert len([piece for task in tasks_of(source_files(folder), 1) for piece in task if piece.is_cut]) > 2
    assert found == expected
    assert found.files[0].ending == "it cannot be read: Input/output error"
    assert "Observation" in found.lost_types


def test_a_killed_process_is_said_and_the_same_command_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(as_of=AS_OF, public_url="http://127.0.0.1", workers=2, parts=PARTS)
    work = tmp_path / "out" / ".work"

    def run(hashes: tuple[str, ...]) -> Audited:
        with engine_of("local", 2, folder) as engine:
            return answer_all(folder, tmp_path / "out", answer_patient, (None,), hashes, options, Told(), engine)

    right = (load_library().hash,)
    with monkeypatch.context() as killing:
        killing.setattr(local, "partial", lambda *_: partial(signal.raise_signal, signal.SIGKILL))
        with pytest.raises(InputError, match="a worker was killed"):
            run(right)
    assert not (work / LINES).exists() and not (work / "partitioned.json").exists()
    done = run(right)
    assert done.counts["patients",] == 50 and done.input.kept > 39_000
    assert [path.name for path in work.iterdir() if path.name.startswith(LINES)] == [LINES]


def test_rules_that_are_not_those_asked_for_answer_nobody(folder: Path, tmp_path: Path) -> None:
    options = Options(as_of=AS_OF, public_url="http://127.0.0.1", parts=PARTS)
    with pytest.raises(InputError, match="the rules were changed"):
        answer_all(folder, tmp_path / "out", answer_patient, (None,), ("other",), options, Told(), Local(1))
    assert not list((tmp_path / "out" / ".work").glob("done-*"))
