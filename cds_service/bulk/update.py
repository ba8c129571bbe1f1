"""An update: what the server says is gone, and what came anew, is taken out of the files of earlier imports.

So the folder holds each resource once, as of the last import, and an audit reads it as one export.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from cds_service.bulk.state import Folder, State
from cds_service.population.ndjson import COMPLETE, SourceFile


class _Request(Struct):
    method: str = ""
    url: str = ""


class _Entry(Struct):
    request: _Request = msgspec.field(default_factory=_Request)


class _Bundle(Struct):
    entry: list[_Entry] = []


class _Header(Struct):
    resourceType: str
    id: str = ""


class Updated(NamedTuple):
    """How many resources the server says are gone, and how many lines of earlier files were taken out.

    ``early``: earlier files that end early, and how; what is gone or came anew still stands in them.
    """

    deleted: int
    removed: int
    early: tuple[str, ...] = ()


def apply_update(folder: Folder, state: State) -> Updated:
    """Leave in the files of earlier imports what neither was deleted nor came anew. Doing it twice changes nothing."""
    gone = _deleted(folder, state)
    now = f"{state.number:03}-"
    earlier = [path for path in sorted(folder.path.glob("*.ndjson*")) if not path.name.startswith(now)]
    if not earlier:
        return Updated(len(gone), 0)
    replaced = gone | {
        name for part in state.parts.values() if (path := folder.path / part.name).is_file() for name in _names(path)
    }
    rewritten = [(path.name, *_without(path, replaced)) for path in earlier]
    early = [f"{name}: {ending}; it is left as it is" for name, _, ending in rewritten if ending != COMPLETE]
    return Updated(len(gone), sum(removed for _, removed, _ in rewritten), tuple(early))


def _deleted(folder: Folder, state: State) -> set[str]:
    """The resources in the Bundles of deletions (Bulk Data 2.0: entry.request with method DELETE)."""
    found = set()
    for name, part in state.parts.items():
        if name.startswith("deleted.") and part.name:
            for line in SourceFile(folder.hidden / part.name, part.name).lines():
                try:
                    bundle = msgspec.json.decode(line.content, type=_Bundle)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    part.problem = "a line of it is no Bundle of deletions"
                    continue
                found |= {entry.request.url for entry in bundle.entry if entry.request.method == "DELETE"}
    return found


def _names(path: Path) -> Iterator[str]:
    for line in SourceFile(path, path.name).lines():
        if name := _name(line.content):
            yield name


def _name(content: bytes) -> str:
    try:
        header = msgspec.json.decode(content, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f"{header.resourceType}/{header.id}" if header.id else ""


def _without(path: Path, replaced: set[str]) -> tuple[int, str]:
    """Rewrite the file without these resources; how many lines went, and how it ends.

    A file without any of them is not touched, nor is one that ends early: rewritten, nobody could see that it is short.
    """
    if not any(name in replaced for name in _names(path)):
        return 0, COMPLETE
    source, waiting, removed = SourceFile(path, path.name), path.with_name(f".{path.name}.new"), 0
    with gzip.open(waiting, "wb") if path.suffix == ".gz" else waiting.open("wb") as file:
        for line in source.lines():
            if not line.too_long and _name(line.content) in replaced:
                removed += 1
            else:
                file.write(line.content + b"\n")
    if source.ending != COMPLETE:
        waiting.unlink()
        return 0, source.ending
    waiting.replace(path)
    return removed, COMPLETE
