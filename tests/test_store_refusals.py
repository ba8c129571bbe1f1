"""When the database refuses: a right that is missing costs time, a row that cannot be kept costs that row alone."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator

import pytest
import structlog
from databases import PostgreSQL
from msgspec.structs import replace
from sqlalchemy import func, select, text
from test_store import DECISION, on, run

from cds_service.app import create_app
from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.store.decisions import DecisionLog
from cds_service.store.readiness import condition_of
from cds_service.store.schema import (
    REVISIONS,
    cards,
    chains,
    daily_counts,
    decisions,
    desk_log,
    feedback,
    kept_inputs,
    metadata,
    rule_outcomes,
    rule_stops,
    seen_tokens,
)
from cds_service.store.schema_version import upgrade
from cds_service.store.verify import verify
from cds_service.web import health, logs

SAID = {"it cannot be written (InsufficientPrivilege)"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, so that a fault is met soon; decisions recorded at once are one batch."""
    monkeypatch.setattr("cds_service.store.decisions.RETRY", 0.02)
    monkeypatch.setattr("cds_service.store.decisions.LINGER", 0.2)


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if true():
            return
        pause.wait(0.05)
    pytest.fail("it never came about")


def numbers(database: Database) -> list[str]:
    """The request ids of the log."""
    with database.reading() as connection:
        return list(connection.execute(select(decisions.c.request_id).order_by(decisions.c.id)).scalars())


