"""Which rules speak at this moment: stopped ones are silent in every worker and after a restart, signed ones speak."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from infants import library
from services import PUBLIC, Production, bearer, opened
from sqlalchemy import text
from wire import URL, sample

from cds_service.app import create_app
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards
from cds_service.settings import Settings
from cds_service.store.database import WAIT_SECONDS, Database
from cds_service.store.one_decision import decision_by_request
from cds_service.store.stops import lift, stop
from cds_service.web import in_force

JERKS = "clustered-awake-jerks"
AT = "2026-11-26T10:00:00.000+00:00"
LOOK = in_force.LOOK_SECONDS


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks each time that it is asked."""
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 0.0)


def rules_on_cards(app: Flask, name: str = JERKS) -> set[str]:
    answer = app.test_client().post(URL, json=sample(name))
    assert answer.status_code == 200
    cards = answer.get_json()["cards"]
    return {rule["id"] for card in cards for rule in card["extension"]["example.infant-motor-cds.basis"]["rules"]}


def ready(app: Flask) -> Any:
    return app.test_client().get("/readyz").get_json()


def another(app: Flask) -> Flask:
    """One more worker on the same database."""
    url = str(app.extensions["database"].url)
    return create_app(Settings(database_url=url, public_url=PUBLIC), library())


def test_five_seconds_are_enough_for_every_worker() -> None:
    assert LOOK + WAIT_SECONDS < 5
    assert in_force.LATE_SECONDS > LOOK + WAIT_SECONDS


def test_a_stopped_rule_is_silent_in_all_workers_and_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    second = another(first)
    assert JERKS in rules_on_cards(first) & rules_on_cards(second)
    assert stop(first.extensions["database"], JERKS, "Anna Berg", "wrong on sleep jerks", AT)
    for app in (first, second, another(first)):
        assert JERKS not in rules_on_cards(app)
        assert ready(app)["stopped"] == [JERKS]
        assert ready(app)["speaking"] == len(library().rules) - 1
    assert lift(first.extensions["database"], JERKS, "Ola Dahl", "mended", AT)
    for app in (first, second):
        assert JERKS in rules_on_cards(app)
        assert ready(app)["stopped"] == []


def test_what_a_stopped_rule_would_have_said_is_logged_as_silent(tmp_path: Path) -> None:
    app = opened(tmp_path)
    stop(app.extensions["database"], JERKS, "Anna Berg", "for a test", AT)
    answer = app.test_client().post(URL, json=sample(JERKS))
    app.extensions["decision_log"].close()
    found = decision_by_request(app.extensions["database"], answer.headers["X-Request-Id"], None)
    assert found is not None
    assert found.outcomes[JERKS] == "recommended (silent)"


def test_a_stop_takes_no_room_for_reassurance(tmp_path: Path) -> None:
    """Its infant gets no calming card in its place."""
    app = opened(tmp_path)
    for rule in library().rules:
        if not any(item.workup == "reassurance" for item in rule.recommend):
            stop(app.extensions["database"], rule.id, "Anna Berg", "all", AT)
    answer = app.test_client().post(URL, json=sample(JERKS)).get_json()
    assert answer["cards"] == []
    assert rules_on_cards(app, "jittery-newborn")  # where nothing else would speak, it is still given


def test_while_the_database_is_away_the_known_stops_hold_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(tmp_path)
    stop(app.extensions["database"], JERKS, "Anna Berg", "for a test", AT)
    assert JERKS not in rules_on_cards(app)
    with app.extensions["database"].writing() as connection:
        connection.execute(text("ALTER TABLE rule_stops RENAME TO away"))
    monkeypatch.setattr(in_force, "LATE_SECONDS", -1.0)
    assert JERKS not in rules_on_cards(app)
    assert [w for w in ready(app)["warnings"] if "whether one was stopped cannot be read" in w]


def test_a_restart_of_production_while_the_database_is_away_lifts_no_stop(tmp_path: Path) -> None:
    production = Production(tmp_path)
    database = production.app.extensions["database"]
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE rule_stops RENAME TO away"))
    restarted = production.another()

    def call(app: Flask) -> Any:
        body = {key: value for key, value in sample(JERKS).items() if key != "extension"}
        return app.test_client().post(URL, json=body, headers={"Authorization": bearer()})

    answer = call(restarted)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.get_json()["issue"][0]["details"]["coding"][0]["code"] == "rules.unknown"
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO rule_stops"))
    assert call(restarted).status_code == 200
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE rule_stops RENAME TO away"))
    assert call(restarted).status_code == 200  # what was read once holds, and cards go on


def test_a_rule_that_does_not_exist_stops_nothing(tmp_path: Path) -> None:
    app = opened(tmp_path)
    stop(app.extensions["database"], "no-such-rule", "Anna Berg", "for a test", AT)
    assert JERKS in rules_on_cards(app)
    assert ready(app)["speaking"] == len(library().rules)


# Signatures that come while the service runs


def signed(file: Path, content: str) -> None:
    """Two signatures of different roles on this content."""
    head = yaml.safe_load((Path(str(packaged_cards())) / "signoff.yaml").read_text(encoding="utf-8"))
    head["signatures"] = {
        JERKS: [
            {"by": name, "role": role, "on": "2026-11-26", "version": "1.1.0", "content": content}
            for name, role in (("Anna Berg", "pediatric-neurologist"), ("Ola Dahl", "clinical-informatician"))
        ]
    }
    file.write_text(yaml.safe_dump(head), encoding="utf-8")


def test_a_rule_signed_while_production_runs_speaks(tmp_path: Path) -> None:
    file = tmp_path / "signoff.yaml"
    signed(file, "0" * 64)
    production = Production(tmp_path, signoff_file=file)
    unsigned = load_library(signoff_file=file, only_signed=True)
    app = create_app(
        Settings(profile="production", public_url=PUBLIC, database_url=production.url,
                 clients_file=production.file, signoff_file=file), unsigned,
    )  # fmt: skip

    def families() -> list[str]:
        body = {key: value for key, value in sample(JERKS).items() if key != "extension"}
        answer = app.test_client().post(URL, json=body, headers={"Authorization": bearer()})
        assert answer.status_code == 200
        return [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]

    assert families() == []
    signed(file, unsigned.contents[JERKS])
    assert "eeg" in families()
    description = app.test_client().get("/cds-services").get_json()["services"][0]["description"]
    assert "signed 1 of" in description
    file.write_text("signatures: [")
    assert "eeg" in families()
    assert [w for w in ready(app)["warnings"] if "sign-off file cannot be read" in w]
    signed(file, "0" * 64)
    assert families() == []


def test_the_thread_looks_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 0.01)
    rules = in_force.RulesInForce(library(), Settings(), Database(f"sqlite:///{tmp_path}/s.sqlite3"))
    seen = threading.Event()
    whole, times = rules.look, []

    def look() -> None:
        times.append(1)
        if len(times) == 3:
            raise RuntimeError("a defect")
        if len(times) > 4:
            seen.set()
        whole()

    monkeypatch.setattr(rules, "look", look)
    rules.start()
    assert seen.wait(10)
    rules.end()
