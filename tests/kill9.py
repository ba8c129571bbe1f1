"""Kill -9 under feedback load: whatever was acknowledged is there, once, and the decision log can be verified.

`make faults` runs it with 60 kills on each database; tests/test_kill9.py with a few. On PostgreSQL every second kill
takes the database server with it. What this cannot show is a power cut: for that both databases wait for the disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import requests
from databases import PostgreSQL, free_port, running_postgresql
from sqlalchemy import select

from cds_service.store.database import Database
from cds_service.store.schema import decisions, feedback
from cds_service.store.schema_version import upgrade
from cds_service.store.verify import verify

SERVICE = "/cds-services/infant-motor-workup"
SAMPLE = (Path(__file__).parents[1] / "fixtures" / "clustered-awake-jerks.json").read_bytes()
JSON = {"Content-Type": "application/json"}
CLIENTS = 6
WORKERS = 2
PROGRAM = ("-m", "cds_service.cli")
LOAD_SECONDS = 0.8, 2.0


class Result(NamedTuple):
    """What was found after all kills."""

    kills: int
    acknowledged: int
    lost: int
    twice: int
    kept: int
    decisions: int
    breaks: int
    seconds: float


class Load:
    """Clients that send feedback, each statement new, and note what is acknowledged; and one that asks for cards."""

    def __init__(self, base: str) -> None:
        self.acknowledged: set[str] = set()
        self._base = base
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        self._threads.append(threading.Thread(target=self._ask))
        for thread in self._threads:
            thread.start()

    def _batch(self) -> list[dict[str, Any]]:
        numbers = [next(self._numbers) for _ in range(random.randint(1, 60))]
        return [
            {"card": f"{self._base}#{number}", "outcome": "accepted", "outcomeTimestamp": "2026-11-22T10:00:00Z"}
            for number in numbers
        ]

    def _send(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                batch = self._batch()
                with suppress(requests.RequestException):
                    answer = session.post(f"{self._base}{SERVICE}/feedback", json={"feedback": batch}, timeout=5)
                    if answer.status_code == 200 and answer.json()["accepted"] == len(batch):
                        self.acknowledged |= {entry["card"] for entry in batch}

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                with suppress(requests.RequestException):
                    session.post(f"{self._base}{SERVICE}", data=SAMPLE, headers=JSON, timeout=5)

    def stop(self) -> set[str]:
        """End the load; what was acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged


def start(
    url: str, folder: Path, program: Sequence[str] = PROGRAM, written: int | BinaryIO = subprocess.DEVNULL,
    **settings: str,
) -> tuple[subprocess.Popen[bytes], str]:  # fmt: skip
    """The service with its workers in a process group of its own, and its address.

    ``program`` stands for ``cds-service``; ``written`` takes what is written on stdout and stderr.
    """
    port = free_port()
    environment = {**os.environ, "CDS_DATABASE_URL": url, "CDS_WORKERS": str(WORKERS), **settings}
    process = subprocess.Popen(
        [sys.executable, *program, "serve", "--port", str(port), "--quiet"],
        cwd=folder, env=environment, stdout=written, stderr=written, start_new_session=True,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(process, base)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process, base


def wait_for(process: subprocess.Popen[bytes], base: str) -> None:
    """Return when the service answers."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the service did not start"
        try:
            assert requests.get(f"{base}/healthz", timeout=5).status_code == 200
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "the service did not start"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)


def kill_and_count(url: str, kills: int, folder: Path, server: PostgreSQL | None) -> Result:
    """So many rounds of load, each ended by kill -9."""
    began = time.monotonic()
    database = Database(url)
    upgrade(database)
    acknowledged: set[str] = set()
    for round_ in range(kills):
        process, base = start(url, folder)
        load = Load(base)
        with suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(*LOAD_SECONDS))
        if server is not None and round_ % 2:
            server.kill()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        acknowledged |= load.stop()
        database.close()
        if server is not None and round_ % 2:
            server.start()
    with database.reading() as connection:
        kept = Counter(connection.execute(select(feedback.c.card_uuid)).scalars())
        logged = len(connection.execute(select(decisions.c.id)).all())
    verdict = verify(database)
    database.close()
    return Result(
        kills, len(acknowledged), len(acknowledged - kept.keys()), sum(count > 1 for count in kept.values()),
        len(kept), logged, len(verdict.breaks), round(time.monotonic() - began, 1),
    )  # fmt: skip


def run(kind: str, kills: int) -> Result:
    """The rounds on a new database of this kind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cds-kill9-")))
        if kind == "sqlite":
            return kill_and_count(f"sqlite:///{folder}/store.sqlite3", kills, folder, None)
        server = stack.enter_context(running_postgresql())
        return kill_and_count(server.new_database(), kills, folder, server)


def main() -> None:
    """`make faults`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    arguments = parser.parse_args()
    failed = False
    for kind in arguments.database or ["sqlite", "postgresql"]:
        result = run(kind, arguments.kills)
        print(json.dumps({"database": kind, **result._asdict()}), flush=True)
        failed = failed or bool(result.lost or result.twice or result.breaks) or not result.acknowledged
    sys.exit(failed)


if __name__ == "__main__":
    main()
