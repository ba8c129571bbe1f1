"""The background checks live on whatever they meet, end when told to, and are missed when they stay out."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from test_store_refusals import until

from cds_service.app import create_app
from cds_service.rules.probes import run_probes
from cds_service.settings import Settings
from cds_service.store.readiness import StoreCondition
from cds_service.web import watch as module
from cds_service.web.watch import STALE_SECONDS, STORE_SECONDS, Watch

GOOD = StoreCondition("0001", "")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    made = create_app(Settings(database_url=f"sqlite:///{tmp_path}/cds.sqlite3"))
    yield made
    watch_of(made).stop()
    made.extensions["decision_log"].close()


def watch_of(app: Flask) -> Watch:
    found = app.extensions["watch"]
    assert isinstance(found, Watch)
    return found


def ready(app: Flask) -> tuple[int, dict[str, Any]]:
    answer = app.test_client().get("/readyz")
    return answer.status_code, answer.get_json()


def failing_at_first(then: Callable[..., Any], times: int = 2) -> Callable[..., Any]:
    """What raises, with a text that nobody may see, before it does what it ought to."""
    left = iter(range(times))

    def called(*arguments: Any) -> Any:
        if next(left, None) is not None:
            raise ZeroDivisionError("CANARY")
        return then(*arguments)

    return called


@pytest.mark.parametrize(("name", "then"), [
    ("condition_of", lambda database: GOOD), ("run_probes", run_probes),
])  # fmt: skip
def test_an_unforeseen_error_ends_no_check_for_good(
    app: Flask, monkeypatch: pytest.MonkeyPatch, log_lines: io.StringIO, name: str, then: Callable[..., Any]
) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.01)
    monkeypatch.setattr(module, name, failing_at_first(then))
    watch_of(app).start()
    until(lambda: not watch_of(app).problems())
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [(line["event"], line["kind"]) for line in lines] == [("check-failed", "ZeroDivisionError")] * 2
    assert "CANARY" not in log_lines.getvalue()


def test_the_store_is_tried_although_the_probes_fail(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    found = chain([StoreCondition("0001", "it is away")], repeat(GOOD))
    monkeypatch.setattr(module, "STORE_SECONDS", 0.01)
    monkeypatch.setattr(module, "condition_of", lambda database: next(found))
    monkeypatch.setattr(module, "run_probes", failing_at_first(run_probes, times=10**9))
    watch_of(app).start()
    until(lambda: watch_of(app).report()["store"]["writable"])
    assert ready(app)[1]["problems"] == ["probes: not tried yet"]


def test_the_watch_ends_at_once_when_told(app: Flask) -> None:
    before = set(threading.enumerate())
    watch_of(app).start()
    (thread,) = {thread for thread in threading.enumerate() if thread.name == "watch"} - before
    until(lambda: not watch_of(app).problems())
    watch_of(app).stop()
    thread.join(STORE_SECONDS / 3)
    assert not thread.is_alive()


def test_a_check_that_stays_out_turns_ready_red(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    moment, release, hangs = 1000.0, threading.Event(), threading.Event()
    rounds = iter(range(1))

    def first_only(_: object) -> StoreCondition:
        if next(rounds, None) is None:
            hangs.set()
            release.wait(60)
        return GOOD

    monkeypatch.setattr(module, "STORE_SECONDS", 0.01)
    monkeypatch.setattr(module, "condition_of", first_only)
    monkeypatch.setattr(module, "monotonic", lambda: moment)
    watch_of(app).start()
    assert hangs.wait(60)
    moment += STALE_SECONDS
    assert ready(app)[0] == 200
    moment += 1
    assert (ready(app)[0], ready(app)[1]["problems"]) == (503, ["checks: the last round ended 61 seconds ago"])
    release.set()
    until(lambda: ready(app)[0] == 200)


def test_probes_that_fail_later_are_missed_too(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1000.0
    monkeypatch.setattr(module, "STORE_SECONDS", 0.01)
    monkeypatch.setattr(module, "monotonic", lambda: moment)
    watch_of(app).start()
    until(lambda: not watch_of(app).problems())
    monkeypatch.setattr(module, "run_probes", failing_at_first(run_probes, times=10**9))
    moment += module.PROBE_SECONDS
    until(lambda: any(problem.startswith("checks: ") for problem in watch_of(app).problems()))


def test_checks_that_are_made_when_asked_for_are_never_late(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready(app)[0] == 200
    monkeypatch.setattr(module, "monotonic", lambda: 10.0**12)
    assert ready(app)[0] == 200
