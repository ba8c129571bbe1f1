"""The files below a URI, such as s3://bucket/export or hdfs://name/export, read through pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from cds_service.errors import InputError
from cds_service.population.ndjson import LONGEST_LINE, SourceFile, is_hidden
from cds_service.population.parquet_rows import refuse_tables


class RemoteFile(SourceFile):
    """One object of an object store or a distributed file system, read where the task runs."""

    def __init__(self, root: str, name: str, stamp: tuple[int, int], longest: int = LONGEST_LINE) -> None:
        super().__init__(Path(name), name, longest)
        self._root = root
        self._stamp = stamp

    @property
    def stamp(self) -> tuple[int, int]:
        """Its size in bytes and when it was last changed."""
        return self._stamp

    def open(self) -> BinaryIO:
        """The object from its beginning. Raises OSError."""
        system, path = _file_system(self._root)
        found: BinaryIO = system.open_input_file(f"{path}/{self.name}")
        return found


def _file_system(root: str) -> tuple[Any, str]:
    try:
        from pyarrow import fs  # optional: the extra [audit]
    except ImportError:
        raise InputError(f"{root}: a URI needs the extra: pip install 'cds-service[audit]'") from None
    try:
        system, path = fs.FileSystem.from_uri(root)
    except (OSError, ValueError) as problem:
        raise InputError(f"{root}: no such place can be read ({type(problem).__name__})") from None
    return system, path.rstrip("/")


def remote_files(root: str, longest: int) -> list[SourceFile]:
    """Every file below a URI, by name; hidden ones are passed over. Raises InputError as source_files does."""
    system, path = _file_system(root)
    from pyarrow import fs

    try:
        listed = system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError:
        raise InputError(f"{root}: it cannot be listed") from None
    found = [
        RemoteFile(root, item.path.removeprefix(path).lstrip("/"), (item.size, item.mtime_ns or 0), longest)
        for item in listed if item.is_file
    ]  # fmt: skip
    refuse_tables(root, (file.name for file in found))
    files: list[SourceFile] = [file for file in found if not is_hidden(file.name)]
    if not files:
        raise InputError(f"{root}: it holds no file to audit")
    return sorted(files, key=lambda file: file.path)  # as those of a folder
