"""Where the tables live: SQLite in one file, or PostgreSQL. Written means on the disk, whichever it is.

SQLite: write-ahead log with synchronous=FULL, so that a commit outlives the machine. PostgreSQL: a server that
acknowledges before it has written (synchronous_commit=off) is told not to.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from cds_service.errors import SettingsError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

WAIT_SECONDS = 2  # how long a writer waits for another one, or for a server that does not answer
PRAGMAS = (f"busy_timeout={WAIT_SECONDS * 1000}", "synchronous=FULL", "foreign_keys=ON")
WRITES = "cds_writes"
FIRST_PAUSES = (0.01, 0.03, 0.1, 0.3)


def open_database(url: str) -> Engine:
    """The database at this URL; nothing is connected yet, but a new SQLite file is made, readable by its owner only."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and not parsed.database.startswith("file:"):
            Path(parsed.database).touch(mode=0o600)
        engine = create_engine(parsed, pool_timeout=WAIT_SECONDS, connect_args={"timeout": WAIT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        options = f"-c statement_timeout={WAIT_SECONDS * 5000} -c lock_timeout={WAIT_SECONDS * 1000}"
        engine = create_engine(
            parsed, pool_pre_ping=True, pool_timeout=WAIT_SECONDS,
            connect_args={"connect_timeout": WAIT_SECONDS, "options": options},
        )  # fmt: skip
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    return create_engine(parsed)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by us: the driver would begin them too late
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    for pause in (*FIRST_PAUSES, None):  # a new file is changed to WAL once; SQLite does not wait for another who does
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError:
            if pause is None:
                raise
            time.sleep(pause)


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the file's one write lock at once: a reader that turns writer is refused without waiting."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _: object) -> None:
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may say ON CONFLICT: SQLAlchemy has that for each kind of database apart."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # two megabytes, for those who have that database

        return insert(table)
    return sqlite.insert(table)


def kind_of(problem: Exception) -> str:
    """What went wrong, by the name of the driver's error where it is one's; never its text, which may hold values."""
    cause = problem.orig if isinstance(problem, DBAPIError) and problem.orig is not None else problem
    return type(cause).__name__


class Database:
    """The database of one process. Connects when first used, so that it can be made before workers are forked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None
        self._owner = 0
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine of this process. Raises SQLAlchemyError or OSError when the URL leads nowhere."""
        with self._lock:
            if self._engine is None or self._owner != os.getpid():
                self._engine = open_database(self.url)
                self._owner = os.getpid()
            return self._engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that changes nothing, waits for nobody, and sees the tables as they are at its start."""
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block has ended without an error."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True})
            with connection.begin():
                yield connection

    @contextmanager
    def trying(self) -> Iterator[Connection]:
        """A transaction that writes, and of which nothing remains."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True})
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    def close(self) -> None:
        """Give back the connections; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()


def database_files(url: str) -> tuple[Path, ...]:
    """Where a SQLite database keeps what it knows; its path may be a file: URI. Raises SettingsError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number
        raise SettingsError("CDS_DATABASE_URL: it is no URL of a database. See docs/store.md.") from None
    name = parsed.database
    if parsed.get_backend_name() != "sqlite" or not name:
        return ()
    path = unquote(urlsplit(name).path) if name.startswith("file:") else name
    return tuple(Path(f"{path}{end}") for end in ("", "-wal", "-shm"))
