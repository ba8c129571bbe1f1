"""A few kills on each database (`make faults` does sixty), and a stop that is none."""

from __future__ import annotations

from pathlib import Path

import requests
from databases import PostgreSQL
from kill9 import JSON, SAMPLE, SERVICE, Result, run, start

from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.verify import verify


def holds(result: Result) -> None:
    assert (result.lost, result.twice, result.breaks) == (0, 0, 0)
    assert result.acknowledged > 0
    assert result.decisions > 0


def test_nothing_acknowledged_is_lost_on_sqlite() -> None:
    holds(run("sqlite", 3))


def test_nothing_acknowledged_is_lost_on_postgresql(postgresql: PostgreSQL) -> None:
    """``postgresql`` says what is missing where no server is installed; the one that is killed is another."""
    holds(run("postgresql", 4))


def test_a_service_that_is_stopped_writes_the_decisions_that_wait(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/stopped.sqlite3")
    upgrade(database)
    process, base = start(database.url, tmp_path)
    with requests.Session() as session:
        answers = [session.post(base + SERVICE, data=SAMPLE, headers=JSON, timeout=5) for _ in range(100)]
    process.terminate()
    assert process.wait(20) == 0
    verdict = verify(database)
    database.close()
    assert {answer.status_code for answer in answers} == {200}
    assert (verdict.decisions, verdict.breaks) == (100, ())
