"""A Parquet file of FHIR resources, one as JSON text in each row → the lines that NDJSON of the same would hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cds_service.errors import InputError

STARTS = (b"PAR1", b"PARE")  # the second where even the footer is encrypted (parquet-format, Encryption)
END = STARTS[0]
SMALLEST = 12  # bytes: both marks and the length of the footer
NAMES = ("resource", "value", "json", "raw")  # of the column, where it is not the only one of text
ROWS_AT_ONCE = 64
BUFFER = 1 << 20  # bytes of a column that are read at once; without it all of a row group is
SHOWN = 12  # columns of a refused file that are named


class UnreadableParquet(Exception):
    """Why nothing more of a file can be read."""


def lines_of_rows(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Each row as a line, so that the number of the line is the number of the row (from 1).

    A newline can stand in JSON only between its values; it becomes a carriage return, which may stand there too and
    within a text is refused like a newline. A null is a line ``null``: no resource. Raises InputError when pyarrow is
    not installed or no column is sure to hold the resources, UnreadableParquet where the file is damaged.
    """
    try:
        import pyarrow as arrow  # optional: the extra [audit]
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{name}: Parquet needs the extra: pip install 'cds-service[audit]'") from None
    if file.seek(0, 2) < SMALLEST or _last(file) not in STARTS:
        raise UnreadableParquet("its Parquet is cut short")
    try:
        content = ParquetFile(file, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        column = _column(content.schema_arrow, name)
        missing = content.metadata.num_rows
        for batch in content.iter_batches(ROWS_AT_ONCE, columns=[column], use_threads=False):
            rows = batch.column(0).cast(arrow.binary()).to_pylist()
            missing -= len(rows)
            yield b"".join(b"%b\n" % (b"null" if row is None else row.replace(b"\n", b"\r")) for row in rows)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as problem:
        if isinstance(problem, OSError) and problem.strerror:
            raise  # of the disk, not of the file
        raise UnreadableParquet("its Parquet is damaged or encrypted") from None
    if missing:
        raise UnreadableParquet("its Parquet is damaged or encrypted")


def _last(file: BinaryIO) -> bytes:
    file.seek(-len(END), 2)
    return file.read(len(END))


def _column(schema: Any, name: str) -> str:
    """The column of the resources: the one that is named so, else the only one of text beside none of parts."""
    from pyarrow import types

    texts = [str(field.name) for field in schema if _is_text(field.type)]
    named = [text for text in texts if text.lower() in NAMES]
    has_parts = any(types.is_nested(field.type) for field in schema)
    found = named or ([] if has_parts else texts)
    if len(found) != 1:
        columns = [f"{field.name!r} ({_kind(field.type)})" for field in schema]
        more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
        raise InputError(
            f"{name}: of Parquet one column is read, a resource as JSON text in each row: the only column of text, "
            f"or one named {', '.join(NAMES[:-1])} or {NAMES[-1]}; it has {', '.join(columns[:SHOWN]) or 'none'}{more}"
        )
    return found[0]


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    kind = getattr(kind, "storage_type", kind)  # of Parquet's own JSON
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    )  # fmt: skip


def _kind(kind: Any) -> str:
    from pyarrow import types

    if _is_text(kind):
        return "text"
    return "nested" if types.is_nested(getattr(kind, "storage_type", kind)) else str(kind)


def refuse_tables(folder: Path | str, names: Iterable[str]) -> None:
    """Raises InputError for a table of Delta, Iceberg or Hudi: its files also hold what was replaced or deleted."""
    for name in names:
        *folders, last = name.split("/")
        is_iceberg = folders[-1:] == ["metadata"] and last.endswith(".metadata.json")
        if is_iceberg or "_delta_log" in folders or ".hoodie" in folders:
            raise InputError(
                f"{folder}: {name} belongs to a table of Delta, Iceberg or Hudi; its files also hold what was replaced "
                "or deleted. Write the rows that it has now to a folder as Parquet"
            )
