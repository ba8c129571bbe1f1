"""The audit on Spark: the same parts, answered by the same code, into the same files (docs/scale.md).

One task reads one file, so that lines keep their numbers, and a packed or damaged file ends as it does on one machine.
The only shuffle carries each line to the part of its patient. Two more parts take what is about nobody: Medication,
and the tallies of the files. The driver merges what the parts brought, as it does after its own processes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from cds_service.errors import InputError
from cds_service.population.audit import Progress
from cds_service.population.ndjson import SourceFile, source_files
from cds_service.population.partition import MEDICATIONS, Partitioned, disk_refused
from cds_service.population.pool import Done, Job
from cds_service.population.remote_files import RemoteFile, remote_files
from cds_service.population.spark_tasks import Pack, Work, answer_part, read_file, tallies, zipped
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DONE = "done-"
LAUNCHED = ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS")  # set by spark-submit, or by who names a master
_OURS = re.compile(r"cds_service\.errors\.\w+: ([^\n]+)")


class Spark:
    """The engine of a cluster, or of this machine's cores when no master is named."""

    def __init__(self, workers: int) -> None:
        """``workers``: cores, when it all runs here. Raises InputError when Spark cannot be had."""
        try:
            from pyspark.sql import SparkSession
        except ImportError:
            raise InputError("--engine spark needs the extra: pip install 'cds-service[spark]'") from None
        running: Any = SparkSession.getActiveSession()
        self._is_ours = running is None
        try:
            self._context: Any = running.sparkContext if running is not None else _started(workers)
        except Exception as problem:  # no Java, no cluster: whatever its launcher raises
            raise InputError(f"Spark does not start ({type(problem).__name__}): is there a Java 17 or newer?") from None
        self._files: list[Callable[[], SourceFile]] = []  # made anew where they are read
        self._lines: Any = None

    def stop(self) -> None:
        """See Engine. A session that was there before stays."""
        if self._is_ours:
            self._context.stop()

    def files(self, folder: Path | str, longest: int) -> list[SourceFile]:
        """See Engine. A folder has to be seen by all workers under the same name."""
        if isinstance(folder, str):
            found = remote_files(folder, longest)
            self._files = [partial(RemoteFile, folder, file.name, file.stamp, longest) for file in found]
        else:
            found = source_files(folder, longest)
            self._files = [partial(SourceFile, file.path.resolve(), file.name, longest) for file in found]
        return found

    def partition(self, files: list[SourceFile], work: Path, parts: int, progress: Progress) -> Partitioned:
        """See Engine. The lines stay in the shuffle; what became of them is told here."""
        found = tallies(self._only(parts, parts + 1))
        progress.advance(sum(tally.bytes for tally in found.files))
        return found

    def answer(self, job: Job, parts: int, left: list[int], finished: Callable[[Done], object]) -> None:
        """See Engine. What a part brought is written here as soon as all are answered, so a merge needs no cluster."""
        if not left:
            return
        place = job.folder / MEDICATIONS
        try:
            with place.open("wb") as file:
                file.writelines(self._only(parts, parts))
        except OSError as problem:
            raise disk_refused(job.folder, problem) from None
        self._context.addFile(str(place))
        asked = self._context.broadcast(Work(job, _packs(job), version("cds-service")))
        wanted = frozenset(left)

        from pyspark import SparkFiles, StorageLevel

        def answered(part: int, chunks: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, bytes]]:
            if part not in wanted:
                return iter(())
            return answer_part(part, (chunk for _, chunk in chunks), asked.value, SparkFiles.get(MEDICATIONS))

        pieces = self._shuffled(parts).mapPartitionsWithIndex(answered).persist(StorageLevel.DISK_ONLY)
        with _our_words():
            pieces.count()  # all at once; what follows brings them one after another
            _keep(pieces.toLocalIterator(), job.folder, finished)
            pieces.unpersist()

    def _shuffled(self, parts: int) -> Any:
        """All lines at their parts. The shuffle is written once, whoever asks for a part of it."""
        if self._lines is None:
            files = self._context.parallelize(list(enumerate(self._files)), len(self._files))
            read = files.flatMap(lambda numbered: read_file(numbered[0], numbered[1](), parts))
            self._lines = read.partitionBy(parts + 2, lambda part: part)
        return self._lines

    def _only(self, parts: int, part: int) -> list[bytes]:
        """All that came to one part."""
        with _our_words():
            found: list[bytes] = self._context.runJob(
                self._shuffled(parts), lambda chunks: [chunk for _, chunk in chunks], [part]
            )
        return found


def _started(workers: int) -> Any:
    """A new context: where the launcher says, else on so many cores of this machine, and on no network."""
    from pyspark import SparkConf, SparkContext

    settings: Any = SparkConf()
    settings.setAppName("cds-service audit").set("spark.ui.showConsoleProgress", "false")
    if not any(name in os.environ for name in LAUNCHED):
        settings.setMaster(f"local[{workers}]").set("spark.ui.enabled", "false")
        settings.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return SparkContext.getOrCreate(settings)


def _packs(job: Job) -> tuple[Pack, ...]:
    roots = [root if root is not None else packaged_cards() for root in job.cards]
    return tuple(Pack(zipped(root), load_library(root).hash) for root in roots)


def _keep(pieces: Iterable[tuple[str, bytes]], work: Path, finished: Callable[[Done], object]) -> None:
    """Each file whole or not at all; the state of a part comes last, and says that the part is finished."""
    try:
        for name, of_file in groupby(pieces, key=itemgetter(0)):
            waiting = work / f"{name}.new"
            with waiting.open("wb") as file:
                file.writelines(chunk for _, chunk in of_file)
            waiting.replace(work / name)
            if name.startswith(DONE):
                state = orjson.loads((work / name).read_bytes())
                finished(Done(int(name.removeprefix(DONE).partition(".")[0]), state["patients"], state["lines"]))
    except OSError as problem:
        raise disk_refused(work, problem) from None


@contextmanager
def _our_words() -> Iterator[None]:
    """What a worker refuses is said as on one machine. Raises InputError; of other faults only that they are."""
    from py4j.protocol import Py4JError

    try:
        yield
    except Py4JError as problem:
        found = _OURS.search(str(problem))
        said = found[1] if found else f"a task failed ({type(problem).__name__}); see Spark's own log"
        raise InputError(f"Spark: {said}") from None
