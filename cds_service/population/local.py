"""The engine of one machine: its processes read the input, each into files of its own, and then answer the parts."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from cds_service.errors import InputError
from cds_service.population.ndjson import SourceFile, source_files
from cds_service.population.partition import (
    LINES,
    MEDICATIONS,
    Partitioned,
    Partitioner,
    Tally,
    disk_refused,
    joined,
    whole_input,
)
from cds_service.population.pieces import Piece, tasks_of
from cds_service.population.pool import Done, Job, answer_part

if TYPE_CHECKING:  # a worker need not load the command
    from cds_service.population.audit import Progress

AHEAD = 4  # tasks that wait for each process
T = TypeVar("T")
Read = list[tuple[Piece, Tally]]


class Local:
    """The engine of one machine; one worker is this process itself."""

    def __init__(self, workers: int) -> None:
        """Start the processes, so that they have imported what they need when there is something to do."""
        self._workers = workers
        self._files: list[SourceFile] = []
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            # Spawned, not forked: a worker holds the rules and its part, and nothing of what this process has loaded.
            self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            with _no_program():
                for _ in range(workers):
                    self._pool.submit(_import)

    def stop(self) -> None:
        """See Engine."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def files(self, folder: Path | str, longest: int) -> list[SourceFile]:
        """See Engine."""
        self._files = source_files(Path(folder), longest)
        return self._files

    def partition(self, files: list[SourceFile], work: Path, parts: int, progress: Progress) -> Partitioned:
        """See Engine: each process writes one file for each part."""
        return self._read(files, work, parts, progress.advance)

    def _read(self, files: list[SourceFile], work: Path, parts: int, told: Callable[[int], object]) -> Partitioned:
        # Under its name only when it is whole: what a process of an earlier run still writes is in no way.
        place = work / f"{LINES}-{os.getpid()}"
        found: Read = []
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            tasks = tasks_of(files, self._workers)
            for read in self._each(partial(read_pieces, place, parts, task) for task in tasks):
                found += read
                told(sum(tally.bytes for _, tally in read))
            with (work / MEDICATIONS).open("wb") as medications:
                for path in place.glob(f"*/{MEDICATIONS}"):
                    with path.open("rb") as some:
                        shutil.copyfileobj(some, medications)
            place.replace(work / LINES)
        except OSError as problem:
            raise disk_refused(work, problem) from None
        by_place: defaultdict[int, Read] = defaultdict(list)
        for one in found:
            by_place[one[0].place].append(one)
        return whole_input(parts, [_tally(file, by_place[place]) for place, file in enumerate(files)])

    def answer(self, job: Job, parts: int, left: list[int], finished: Callable[[Done], object]) -> None:
        """See Engine. The processes end after it."""
        if left and not (job.folder / LINES).exists():  # a cluster read them, which left no lines here
            self._read(self._files, job.folder, parts, lambda size: None)
        for done in self._each(partial(answer_part, job, part) for part in left):
            finished(done)
        if self._pool is not None:
            self._pool.shutdown(wait=False)  # they end while their answers are merged

    def _each(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """What these calls give, in whatever order. Raises InputError when a worker is killed."""
        if self._pool is None:
            for call in calls:
                yield call()
            return
        waiting: set[Future[T]] = set()
        try:
            for call in calls:
                waiting.add(self._pool.submit(call))
                if len(waiting) == AHEAD * self._workers:
                    ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in ready:
                        yield future.result()
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker was killed, likely for want of memory: take fewer --workers or a smaller --memory, and give "
                "the command again: it goes on from the last finished part"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def read_pieces(folder: Path, parts: int, pieces: list[Piece]) -> Read:
    """Every line of these pieces to its part among those that this process writes; what became of them.

    Raises InputError when the disk does not take it.
    """
    place = folder / str(os.getpid())
    try:
        place.mkdir(exist_ok=True)
    except OSError as problem:
        raise disk_refused(folder, problem) from None
    reader = Partitioner(place, parts)
    found = [(piece, reader.take(piece.place, piece.file())) for piece in pieces]
    reader.flush()
    return found


def _tally(file: SourceFile, read: Read) -> Tally:
    """What became of a whole file, which alone knows its digest when it was cut."""
    read.sort(key=lambda one: one[0].start)
    piece, first = read[0]
    return joined([tally for _, tally in read], file.sha256) if piece.is_cut else first


def _import() -> None:
    """Nothing: who is asked for this imports this module, and with it all that answers."""


@contextmanager
def _no_program() -> Iterator[None]:
    """Processes that are spawned now do not import the program that spawns them: the command line has all commands."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program