class Limited:
    """A PostgreSQL with our tables, the owner's way in and that of a role to which the owner grants."""

    def __init__(self, server: PostgreSQL) -> None:
        self.owner_url = server.new_database()
        self.owner, self.role = Database(self.owner_url), f"role_{self.owner_url.rpartition('/')[2]}"
        upgrade(self.owner)
        self.tell(f"CREATE ROLE {self.role} LOGIN")
        self.tell(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {self.role}")
        self.tell(f"GRANT UPDATE ON chains, daily_counts, rule_stops TO {self.role}")
        self.tell(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {self.role}")
        self.url = self.owner_url.replace("cds@", f"{self.role}@")
        self.database = Database(self.url)

    def tell(self, statement: str) -> None:
        with self.owner.writing() as connection:
            connection.execute(text(statement))


@pytest.fixture
def limited(postgresql: PostgreSQL) -> Iterator[Limited]:
    made = Limited(postgresql)
    yield made
    made.database.close()
    made.owner.close()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the log lines say."""
    lines = io.StringIO()
    printed = structlog.wrap_logger(structlog.PrintLogger(lines), processors=logs.logger._processors)
    monkeypatch.setattr(health, "logger", printed, raising=False)
    return lines


def test_decisions_wait_for_a_right_that_was_taken_and_are_written_when_it_is_back(limited: Limited) -> None:
    limited.tell(f"REVOKE INSERT ON cards FROM {limited.role}")
    log = DecisionLog(limited.database, 100, may_upgrade=False)
    told: list[str] = []
    log.met = told.append
    log.record(on(1))
    until(lambda: log.failing or log.dropped > 0)
    assert (log.failing, log.dropped) == (True, 0)
    log.record(on(2))
    limited.tell(f"GRANT INSERT ON cards TO {limited.role}")
    log.close()
    assert (log.failing, log.dropped, numbers(limited.owner)) == (False, 0, ["q1-0", "q2-0"])
    assert told == ["InsufficientPrivilege"]
    assert verify(limited.owner).breaks == ()


def test_the_cause_is_logged_once_in_a_spell_by_its_kind_only(limited: Limited, written: io.StringIO) -> None:
    app = create_app(Settings(database_url=limited.url))
    log = app.extensions["decision_log"]
    for _ in range(2):
        limited.tell(f"REVOKE INSERT ON decisions FROM {limited.role}")
        log.record(replace(on(1), hook_instance="CANARY"))
        until(lambda: bool(log.failing))
        limited.tell(f"GRANT INSERT ON decisions TO {limited.role}")
        until(lambda: not log.failing)
    log.close()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["event"], line["kind"], line["level"]) for line in lines] == [
        ("decisions-not-written", "InsufficientPrivilege", "error")
    ] * 2
    assert "CANARY" not in written.getvalue()


@pytest.mark.parametrize("bad", [{"request_id": "x" * 65}, {"decided_at": "\0"}])
def test_a_row_that_cannot_be_kept_is_lost_alone(limited: Limited, bad: dict[str, str]) -> None:
    log = DecisionLog(limited.database, 100, may_upgrade=False)
    lost: list[int] = []
    told: list[str] = []
    log.lost, log.met = lost.append, told.append
    for decision in (on(1), on(2), replace(on(3), **bad), on(4)):
        log.record(decision)
    log.close()
    assert numbers(limited.owner) == ["q1-0", "q2-0", "q4-0"]
    assert (lost, log.dropped, log.failing, len(told)) == ([1], 1, False, 1)
    assert (verify(limited.owner).decisions, verify(limited.owner).breaks) == (3, ())


def test_a_row_that_breaks_a_constraint_is_lost_alone(database: Database) -> None:
    log = DecisionLog(database, 100)
    for decision in (on(1), replace(on(2), client_id=None), on(3)):
        log.record(decision)
    log.close()
    assert (numbers(database), log.dropped, verify(database).breaks) == (["q1-0", "q3-0"], 1, ())


def test_an_error_nobody_foresaw_costs_the_decision_that_causes_it(database: Database) -> None:
    log = DecisionLog(database, 100)
    for decision in (on(1), replace(on(2), outcomes={"r": object()}), on(3)):
        log.record(decision)
    log.close()
    assert (numbers(database), log.dropped, verify(database).breaks) == (["q1-0", "q3-0"], 1, ())


def test_decisions_wait_for_a_schema_that_is_not_there_yet(limited: Limited) -> None:
    limited.tell("UPDATE alembic_version SET version_num = '9999'")
    log = DecisionLog(limited.database, 100, may_upgrade=False)
    log.record(on(1))
    until(lambda: log.failing or log.dropped > 0)
    limited.tell("UPDATE alembic_version SET version_num = '0003'")
    log.close()
    assert (log.dropped, numbers(limited.owner)) == (0, ["q1-0"])


WRITTEN = [decisions, cards, kept_inputs, rule_outcomes, daily_counts, chains, feedback, seen_tokens]
WRITTEN += [desk_log, rule_stops]


@pytest.mark.parametrize("table", WRITTEN, ids=str)
def test_a_table_into_which_nothing_can_be_put_is_a_store_that_cannot_be_written(
    limited: Limited, table: object
) -> None:
    assert condition_of(limited.database) == (REVISIONS[-1], "")
    limited.tell(f"REVOKE INSERT ON {table} FROM {limited.role}")
    assert {condition_of(limited.database).problem} == SAID
    code, output = run("db", "check", url=limited.url)
    assert (code, "InsufficientPrivilege" in output, "can be written" in output) == (1, True, False)
    limited.tell(f"GRANT INSERT ON {table} TO {limited.role}")
    assert condition_of(limited.database).writable


@pytest.mark.parametrize("table", [chains, daily_counts, rule_stops], ids=str)
def test_what_is_added_to_and_cannot_be_changed_is_a_store_that_cannot_be_written(
    limited: Limited, table: object
) -> None:
    limited.tell(f"REVOKE UPDATE ON {table} FROM {limited.role}")
    assert {condition_of(limited.database).problem} == SAID


def test_asking_for_the_condition_leaves_nothing_behind(database: Database) -> None:
    before = replace(DECISION, kept=None)
    log = DecisionLog(database, 10)
    log.record(before)
    log.close()
    counted = {"views", "rule", "card", "workup", "shown", "state"}
    for _ in range(2):
        assert condition_of(database) == (REVISIONS[-1], "")
    with database.reading() as connection:
        counts = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }
    assert counts == dict.fromkeys(metadata.tables, 0) | {
        "decisions": 1, "cards": 1, "chains": 1, "rule_outcomes": 1, "daily_counts": len(counted),
    }  # fmt: skip
    assert verify(database).breaks == ()


def test_decisions_wait_while_no_thread_is_to_be_had(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DecisionLog(database, 10)
    told: list[str] = []
    log.met = told.append

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", refuse)
        assert log.record(on(1))
        assert log.record(on(2))
        assert (log.failing, told) == (True, ["RuntimeError"])
    assert log.record(on(3))
    log.close()
    assert (numbers(database), log.failing, log.dropped) == (["q1-0", "q2-0", "q3-0"], False, 0)
