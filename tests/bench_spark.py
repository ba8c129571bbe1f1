"""The audit on Spark beside one machine: seconds and CPU of both, on the same infants, from start to report.

CPU is that of every process that was started, the Java ones too: this program inherits and waits for all of them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Spent(NamedTuple):
    """Seconds on the clock and of CPU."""

    clock: float
    cpu: float


def run(folder: Path, out: Path, *more: str) -> Spent:
    """One audit as a user starts it."""
    words = ["audit", str(folder), "--out", str(out), "--as-of", DAY.isoformat(), "--exported", "all", "--no-parquet"]
    before, started = used(), time.perf_counter()
    with Path(f"{out}.log").open("wb") as log:
        subprocess.run([sys.executable, "-m", "cds_service.cli", *words, *more], check=True, stdout=log, stderr=log)
    clock = time.perf_counter() - started
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return Spent(clock, used() - before)


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, nargs="+", default=[2_000])
    parser.add_argument("--workers", default="2")
    asked = parser.parse_args()
    if find_spec("pyspark") is None:
        print("Spark is not measured: pip install -e '.[spark]'")
        return 0
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    content = load_content(packaged_cards(), load_library().reading)
    for patients in asked.patients:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            write_population(infants(content, patients, 1, DAY), folder)
            (folder / "truth.ndjson").unlink()
            here = run(folder, Path(place) / "local", "--workers", asked.workers)
            spark = run(folder, Path(place) / "spark", "--workers", asked.workers, "--engine", "spark")
            for path in (Path(place) / "local").iterdir():
                assert path.read_bytes() == (Path(place) / "spark" / path.name).read_bytes(), path.name
        told = [
            f"{name} {patients / spent.clock:,.0f}/s, CPU {spent.cpu / patients * 1e3:.2f} ms a patient"
            f" ({spent.clock:.0f} s, {spent.cpu:.0f} s)" for name, spent in (("local", here), ("Spark", spark))
        ]  # fmt: skip
        print(f"{patients:>7} patients, {asked.workers} cores: {'; '.join(told)}; the same bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
