"""`make bench`, the audit: patients per second against reading and grouping the same bytes, in the same run.

The floor reads the same files in one process with orjson and groups the resources by patient, without a rule. The audit
is what the command does with two workers: partition, answer, merge, report. As in the command the processes start while
the rules are loaded, and for both the clock begins when all is loaded; the share with that time counted is told beside
it. Both by turns, in nine rounds where they take seconds, for single ones differ by a third on a shared machine: each
audit is compared with the floor beside it, and the median of these shares counts. Memory is the most that one worker
had, by /proc, for getrusage would tell of the process that started it too. All of it runs with the packages of
requirements.lock, as in production.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson

from cds_service.population.answers import answer_patient
from cds_service.population.audit import Options, answer_all, publish, run_of
from cds_service.population.local import Local
from cds_service.population.outputs import write_audit
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.record.times import parse_as_of
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

LOCKED = str(Path(__file__).parent / "only_locked")
DAY = date(2026, 11, 22)
SHARE_WANTED = 0.5
ROUNDS, SHORT = 9, 5_000  # rounds of a run of fewer patients
MOST_MEGABYTES = 150


class Quiet:
    def phase(self, name: str, unit: str, total: int) -> None: ...
    def advance(self, number: int, note: str = "") -> None: ...


def floor(folder: Path) -> float:
    """Seconds to read every line with orjson and to group the resources by patient."""
    started = time.perf_counter()
    groups: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            for line in file:
                item = orjson.loads(line)
                about = item.get("subject", item.get("patient"))
                groups[f"Patient/{item['id']}" if about is None else about["reference"]].append(item)
    assert groups
    return time.perf_counter() - started


def audited(folder: Path, out: Path, workers: int) -> tuple[float, float]:
    """Seconds of the audit, and with those before it that the processes took to start and the rules to load."""
    as_of = parse_as_of(DAY.isoformat())
    assert as_of is not None
    options = Options(as_of=as_of, public_url="http://127.0.0.1", exported=("all",), workers=workers)
    began = time.perf_counter()
    engine = Local(workers)
    library = load_library()
    started = time.perf_counter()
    done = answer_all(folder, out, answer_patient, (None,), (library.hash,), options, Quiet(), engine)
    run = run_of(done, (library.hash,), library.reading.pack_version, options, {})
    write_audit(done, run, library, as_of, exact=False, parquet=False)
    publish(out)
    ended = time.perf_counter()
    return ended - started, ended - began


class Watch:
    """The most memory that each process started meanwhile had, in kB: the system keeps it, so it is asked at times."""

    def __enter__(self) -> Watch:
        self.last: dict[str, int] = {}  # by process; until it runs its own program it has its parent's memory
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):  # a look costs the process that is measured
            for task in Path("/proc/self/task").iterdir():
                for child in _told(task / "children").split():
                    found = re.search(r"VmHWM:\s+(\d+) kB", _told(Path("/proc") / child / "status"))
                    if found:
                        self.last[child] = int(found[1])


def _told(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended
        return ""


class Round(NamedTuple):
    """Seconds of the floor and the audit, by the clock and of CPU; the most memory that a worker had.

    ``whole``: the audit with its start.
    """

    floor: float
    audit: float
    whole: float
    floor_cpu: float
    audit_cpu: float
    kilobytes: int


def once(folder: Path, out: Path, workers: int) -> Round:
    """One round: the audit, then the floor."""
    before = cpu()
    with Watch() as watch:
        ours, whole = audited(folder, out, workers)
    between = cpu()
    least = floor(folder)
    return Round(least, ours, whole, cpu() - between, between - before, max(watch.last.values()))


def cpu() -> float:
    """Seconds of CPU of this process and of those that it waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, nargs="+", default=[2_000])
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if paths[0] != LOCKED:
        os.environ["PYTHONPATH"] = os.pathsep.join([LOCKED, *filter(None, paths)])
        return subprocess.call([sys.executable, *sys.argv])
    content = load_content(packaged_cards(), load_library().reading)
    problems = []
    for patients in asked.patients:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            write_population(infants(content, patients, 1, DAY), folder)
            (folder / "truth.ndjson").unlink()
            size = sum(path.stat().st_size for path in folder.iterdir())
            rounds = [once(folder, Path(place) / f"out-{number}", asked.workers)
                      for number in range(ROUNDS if patients < SHORT else 1)]  # fmt: skip
        least, ours, _, least_cpu, spent = (median(column) for column in list(zip(*rounds, strict=True))[:5])
        worker = max(one.kilobytes for one in rounds) / 1024
        shares = sorted(one.floor / one.audit for one in rounds)
        share, with_start = median(shares), median(one.floor / one.whole for one in rounds)
        load, *_ = os.getloadavg()
        print(
            f"{patients:>7} patients, {size >> 20} MB: floor"
            f" {patients / least:,.0f}/s, audit with {asked.workers} workers {patients / ours:,.0f}/s,"
            f" share {share:.2f} (rounds {shares[0]:.2f} to {shares[-1]:.2f}; with its start {with_start:.2f});"
            f" CPU per patient: floor {least_cpu / patients * 1e3:.2f} ms,"
            f" audit {spent / patients * 1e3:.2f} ms;"
            f" worker {worker:.0f} MB; load average {load:.1f}",
            flush=True,
        )
        if share < SHARE_WANTED:
            problems.append(f"{patients}: {share:.2f} of the floor, wanted {SHARE_WANTED}")
        if worker > MOST_MEGABYTES:
            problems.append(f"{patients}: a worker took {worker:.0f} MB, allowed {MOST_MEGABYTES}")
    print("\n".join(problems) or "the audit is within its share and its memory")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
