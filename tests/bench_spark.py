"""The audit on Spark beside one machine: seconds and CPU of both, on the same infants, from start to report.

The CPU is that of the whole machine, which should have nothing else to do: what Spark's Python workers spend is not all
found among the processes that this program waits for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cds_service.population.made import MADE
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)


class Cost(NamedTuple):
    """Seconds by the clock, and of CPU of the whole machine."""

    clock: float
    cpu: float


def cpu_of_machine() -> float:
    """Seconds of CPU that all processes have spent since it started (proc(5): user, nice, system, interrupts)."""
    with Path("/proc/stat").open() as told:
        fields = told.readline().split()[1:]
    return sum(int(fields[place]) for place in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def run(folder: Path, out: Path, *more: str) -> Cost:
    """What one audit takes as a user starts it."""
    words = ["audit", str(folder), "--out", str(out), "--as-of", DAY.isoformat(), "--exported", "all", "--no-parquet"]
    started, spent = time.perf_counter(), cpu_of_machine()
    with Path(f"{out}.log").open("wb") as log:
        subprocess.run([sys.executable, "-m", "cds_service.cli", *words, *more], check=True, stdout=log, stderr=log)
    return Cost(time.perf_counter() - started, cpu_of_machine() - spent)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, nargs="+", default=[2_000])
    parser.add_argument("--workers", default="2")
    asked = parser.parse_args()
    if find_spec("pyspark") is None:
        print("Spark is not measured: pip install -e '.[spark]'")
        return 0
    content = load_content(packaged_cards(), load_library().reading)
    for patients in asked.patients:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            write_population(infants(content, patients, 1, DAY), folder)
            (folder / "truth.ndjson").unlink()
            here = run(folder, Path(place) / "local", "--workers", asked.workers)
            spark = run(folder, Path(place) / "spark", "--workers", asked.workers, "--engine", "spark")
            for path in (Path(place) / "local").iterdir():
                if path.name != MADE:  # when it was made, and in how many seconds
                    assert path.read_bytes() == (Path(place) / "spark" / path.name).read_bytes(), path.name
        told = [
            f"{name} {patients / of.clock:,.0f}/s ({of.clock:.0f} s), {1000 * of.cpu / patients:.2f} ms CPU a patient"
            for name, of in (("local", here), ("Spark", spark))
        ]
        print(f"{patients:>7} patients, {asked.workers} cores: {'; '.join(told)}; the same bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
