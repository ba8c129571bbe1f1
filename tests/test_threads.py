"""Threads: how many the service may start, what the deployment lets it have, and what is said when there are none."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from services import Production, bearer, kept, undated
from wire import URL

from cds_service.trust import keys
from cds_service.trust.addresses import parse_base
from cds_service.trust.breaker import AT_ONCE, FAILURES
from cds_service.trust.clients import Client, ClientRegistry, client_of
from cds_service.trust.fhir_server import LINES, MOST_AT_ONCE, FhirCalls
from cds_service.trust.outbound import Route
from cds_service.trust.trouble import Trouble
from cds_service.web.front import WAITING_AT_ONCE, Front
from cds_service.web.hooks_api import LARGEST_BODY

DEPLOY = Path(__file__).parents[1] / "docs/deploy"
# A worker at rest has 7 (measured): main, key ring, decision log, background checks, and the server's own. The token
# forgetter comes and goes, and a library may want one now and then.
OTHERS = 16
OF_A_WORKER = WAITING_AT_ONCE + MOST_AT_ONCE * LINES + 2 * keys.AT_ONCE + OTHERS


def lines(name: str, setting: str) -> int:
    (found,) = re.findall(rf"^{setting}=(\d+)$", (DEPLOY / name).read_text(encoding="utf-8"), re.MULTILINE)
    return int(found)


def ended(name: str) -> None:
    """Wait until the threads of this name have ended."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(5)


def test_the_deployment_lets_the_service_have_the_threads_that_it_may_start() -> None:
    workers = lines("cds.env.example", "CDS_WORKERS")
    needed = workers * OF_A_WORKER + OTHERS  # and the process that looks after the workers
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert lines("cds-service.service", "TasksMax") >= needed
    assert compose["services"]["cds-service"]["pids_limit"] >= needed
    page = (DEPLOY.parent / "deploy.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"(\d+)\s+threads\s+for\s+each\s+worker", page)
    assert int(said) >= OF_A_WORKER


def test_lookups_that_hang_hold_the_places_of_their_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every two seconds as many threads more would hang as there may be."""
    released, hanging = threading.Event(), threading.Semaphore(0)

    def hangs(_: Route) -> tuple[str, ...]:
        hanging.release()
        released.wait(30)
        return ()

    monkeypatch.setattr(Route, "addresses", hangs)
    calls = FhirCalls(0.05, most_at_once=2)
    base = parse_base("https://ehr.example/fhir")

    def ask(number: int) -> Trouble | bytes:
        client = Client(id=f"c{number}", name="x", issuer="urn:x")
        return calls.ask(client, base, None, {"q": lambda get: get("/fhir/q")})["q"]

    assert [ask(1), ask(2), ask(3)] == [Trouble.TIMEOUT, Trouble.TIMEOUT, Trouble.BUSY]
    assert hanging.acquire(timeout=5) and hanging.acquire(timeout=5) and not hanging.acquire(blocking=False)
    released.set()
    ended("fhir")
    assert ask(4) is not Trouble.BUSY


def test_an_open_breaker_and_no_question_hold_no_place() -> None:
    calls = FhirCalls(most_at_once=1)
    base = parse_base("https://127.0.0.1:1/fhir")
    client = Client(id="c", name="x", issuer="urn:x")
    assert {len(calls.ask(client, base, None, {})) for _ in range(AT_ONCE + 1)} == {0}
    said = []
    for _ in range(FAILURES + 3):
        said.append(calls.ask(client, base, None, {"q": lambda get: get("/fhir/q")})["q"])
        ended("fhir")
    assert said == [Trouble.ADDRESS] * FAILURES + [Trouble.OPEN] * 3


# --- no thread to be had


@pytest.fixture
def running(tmp_path: Path) -> Production:
    return Production(tmp_path)


def refused_thread(*names: str) -> Callable[[threading.Thread], None]:
    """In place of Thread.start: the machine has no thread for those whose names begin so."""
    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name.startswith(names):
            raise RuntimeError("can't start new thread")
        start(thread)

    return start_or_not


def through(front: Front, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What the front answers to a call."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"content-type": "application/json", **headers}
    scope = {
        "type": "http", "method": "POST", "path": URL, "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(front(scope, receive, send), 20))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, sent[1]["body"]


def test_where_no_thread_is_to_be_had_a_call_is_refused_and_nothing_of_it_done(
    running: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front(running.app, LARGEST_BODY)
    same = bearer()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused_thread("call"))
        for _ in range(3):
            status, headers, body = through(front, undated(), authorization=same)
            issue = json.loads(body)["issue"][0]
            assert (status, headers["retry-after"], issue["code"]) == (503, "5", "throttled")
            assert issue["details"]["coding"][0]["code"] == "overloaded"
            assert headers["content-type"].startswith("application/fhir+json")
            assert headers["x-request-id"] in issue["diagnostics"]
    assert through(front, undated(), authorization=same)[0] == 200  # the token was not used up
    assert len(kept(running.app)) == 1  # and what the pool had kept of the refused was not done later


def test_a_call_that_runs_already_is_answered_though_the_pool_found_no_further_thread(
    running: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that became free took the call in the moment in which another could not be started."""
    front = Front(running.app, LARGEST_BODY)
    submit = front._threads.submit

    def submit_and_fail(call: Callable[[], None]) -> None:
        submit(call).result(20)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(front._threads, "submit", submit_and_fail)
    assert through(front, undated(), authorization=bearer())[0] == 200
    running.app.extensions["decision_log"].close()


def test_calls_go_on_where_the_background_gets_no_thread(running: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(running.app, LARGEST_BODY)
    monkeypatch.setattr("cds_service.web.callers.FORGET_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused_thread("client-keys", "forget-tokens"))
        assert through(front, undated(), authorization=bearer())[0] == 200
        assert running.app.extensions["callers"].keys._thread is None
    assert through(front, undated(), authorization=bearer())[0] == 200
    assert running.app.extensions["callers"].keys._thread.is_alive()
    running.app.extensions["decision_log"].close()


def test_key_sets_without_threads_are_loaded_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Three:
        def clients(self) -> list[Client]:
            record = {"name": "X", "jku": "https://ehr.example/jwks"}
            return [client_of({**record, "id": f"c{n}", "issuer": f"urn:{n}"}, "test") for n in range(3)]

    monkeypatch.setattr(threading.Thread, "start", refused_thread("client-keys"))

    def load(client: Client) -> bytes:
        asked.append(client.id)
        return b"{}"

    keys.KeyRing(ClientRegistry([Three()]), load).refresh()
    assert sorted(asked) == ["c0", "c1", "c2"]
