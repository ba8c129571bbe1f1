"""The lines of a folder of FHIR bulk NDJSON: plain, gzip, zstd or Parquet by their first bytes, not by their names."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from cds_service.errors import InputError
from cds_service.population import parquet_rows

LONGEST_LINE = 16 << 20  # bytes of one resource; a longer line is counted and passed over, never held
HEAD = 4096  # so much of a line that is too long is kept, to tell whose it is
CHUNK = 1 << 20
COMPLETE = "complete"
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Line(Struct, gc=False):
    """A line that is not blank, without its end; of one that is ``too_long`` only the beginning."""

    number: int
    content: bytes
    too_long: bool = False


class SourceFile:
    """One file, read once from its beginning to its end; what is told of it is true when ``lines`` has ended.

    ``ending`` is COMPLETE, or says why nothing more could be read; ``sha256`` is of the bytes on the disk.
    """

    def __init__(self, path: Path, name: str, longest: int = LONGEST_LINE) -> None:
        self.path = path
        self.name = name
        self.number_of_lines = 0
        self.blank = 0
        self.bytes_read = 0
        self.ending = COMPLETE
        self.longest = longest
        self.lines_before = 0  # of the file, when this is a later part of it
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of all bytes read from the disk so far."""
        return self._digest.hexdigest()

    def open(self) -> BinaryIO:
        """The file from its beginning. Raises OSError."""
        return self.path.open("rb")

    @property
    def stamp(self) -> tuple[int, int]:
        """Its size in bytes and when it was last changed (nanoseconds since 1970)."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    @property
    def is_packed(self) -> bool:
        """Whether it begins as gzip, zstd or Parquet do."""
        with self.open() as file:
            start = file.read(4)
        return start[:2] == GZIP or start == ZSTD or start in parquet_rows.STARTS

    def lines(self) -> Iterator[Line]:
        """Every line that is not blank. A file that is cut short or damaged ends with its last whole line."""
        rest, number, skipping = b"", self.lines_before, False
        for chunk in self._chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for content in whole:
                number += 1
                if skipping:
                    skipping = False
                    continue
                content = content.strip()
                if content and len(content) <= self.longest:  # nearly every line: no generator for it
                    yield Line(number, content)
                else:
                    yield from self._line(number, content)
            if len(rest) > self.longest or skipping:
                if not skipping:
                    yield Line(number + 1, rest[:HEAD], too_long=True)
                rest, skipping = b"", True
        if (rest or skipping) and self.ending == COMPLETE:
            number += 1
            if not skipping:
                yield from self._line(number, rest)
        elif skipping:
            number += 1
        self.number_of_lines = number - self.lines_before

    def _line(self, number: int, content: bytes) -> Iterator[Line]:
        content = content.strip()
        if not content:
            self.blank += 1
        elif len(content) > self.longest:
            yield Line(number, content[:HEAD], too_long=True)
        else:
            yield Line(number, content)

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self.open() as file:
                yield from self._content(file)
        except OSError as problem:
            self.ending = f"it cannot be read: {problem.strerror or 'damaged'}"

    def _content(self, file: BinaryIO) -> Iterator[bytes]:
        start = file.read(4)
        file.seek(0)
        if start[:2] == GZIP:
            return self._inflated(file)
        if start in parquet_rows.STARTS:
            return self._parquet(file)
        return self._unzstd(file) if start == ZSTD else self._plain(file)

    def _plain(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := self.read(file):
            yield chunk

    def read(self, file: BinaryIO, size: int = CHUNK) -> bytes:
        """The next bytes from the disk, counted and digested."""
        chunk = file.read(size)
        self._digest.update(chunk)
        self.bytes_read += len(chunk)
        return chunk

    def _inflated(self, file: BinaryIO) -> Iterator[bytes]:
        """What gzip holds, of one member or several (RFC 1952 §2.2); what stands before a fault is kept."""
        member = zlib.decompressobj(wbits=31)
        waiting = self.read(file)
        try:
            while waiting:
                if member.eof:
                    member = zlib.decompressobj(wbits=31)
                yield member.decompress(waiting, CHUNK)
                waiting = member.unconsumed_tail or member.unused_data.lstrip(b"\0") or self.read(file)
        except zlib.error:
            self.ending = "its gzip is damaged"
            self._to_the_end(file)
            return
        if not member.eof:
            self.ending = "its gzip is cut short"

    def _unzstd(self, file: BinaryIO) -> Iterator[bytes]:
        try:
            import pyarrow  # optional: only an audit of zstd or with Parquet needs it
        except ImportError:
            raise InputError(f"{self.name}: zstd needs the extra: pip install 'cds-service[audit]'") from None
        raw = pyarrow.PythonFile(_Counted(self, file), mode="r")
        try:
            stream = pyarrow.CompressedInputStream(raw, "zstd")
            while chunk := stream.read(1 << 16):
                yield chunk
        except OSError as problem:
            self.ending = "its zstd is cut short" if "runcated" in str(problem) else "its zstd is damaged"
            self._to_the_end(file)

    def _parquet(self, file: BinaryIO) -> Iterator[bytes]:
        self._to_the_end(file)  # for its digest: the rows are read by leaps, from the end of the file
        try:
            yield from parquet_rows.lines_of_rows(file, self.name)
        except parquet_rows.UnreadableParquet as problem:
            self.ending = str(problem)

    def _to_the_end(self, file: BinaryIO) -> None:
        while self.read(file):
            pass


class _Counted:
    """The file as pyarrow wants it, read through its SourceFile."""

    closed = False

    def __init__(self, source: SourceFile, file: BinaryIO) -> None:
        self._source = source
        self._file = file

    def read(self, size: int = CHUNK) -> bytes:
        return self._source.read(self._file, size)

    def close(self) -> None:
        self.closed = True


def source_files(folder: Path, longest: int = LONGEST_LINE) -> list[SourceFile]:
    """Every file of the folder and the folders in it, by name; hidden ones are passed over.

    Raises InputError when there is none, or when they are those of a table that is more than its files.
    """
    named = sorted((path, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    parquet_rows.refuse_tables(folder, (name for _, name in named))
    found = [SourceFile(path, name, longest) for path, name in named if not is_hidden(name)]
    if not found:
        raise InputError(f"{folder}: it holds no file to audit")
    return found


def is_hidden(name: str) -> bool:
    """Whether the file, or a folder that it is in, begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))
