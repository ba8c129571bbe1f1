"""A running service with real sockets, under either server, and callers that press it: slow, half open, many.

`make faults` runs this file: the figures of docs/reliability.md, "A busy or restarting service".
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import urllib3

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "fixtures" / "clustered-awake-jerks.json").read_bytes()
PATH = "/cds-services/infant-motor-workup"
COMMANDS = {
    "granian": ["-m", "cds_service.cli", "serve", "--quiet"],
    "gunicorn": ["-m", "gunicorn", "-c", "python:cds_service.gunicorn_server"],
}
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(SAMPLE)}\r\n\r\n"


class Service:
    """A service in its own folder on its own port. Its log goes to ``log``."""

    def __init__(self, folder: Path, server: str = "granian", workers: int = 1, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server, self.folder, self.log = server, folder, folder / "service.log"
        self.database = folder / "cds.sqlite3"
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CDS_")},
            "CDS_DATABASE_URL": f"sqlite:///{self.database}", "CDS_PORT": str(self.port), "CDS_WORKERS": str(workers),
            **environment,
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *COMMANDS[server]], cwd=folder, env=variables, stdout=log, stderr=log
            )

    def call(self, method: str = "POST", path: str = PATH, body: bytes | None = SAMPLE, seconds: float = 30) -> int:
        """The status of one call on a connection of its own."""
        return self.ask(method, path, body, seconds)[0]

    def ask(self, method: str, path: str, body: bytes | None = None, seconds: float = 30) -> tuple[int, bytes]:
        """Status and body of one call on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def until_ready(self, seconds: float = 120) -> None:
        """Wait for every worker that answers within a row of calls to be ready."""
        deadline, row, said = time.monotonic() + seconds, 0, b""
        while row < 10:
            try:
                status, said = self.ask("GET", "/readyz")
                row = row + 1 if status == 200 else 0
            except OSError:
                row = 0
            assert time.monotonic() < deadline, (said, self.log.read_text()[-2000:])
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            if not row:
                time.sleep(0.05)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def until_read(self, connection: socket.socket, seconds: float = 30) -> None:
        """Wait until the service has taken all that was sent on this connection: the kernel keeps nothing of it."""
        theirs, ours = f":{self.port:04X}", f":{connection.getsockname()[1]:04X}"
        deadline = time.monotonic() + seconds
        while True:
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            waiting = [row[4].partition(":")[2] for row in rows if row[1].endswith(theirs) and row[2].endswith(ours)]
            if waiting and int(waiting[0], 16) == 0:
                return
            assert time.monotonic() < deadline, "the service does not read"
            time.sleep(0.01)

    def until_said(self, word: str, seconds: float = 30) -> None:
        """Wait until this stands in the service's log."""
        deadline = time.monotonic() + seconds
        while word not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.01)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(folder: Path, server: str = "granian", workers: int = 1, **environment: str) -> Iterator[Service]:
    """A service that is ready; stopped at the end, by force if it has to be."""
    service = Service(folder, server, workers, **environment)
    try:
        service.until_ready()
        yield service
    finally:
        service.process.terminate()
        try:
            service.process.wait(60)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()


