"""The files of an input → pieces that processes can read one beside the other; each line keeps its file and number."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cds_service.population.ndjson import CHUNK, SourceFile

LARGEST = 8 << 20  # bytes of a plain file that are read by one process at once
SHARES = 8  # so many pieces for each process, that none waits long for the last


class Piece(NamedTuple):
    """Whole lines of one file, all of it unless said. ``place``: the number of the file in the whole input."""

    place: int
    path: Path
    name: str
    longest: int
    is_cut: bool = False
    start: int = 0
    size: int = sys.maxsize
    lines_before: int = 0

    def file(self) -> SourceFile:
        """What reads it."""
        return _PartOfFile(self) if self.is_cut else SourceFile(self.path, self.name, self.longest)


class _PartOfFile(SourceFile):
    """Some whole lines of a plain file. It has no digest: that is of the whole file."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(piece.path, piece.name, piece.longest)
        self.lines_before = piece.lines_before
        self._start = piece.start
        self._left = piece.size

    def open(self) -> BinaryIO:
        file = super().open()
        file.seek(self._start)
        return file

    def _content(self, file: BinaryIO) -> Iterator[bytes]:
        return self._plain(file)

    def read(self, file: BinaryIO, size: int = CHUNK) -> bytes:
        chunk = file.read(min(size, self._left))
        self._left -= len(chunk)
        self.bytes_read += len(chunk)
        return chunk


def tasks_of(files: Sequence[SourceFile], processes: int) -> Iterator[list[Piece]]:
    """Every line of every file in one piece, and the pieces in tasks of about the same size.

    A packed file is read by one process alone, so these come first; small files go together. The digest of a file that
    is cut is whole when the tasks have ended.
    """
    sizes = [file.stamp[0] for file in files]
    wanted = min(LARGEST, sum(sizes) // (processes * SHARES) + 1) if processes > 1 else LARGEST
    cut = [size > max(wanted, CHUNK) and not _is_packed(file) for file, size in zip(files, sizes, strict=True)]
    together: list[Piece] = []
    held = 0
    for place in sorted((place for place in range(len(files)) if not cut[place]), key=lambda place: -sizes[place]):
        together.append(_whole(place, files[place]))
        held += sizes[place]
        if held >= wanted:
            yield together
            together, held = [], 0
    if together:
        yield together
    for place, file in enumerate(files):
        if cut[place]:
            for piece in _cut(_whole(place, file), file, wanted):
                yield [piece]


def _whole(place: int, file: SourceFile) -> Piece:
    return Piece(place, file.path, file.name, file.longest)


def _is_packed(file: SourceFile) -> bool:
    try:
        return file.is_packed
    except OSError:
        return True  # who reads it as a whole says what is wrong with it


def _cut(whole: Piece, file: SourceFile, wanted: int) -> Iterator[Piece]:
    """The pieces of a file, each ending with a line. One that cannot be read further is left to who reads the last."""
    start = lines_before = lines = 0
    last = sys.maxsize
    try:
        with file.open() as content:
            while chunk := file.read(content):
                end = chunk.rfind(b"\n") + 1
                lines += chunk.count(b"\n")
                size = file.bytes_read - len(chunk) + end - start
                if end and size >= wanted:
                    yield whole._replace(is_cut=True, start=start, size=size, lines_before=lines_before)
                    start, lines_before = start + size, lines
        last = file.bytes_read - start
    except OSError:
        pass
    if last:
        yield whole._replace(is_cut=True, start=start, size=last, lines_before=lines_before)
