"""Registered clients while a place where they are registered cannot be read, and revocation beside dead key sets."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from forge import ec_key, jwk
from services import EC, MAIN, Production, bearer, undated
from sqlalchemy import text
from wire import URL

from cds_service.cli import main
from cds_service.errors import ClientsUnavailable, SettingsError
from cds_service.registry import DatabaseClients
from cds_service.store.clients import ClientStore
from cds_service.store.database import WAIT_SECONDS, Database
from cds_service.trust import keys
from cds_service.trust.clients import Client, ClientRegistry, client_of
from cds_service.trust.fhir_server import KEYS_SECONDS
from cds_service.trust.keys import REGISTRY_SECONDS, KeyRing

PROMISED = 15  # seconds within which a running service follows: docs/trust.md
OTHER = "https://other.example"
STORED = {"id": "stored", "name": "Stored", "issuer": OTHER, "jwks": {"keys": [jwk(EC, "ec")]}}
UNREAD = "clients: the database's clients cannot be read (OperationalError)"
NEVER_READ = "clients: those of the database have not been read since the start"


class Table:
    """The table of clients in the database of a service, which can be taken away and given back."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.store = ClientStore(self.database)

    def put(self, record: dict[str, Any] = STORED, *, enabled: bool = True) -> None:
        self.store.put(record["id"], json.dumps(record), "2026-11-26T10:00:00.000Z", enabled=enabled)

    def away(self) -> None:
        with self.database.writing() as connection:
            connection.execute(text("ALTER TABLE clients RENAME TO clients_away"))

    def back(self) -> None:
        with self.database.writing() as connection:
            connection.execute(text("ALTER TABLE clients_away RENAME TO clients"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Production]:
    service = Production(tmp_path)
    yield service
    service.app.extensions["decision_log"].close()


@pytest.fixture
def table(running: Production) -> Table:
    return Table(running.url)


def follow(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What /readyz says after the background has looked at the registry once more."""
    with monkeypatch.context() as patch:
        patch.setattr(keys, "REGISTRY_SECONDS", 0.0)
        app.extensions["callers"].keys.refresh()
    said: dict[str, Any] = app.test_client().get("/readyz").get_json()
    return said


def status(app: Any) -> int:
    """What a call of the client in the database gets."""
    headers = {"Authorization": bearer(iss=OTHER)}
    code: int = app.test_client().post(URL, json=undated(), headers=headers).status_code
    return code


def test_clients_of_a_database_that_is_gone_stay_and_the_operator_is_told(
    running: Production, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.put()
    assert follow(running.app, monkeypatch)["warnings"] == []
    table.away()
    said = follow(running.app, monkeypatch)
    assert (said["status"], said["problems"], said["warnings"]) == ("ready", [], [UNREAD])
    assert status(running.app) == 200
    table.back()
    table.put(enabled=False)
    assert follow(running.app, monkeypatch)["warnings"] == []
    assert status(running.app) == 401


def test_a_production_that_never_read_the_database_s_clients_is_not_ready(
    running: Production, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.put()
    table.away()
    app = running.another()
    answer = app.test_client().get("/readyz")
    said = answer.get_json()
    assert (answer.status_code, said["problems"], said["warnings"]) == (503, [NEVER_READ], [UNREAD])
    assert status(app) == 401
    headers = {"Authorization": bearer()}
    assert app.test_client().post(URL, json=undated(), headers=headers).status_code == 200  # of the file
    table.back()
    said = follow(app, monkeypatch)
    assert (said["status"], said["problems"], said["warnings"]) == ("ready", [], [])
    assert status(app) == 200
    app.extensions["decision_log"].close()


def test_a_production_that_finds_nobody_says_that_it_could_not_look(running: Production, table: Table) -> None:
    table.put()
    table.away()
    running.file.write_text('{"clients": []}')
    with pytest.raises(SettingsError, match="the database's clients cannot be read"):
        running.another()


def test_a_client_taken_out_of_the_file_is_refused_though_the_database_is_gone(
    running: Production, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.put()
    follow(running.app, monkeypatch)
    table.away()
    running.file.write_text(json.dumps({"clients": [{**MAIN, "disabled": True}]}))
    assert follow(running.app, monkeypatch)["warnings"] == [UNREAD]
    running.refuses(bearer(), "disabled")
    assert status(running.app) == 200


def test_a_client_taken_out_of_the_database_is_refused_though_the_file_turned_bad(
    running: Production, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.put()
    follow(running.app, monkeypatch)
    running.file.write_text("clients: [")
    table.put(enabled=False)
    (warning,) = follow(running.app, monkeypatch)["warnings"]
    assert "neither JSON nor YAML" in warning
    assert status(running.app) == 401
    assert running.call(bearer()).status_code == 200


def test_the_reason_names_neither_server_nor_user() -> None:
    source = DatabaseClients(ClientStore(Database("postgresql://CANARY-USER:CANARY-WORD@127.0.0.1:1/CANARY")))
    with pytest.raises(ClientsUnavailable) as problem:
        source.clients()
    assert str(problem.value) == "the database's clients cannot be read (OperationalError)"


def test_commands_say_that_the_list_is_not_whole(running: Production, table: Table) -> None:
    table.put()
    table.away()
    environment = {**os.environ, "CDS_DATABASE_URL": running.url, "CDS_CLIENTS_FILE": str(running.file)}

    def command(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["client", *arguments], env=environment)
        return done.exit_code, done.output

    listed, absent = command("list"), command("test", "stored")
    added = command("add", "main", "--name", "x", "--issuer", "urn:x", "--jku", "https://x.example/jwks")
    assert (listed[0], absent[0], added[0]) == (0, 1, 1)
    assert "main" in listed[1]
    for _, said in (listed, absent, added):
        assert "the database's clients cannot be read" in said


# --- revocation beside dead key sets


class Dead:
    """Key sets that are never answered, each asked for as long as one may be, on a clock of the test's.

    As many as are asked for at once take that time together.
    """

    def __init__(self, number: int) -> None:
        self.lock = threading.Lock()
        self.now = 0.0
        self.asked: list[str] = []
        self.read_at: list[float] = []
        record = {"name": "X", "jku": "https://dead.example/jwks"}
        self.records = [{**record, "id": f"d{n:02}", "issuer": f"urn:{n}"} for n in range(number)]

    def clients(self) -> Sequence[Client]:
        self.read_at.append(self.now)
        return [client_of(record, "test") for record in self.records]

    def __call__(self, client: Client) -> bytes:
        with self.lock:
            self.asked.append(client.id)
            if len(self.asked) % keys.AT_ONCE == 0:
                self.now += KEYS_SECONDS
        raise OSError("no answer in time")


def test_forty_dead_key_sets_do_not_delay_a_revocation() -> None:
    """Each step of the thread, with what it would have waited; between two looks never more than was promised."""
    dead = Dead(40)
    ring = KeyRing(ClientRegistry([dead]), dead, lambda: dead.now)
    while dead.now < 600:
        ring.refresh()
        dead.now += ring.rest()
    assert set(dead.asked) == {record["id"] for record in dead.records}
    gaps = [later - earlier for earlier, later in zip(dead.read_at, dead.read_at[1:], strict=False)]
    assert max(gaps) + WAIT_SECONDS <= PROMISED  # with the time for which a database is waited for
    assert min(gaps[1:]) >= REGISTRY_SECONDS  # and it is not asked again and again


def test_a_client_that_comes_while_forty_are_dead_has_its_keys_in_the_next_round() -> None:
    dead = Dead(40)
    good = {"id": "z-good", "name": "Good", "issuer": "urn:good", "jku": "https://good.example/jwks"}
    published = json.dumps({"keys": [jwk(ec_key(), "k1")]}).encode()
    ring = KeyRing(
        ClientRegistry([dead]), lambda client: published if client.id == "z-good" else dead(client), lambda: dead.now
    )
    ring.refresh()
    assert dead.now >= REGISTRY_SECONDS
    dead.records.append(good)
    ring.refresh()
    assert ring.find(client_of(good, "test"), "k1") is not None


def test_dead_key_sets_are_asked_at_the_same_time() -> None:
    """Really: each waits until as many are waiting as may."""
    dead = Dead(keys.AT_ONCE)
    together = threading.Barrier(keys.AT_ONCE, timeout=10)

    def load(_: Client) -> bytes:
        together.wait()
        raise OSError("no answer in time")

    KeyRing(ClientRegistry([dead]), load).refresh()
    assert together.broken is False


def test_the_running_thread_looks_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REGISTRY_SECONDS", 0.01)
    often = threading.Event()

    class Counted(Dead):
        def clients(self) -> Sequence[Client]:
            found = super().clients()
            if len(self.read_at) == 5:
                often.set()
            return found

    KeyRing(ClientRegistry([source := Counted(0)]), source).start()
    assert often.wait(10)