def milliseconds(service: Service, calls: int, pause: float = 0.005) -> list[float]:
    """How long each of so many calls takes, one after the other on one connection, as an EHR's do."""
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    for _ in range(calls):
        began = time.perf_counter()
        connection.request("POST", PATH, SAMPLE, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200
        time.sleep(pause)
    connection.close()
    return taken


def p99(taken: list[float]) -> float:
    """The ninety-ninth percentile."""
    return statistics.quantiles(taken, n=100)[98]


@contextmanager
def half_open(service: Service, connections: int) -> Iterator[None]:
    """So many connections, each with half a request: half the head, or the head and half the body, by turns."""
    with ExitStack() as stack:
        for number in range(connections):
            connection = stack.enter_context(service.connect())
            connection.sendall(HEAD.encode()[:40] if number % 2 else HEAD.encode() + SAMPLE[:100])
        yield


@contextmanager
def dripping(service: Service, clients: int, second: float = 1.0) -> Iterator[None]:
    """So many clients, each sending its body at a byte a second; one that is cut off comes again."""
    done = threading.Event()

    def drip() -> None:
        while not done.is_set():
            try:
                with service.connect() as connection:
                    connection.sendall(HEAD.encode())
                    for place in range(len(SAMPLE)):
                        connection.sendall(SAMPLE[place : place + 1])
                        if done.wait(second):
                            return
            except OSError:
                continue

    threads = [threading.Thread(target=drip) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


class Load:
    """Callers that call without pause until told to stop; every call that is not answered by 200 is kept."""

    def __init__(self, service: Service, callers: int, each_its_own_connection: bool = True) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._service = service
        self._own = each_its_own_connection
        self._changed = threading.Condition()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        # As HTTP clients do: one connection is kept, unless the server has closed it; nothing is tried twice.
        pool = urllib3.HTTPConnectionPool("127.0.0.1", self._service.port, timeout=30, retries=False)
        own = {"Connection": "close"} if self._own else {}
        while not self._done.wait(random.uniform(0, 0.02)):
            failure = ""
            try:
                answer = pool.request("POST", PATH, SAMPLE, headers={"Content-Type": "application/json", **own})
                if answer.status != 200:
                    failure = f"status {answer.status}"
            except urllib3.exceptions.HTTPError as problem:
                failure = f"{type(problem).__name__}: {problem}"
            with self._changed:
                self.calls += 1
                if failure:
                    self.failures.append(failure)
                self._changed.notify_all()

    def until_more(self, calls: int) -> None:
        """Wait until so many more have ended, however slow the machine is."""
        with self._changed:
            wanted = self.calls + calls
            assert self._changed.wait_for(lambda: self.calls >= wanted, 60), "the callers have come to a stand"


def workers_of(process: int) -> set[int]:
    """The processes that a process has started."""
    found = set()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        found |= {int(child) for child in task.read_text().split()}
    return found


def rolling_restart(service: Service, seconds: float = 90) -> None:
    """Exchange every worker by SIGHUP, and wait until no old one is left."""
    old = workers_of(service.process.pid)
    assert old
    service.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while old & workers_of(service.process.pid):
        assert time.monotonic() < deadline, "the workers were not exchanged"
        time.sleep(0.1)


class Slowness(NamedTuple):
    """p99 in milliseconds, alone and beside callers that press."""

    usual: float
    pressed: float


def beside_half_open(service: Service, connections: int, calls: int) -> Slowness:
    """Other callers' p99 beside half-open connections."""
    usual = p99(milliseconds(service, calls))
    with half_open(service, connections):
        return Slowness(usual, p99(milliseconds(service, calls)))


def beside_dripping(service: Service, clients: int, calls: int) -> Slowness:
    """Other callers' p99 beside clients that drip."""
    usual = p99(milliseconds(service, calls))
    with dripping(service, clients):
        return Slowness(usual, p99(milliseconds(service, calls)))


def main() -> int:
    """The table; 1 when a limit is not held."""
    failed = 0
    for server in COMMANDS:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder), server) as service:
            milliseconds(service, 200)
            rows = [("300 half-open connections", beside_half_open(service, 300, 1000))]
            rows += [(f"{count} dripping clients", beside_dripping(service, count, 600)) for count in (1, 5, 10, 20)]
            for name, (usual, pressed) in rows:
                failed += pressed - usual > 100
                print(f"{server:<9} {name:<28} p99 {usual:6.1f} → {pressed:6.1f} ms", flush=True)
        for own in (True, False):
            with tempfile.TemporaryDirectory() as folder, running(Path(folder), server, workers=2) as service:
                with Load(service, 8, own) as load:
                    for _ in range(5):
                        rolling_restart(service)
                kind = "a connection per call" if own else "kept connections"
                print(f"{server:<9} 5 rolling restarts, {kind}: {load.calls} calls, {len(load.failures)} failed "
                      f"{sorted(set(load.failures))}", flush=True)  # fmt: skip
                failed += bool(load.failures) and own
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
