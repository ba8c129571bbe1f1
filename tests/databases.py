"""SQLite files and databases of a PostgreSQL server that is started here, on a free port, by an unprivileged user."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from lacking import lacking
from sqlalchemy import create_engine, text

from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade

MISSING = "PostgreSQL 15 or newer is not installed: apt-get install -y postgresql"
_numbers = count(1)


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, where apt puts them or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    known = found[-1] if found else shutil.which("postgres")
    return Path(known).resolve().parent if known else None


def free_port() -> int:
    """A TCP port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgreSQL:
    """A server with its data in a folder of its own. Superusers may not run it, so it is run by `nobody`."""

    def __init__(self) -> None:
        folder = programs()
        if folder is None:
            lacking(MISSING)
        self._programs = folder
        self._folder = Path(tempfile.mkdtemp(prefix="cds-postgresql-"))
        self._user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self._folder, "nobody")
        self.port = free_port()
        subprocess.run(
            [str(folder / "initdb"), "-D", str(self._folder / "data"), "--auth=trust", "--username=cds", "--no-sync"],
            check=True, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start, and return when connections are taken; after a crash it has recovered by then."""
        options = ["-p", str(self.port), "-k", str(self._folder), "-c", "listen_addresses=127.0.0.1"]
        options += ["-c", "recovery_init_sync_method=syncfs"]  # else each of a thousand files, one by one
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options],
                cwd=self._folder, stdout=log, stderr=log, **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(0.05)
                pytest.fail(self.log.read_text())
            try:
                psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "the PostgreSQL server did not start"

    @property
    def log(self) -> Path:
        """What the server has written about itself."""
        return self._folder / "log"

    def kill(self) -> None:
        """Kill -9 the server and all that serves its connections: nothing is written any more."""
        listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._server.pid)], capture_output=True, text=True)
        self._server.kill()
        for process in map(int, listing.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._server.wait()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of this server."""
        return f"postgresql+psycopg://cds@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"d{next(_numbers)}"
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def stop(self) -> None:
        """Stop, and remove the data."""
        self.kill()
        shutil.rmtree(self._folder)


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A server for a while."""
    server = PostgreSQL()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for all tests of a process."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite3"
    return str(request.getfixturevalue("postgresql").new_database())


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with our tables."""
    opened = Database(url)
    upgrade(opened)
    yield opened
    opened.close()
