"""The service in the sandbox and in production, with the answers to the samples, for tests over HTTP."""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from forge import claims, ec_key, jwk, rsa_key, token
from infants import Json, library
from wire import SAMPLES, URL, post, sample

from cds_service.app import create_app
from cds_service.hooks.request import AS_OF
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web import logs

PUBLIC = "https://cds.example"
ISSUER = "https://ehr.example"
JKU = f"{ISSUER}/jwks"
EC, RSA = ec_key(), rsa_key()
MAIN = {
    "id": "main", "name": "Main", "issuer": ISSUER, "jku": JKU, "audiences": ["sand_man"],
    "jwks": {"keys": [jwk(EC, "ec"), jwk(RSA, "rsa", alg="RS384"), jwk(EC, "a+b/c=")]},
}  # fmt: skip


def opened(folder: Path, **more: Any) -> Flask:
    """A sandbox with an https address and a database of its own."""
    return create_app(
        Settings(database_url=f"sqlite:///{folder}/s.sqlite3", **{"public_url": PUBLIC, **more}), library()
    )


class Production:
    """The service in production, as its registered clients find it; with the library given, drafts speak too."""

    def __init__(self, folder: Path, clients: Sequence[Json] = (MAIN,), **more: Any) -> None:
        self.file = folder / "clients.json"
        self.file.write_text(json.dumps({"clients": list(clients)}))
        self.url = f"sqlite:///{folder}/p.sqlite3"
        upgrade(Database(self.url))
        self.app = self.another(**more)
        self.client = self.app.test_client()

    def another(self, **more: Any) -> Flask:
        """One more worker of the same service."""
        return create_app(
            Settings(
                profile=Profile.PRODUCTION, public_url=PUBLIC, database_url=self.url, clients_file=self.file, **more
            ),
            library(),
        )

    def call(self, authorization: str | None, path: str = URL, body: Any = None, **more: Any) -> Any:
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.client.post(path, json=undated() if body is None else body, headers=headers, **more)

    def causes(self) -> dict[str, float]:
        """How many callers were refused, by cause."""
        lines = [
            line
            for line in self.client.get("/metrics").text.splitlines()
            if line.startswith("cds_tokens_refused_total{")
        ]
        return {line.split('cause="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def refuses(self, authorization: str | None, cause: str, **how: Any) -> None:
        """The call is answered by an empty 401, for this cause."""
        before = self.causes().get(cause, 0)
        answer = self.call(authorization, **how)
        assert (answer.status_code, answer.data) == (401, b"")
        assert self.causes()[cause] == before + 1


def undated() -> Json:
    """A request without the sandbox's as-of date."""
    body = sample("clustered-awake-jerks")
    del body["extension"]
    return body


def bearer(*key: Any, header: Json | None = None, **changes: Any) -> str:
    """A token of the main client, good but for these changes."""
    return f"Bearer {token(key[0] if key else EC, claims(**changes), **(header or {}))}"


def kept(app: Flask) -> list[Json]:
    """The decisions in the log, once all are written."""
    from sqlalchemy import text

    app.extensions["decision_log"].close()
    with app.extensions["database"].reading() as connection:
        return [dict(row) for row in connection.execute(text("SELECT * FROM decisions")).mappings()]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    app = opened(tmp_path_factory.mktemp("sandbox"))
    yield app.test_client()
    app.extensions["decision_log"].close()


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    running = Production(tmp_path_factory.mktemp("production"))
    yield running
    running.app.extensions["decision_log"].close()


@pytest.fixture(scope="session")
def every_answer(sandbox: FlaskClient) -> dict[str, Json]:
    """What is answered over HTTP to each sample."""
    answers = {name: post(sandbox, sample(name)) for name in SAMPLES}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: answer.get_json() for name, answer in answers.items()}


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the service logs: the lines of our logger, and those of libraries in our form.

    capfd sees nothing of the former, for the logger took sys.stderr when it was imported; caplog has the latter in
    another form, which nobody writes.
    """
    written = io.StringIO()
    monkeypatch.setattr(logs.logger, "_logger", structlog.PrintLogger(written))
    libraries = logging.StreamHandler(written)
    libraries.setFormatter(logs.LibraryLines())
    logging.getLogger().addHandler(libraries)
    yield written
    logging.getLogger().removeHandler(libraries)


@pytest.fixture
def answers(every_answer: dict[str, Json]) -> dict[str, Json]:
    return copy.deepcopy(every_answer)


@pytest.fixture
def cards(answers: dict[str, Json]) -> list[Json]:
    """Every card of every sample: of each indicator, and of most topics."""
    found = [card for body in answers.values() for card in body["cards"]]
    assert len(found) > 30
    assert {card["indicator"] for card in found} == {"info", "warning", "critical"}
    return found


@pytest.fixture
def suggestions(cards: list[Json]) -> list[Json]:
    found = [suggestion for card in cards for suggestion in card.get("suggestions", ())]
    assert len(found) > 30
    return found


@pytest.fixture
def discovered(sandbox: FlaskClient) -> Json:
    """The one service in discovery."""
    answer = sandbox.get("/cds-services")
    (service,) = answer.get_json()["services"]
    found: Json = service
    return found


def dated(**changes: Any) -> Json:
    """A request that is answered with cards, some members changed; the as-of date stays unless it is changed."""
    return {**sample("clustered-awake-jerks"), **changes}


assert dated()["extension"].keys() == {AS_OF}
