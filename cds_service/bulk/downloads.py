"""The files of a manifest, side by side; each goes on where it stopped when the server can, else it is had anew."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from cds_service.bulk.manifest import Listed, Manifest
from cds_service.bulk.server import LASTING, TRIES, Server, is_final, pause_after
from cds_service.bulk.state import Folder, Part, State
from cds_service.errors import InputError
from cds_service.population.ndjson import COMPLETE, SourceFile
from cds_service.population.partition import disk_refused
from cds_service.trust.exchange import Reply
from cds_service.trust.trouble import Unreachable

NDJSON = "application/fhir+ndjson, application/x-ndjson, application/ndjson;q=0.9, */*;q=0.1"
NO_ENTRY = "status 401"
_STRONG = re.compile(r'"[\x21\x23-\x7e]{0,256}"')
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", re.ASCII)


class _Again(Exception):
    """This attempt brought no whole file; ``headers``: of the answer that says when to come again."""

    def __init__(self, why: str, headers: Mapping[str, str] = {}) -> None:
        self.why = why
        self.headers = headers
        super().__init__(why)


class Downloads:
    """All files of one import."""

    def __init__(self, server: Server, folder: Folder, state: State, largest: int) -> None:
        """``largest``: bytes that one file may have as it comes."""
        self._server = server
        self._folder = folder
        self._state = state
        self._largest = largest
        self._stop = threading.Event()

    def all_of(self, manifest: Manifest, at_once: int, finished: Callable[[Part], object]) -> None:
        """Every file that is not whole yet. Raises InputError at the first that cannot be had; the others stay."""
        left = [(name, listed) for name, listed in manifest.files() if not self._part(name).name]
        with ThreadPoolExecutor(at_once, "import") as pool:
            waiting = {
                pool.submit(self._one, name, listed, manifest.requiresAccessToken, finished) for name, listed in left
            }
            try:
                for future in wait(waiting, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _part(self, name: str) -> Part:
        return self._state.parts.setdefault(name, Part())

    def _one(self, name: str, listed: Listed, needs_token: bool, finished: Callable[[Part], object]) -> None:
        part, growing, refused, counted = self._part(name), self._folder.partial(name), "", -1
        for tries in range(TRIES):
            token = self._server.token(refused) if needs_token else ""
            try:
                try:
                    self._attempt(name, listed, part, growing, token)
                    found = check_whole(growing, listed.count)
                    if found.problem and found.resources != counted:  # the same twice: it is what the server has
                        counted = found.resources
                        growing.unlink()
                        raise _Again(found.problem)
                except Unreachable as problem:
                    if problem.trouble in LASTING:
                        raise InputError(f"{name}: {problem.trouble.value}") from None
                    raise _Again(problem.trouble.value) from None
            except _Again as problem:
                if tries == TRIES - 1:
                    raise InputError(f"{name}: {problem.why}; {TRIES} attempts") from None
                if problem.why == NO_ENTRY and token and not refused:
                    refused = token
                    continue
                self._server.pause(pause_after(problem.headers, tries, self._server.now()))
                continue
            part.resources, part.problem = found.resources, found.problem
            self._keep(name, part, growing)
            finished(part)
            return

    def _attempt(self, name: str, listed: Listed, part: Part, growing: Path, token: str) -> None:
        """Bytes until the end, added to those that are there when the server still has the same version."""
        there = growing.stat().st_size if growing.exists() and part.etag else 0
        headers = {"Accept": NDJSON} | ({"Range": f"bytes={there}-", "If-Range": part.etag} if there else {})
        with self._server.download(listed.url, name, headers, token) as (head, pieces):
            if head.status == 416:  # all of it was there, or more than there is: which, only the whole file tells
                growing.unlink(missing_ok=True)
            begins = _begins(name, head, there)
            etag = head.headers.get("etag", "")
            if begins == 0:
                packing = head.headers.get("content-encoding", "identity").strip().lower()
                if packing not in ("identity", "gzip", ""):
                    raise InputError(f"{name}: it comes packed as nobody asked for")
                part.etag, part.packed = (etag if _STRONG.fullmatch(etag) else ""), packing == "gzip"
                self._folder.save()
            self._write(name, growing, begins, pieces)

    def _write(self, name: str, growing: Path, begins: int, pieces: Iterator[bytes]) -> None:
        size = begins
        try:
            file = growing.open("ab" if begins else "wb")
        except OSError as problem:
            raise disk_refused(self._folder.path, problem) from None
        with file:
            for piece in pieces:
                size += len(piece)
                if size > self._largest:
                    raise InputError(f"{name}: it is larger than {self._largest} bytes; see --largest")
                if self._stop.is_set():
                    raise InputError(f"{name}: stopped")
                try:
                    file.write(piece)
                except OSError as problem:
                    raise disk_refused(self._folder.path, problem) from None

    def _keep(self, name: str, part: Part, growing: Path) -> None:
        ending = ".ndjson.gz" if part.packed else ".ndjson"
        kept = f"{self._state.number:03}-{name}{ending}"
        hidden = name.startswith(("error.", "deleted."))
        growing.replace((self._folder.hidden if hidden else self._folder.path) / kept)
        part.name = kept
        self._folder.save()


def _begins(name: str, head: Reply, there: int) -> int:
    """From which byte on the answer is. Raises _Again or InputError when it is none."""
    if head.status == 200:
        return 0
    if head.status == 206 and there:
        found = _RANGE.fullmatch(head.headers.get("content-range", ""))
        if found is not None and int(found[1]) == there:
            return there
        raise InputError(f"{name}: the server sent another part than it was asked for")
    if head.status == 401:
        raise _Again(NO_ENTRY)
    if head.status == 416 or not is_final(head):
        raise _Again(f"status {head.status}", head.headers)
    raise InputError(f"{name}: status {head.status}")


def check_whole(path: Path, count: int | None) -> Part:
    """What a file holds, read line by line, and why it is not what the manifest says; empty when it is."""
    source = SourceFile(path, path.name)
    lines = sum(1 for _ in source.lines())
    if source.ending != COMPLETE:
        return Part(resources=lines, problem=source.ending)
    if count is not None and lines != count:
        return Part(resources=lines, problem=f"the manifest says {count} resources, {lines} came")
    return Part(resources=lines)
