"""Feedback: what is taken, what is refused, and that it is kept once, for the right client and card."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask, g
from hypothesis import given
from hypothesis import strategies as st
from infants import BASIS
from sqlalchemy import create_engine, text
from wire import JUNK, URL, post, refused, sample

from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import InvalidRequest, MalformedJson, StoreUnavailable
from cds_service.hooks.feedback import LONGEST_COMMENT, MOST_ENTRIES, parse_feedback
from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.store.feedback import FeedbackStore
from cds_service.store.schema_version import upgrade

FEEDBACK = f"{URL}/feedback"
AT = "2026-11-22T10:00:00Z"
CARD = "9368d37b-283f-44a0-93ea-547cebab93ed"
SUGGESTION = "7b0c8a4e-0f3b-4f7e-8d6e-1f0f5b4d2c11"
ACCEPTED = {"card": CARD, "outcome": "accepted", "acceptedSuggestions": [{"id": SUGGESTION}], "outcomeTimestamp": AT}
CODING = {"code": "seen", "system": "https://ehr.example/reasons", "display": "Seen already"}
OVERRIDDEN = {
    "card": CARD, "outcome": "overridden", "outcomeTimestamp": AT,
    "overrideReason": {"reason": CODING, "userComment": "CANARY-COMMENT"},
}  # fmt: skip


class Service:
    """The service on a database, with what it keeps; ``caller`` is the client that the trust room has recognised."""

    def __init__(self, url: str) -> None:
        opened = Database(url)
        upgrade(opened)
        opened.close()
        self.app: Flask = create_app(Settings(database_url=url))
        self.caller: str | None = None
        self.app.before_request(self._recognise)
        self.client = self.app.test_client()
        self.log = self.app.extensions["decision_log"]
        self.database: Database = self.app.extensions["database"]

    def _recognise(self) -> None:
        g.client = None if self.caller is None else SimpleNamespace(id=self.caller)

    def give(self, *entries: Any, **how: Any) -> Any:
        return self.client.post(FEEDBACK, json={"feedback": list(entries)}, **how)

    def kept(self) -> list[dict[str, Any]]:
        return [dict(row) for row in FeedbackStore(self.database).joined()]

    def metrics(self) -> str:
        return str(self.client.get("/metrics").get_data(as_text=True))

    def shown(self, name: str = "clustered-awake-jerks") -> dict[str, Any]:
        """The first card of a sample, whose decision is still on its way to the log."""
        card: dict[str, Any] = post(self.client, sample(name)).get_json()["cards"][0]
        return card

    def close(self) -> None:
        self.log.close()
        self.database.close()


@pytest.fixture
def service(url: str) -> Iterator[Service]:
    running = Service(url)
    yield running
    running.close()


@pytest.fixture
def small(tmp_path: Any) -> Iterator[Service]:
    """The service on SQLite, for what does not depend on the database."""
    running = Service(f"sqlite:///{tmp_path}/small.sqlite3")
    yield running
    running.close()


def test_FB_1_the_endpoint_stands_under_each_service(small: Service) -> None:
    assert small.give(ACCEPTED).status_code == 200
    refused(small.client.post("/cds-services/other/feedback", json={"feedback": []}), 404, "service.unknown")
    answer = small.client.get(FEEDBACK)
    refused(answer, 405, "method")
    assert answer.headers["Allow"] == "POST, OPTIONS"
    refused(small.client.post(FEEDBACK, data=b"{}", content_type="text/plain"), 415, "media-type")


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"feedback":null}', b'{"feedback":{}}', b'"x"', json.dumps(ACCEPTED).encode()]
)
def test_FB_2_a_body_without_the_array_is_refused_and_nothing_is_kept(small: Service, body: bytes) -> None:
    refused(small.client.post(FEEDBACK, data=body, content_type="application/json"), 400, "feedback.envelope")
    assert small.kept() == []


def test_FB_2_a_batch_across_cards_and_instances_is_taken_whole(service: Service) -> None:
    batch = [ACCEPTED | {"card": f"card-{number}"} for number in range(MOST_ENTRIES)]
    answer = service.give(*batch)
    assert (answer.status_code, answer.get_json()) == (200, {"accepted": MOST_ENTRIES, "rejected": 0})
    assert {row["card_uuid"] for row in service.kept()} == {entry["card"] for entry in batch}


def test_FB_2_a_batch_that_is_too_large_is_refused_whole(small: Service) -> None:
    refused(small.give(*[ACCEPTED] * (MOST_ENTRIES + 1)), 413, "feedback.size")
    assert small.kept() == []


def test_FB_2_an_empty_batch_is_no_error(small: Service) -> None:
    assert small.give().get_json() == {"accepted": 0, "rejected": 0}


@pytest.mark.parametrize(("entry", "place"), [
    (ACCEPTED | {"card": None}, "card"), (ACCEPTED | {"card": 5}, "card"), (ACCEPTED | {"card": " "}, "card"),
    (ACCEPTED | {"card": "x" * 257}, "card"), (ACCEPTED | {"outcome": "ignored"}, "outcome"),
    (ACCEPTED | {"outcome": []}, "outcome"), (ACCEPTED | {"outcomeTimestamp": None}, "outcomeTimestamp"),
    (ACCEPTED | {"outcomeTimestamp": "yesterday"}, "outcomeTimestamp"),
    (ACCEPTED | {"outcomeTimestamp": "2026-11-22"}, "outcomeTimestamp"),
    (ACCEPTED | {"outcomeTimestamp": "2026-13-22T10:00:00Z"}, "outcomeTimestamp"),
    (ACCEPTED | {"outcomeTimestamp": "0001-01-01T00:00:00+23:59"}, "outcomeTimestamp"),
    (ACCEPTED | {"outcomeTimestamp": "２026-11-22T10:00:00Z"}, "outcomeTimestamp"),
    (ACCEPTED | {"acceptedSuggestions": "s"}, "acceptedSuggestions"),
    (ACCEPTED | {"acceptedSuggestions": [{}]}, "acceptedSuggestions"),
    (ACCEPTED | {"acceptedSuggestions": ["s"]}, "acceptedSuggestions"),
    (ACCEPTED | {"acceptedSuggestions": [{"id": str(n)} for n in range(51)]}, "acceptedSuggestions"),
])  # fmt: skip
def test_FB_10_a_bad_entry_is_named_and_the_others_are_taken(small: Service, entry: Any, place: str) -> None:
    answer = small.give(entry, ACCEPTED)
    assert answer.status_code == 200
    assert answer.get_json() == {"accepted": 1, "rejected": 1, "problems": [f"feedback[0].{place}"]}
    assert [row["card_uuid"] for row in small.kept()] == [CARD]
    assert "cds_feedback_rejected_total 1.0" in small.metrics()


def test_FB_10_an_entry_that_is_no_object_is_named(small: Service) -> None:
    assert small.give(None, ACCEPTED, "x").get_json()["problems"] == ["feedback[0]", "feedback[2]"]
    assert len(small.kept()) == 1


def test_FB_3_a_card_is_joined_to_its_rules_and_decision(service: Service) -> None:
    card = service.shown()
    service.give(ACCEPTED | {"card": card["uuid"].upper()})
    service.log.close()
    (row,) = service.kept()
    basis = card["extension"][BASIS]
    assert (row["family"], row["indicator"]) == (card["source"]["topic"]["code"], card["indicator"])
    assert (row["rules"], row["workups"]) == (basis["rules"], basis["workups"])
    assert row["rules"][0].keys() == {"id", "version"}
    assert (row["rule_set_hash"], row["request_id"]) != (None, None)


def test_FB_4_both_outcomes_are_taken_and_counted(small: Service) -> None:
    small.give(ACCEPTED, OVERRIDDEN)
    assert [row["outcome"] for row in small.kept()] == ["accepted", "overridden"]
    assert 'cds_feedback_total{outcome="accepted"} 1.0' in small.metrics()
    assert 'cds_feedback_total{outcome="overridden"} 1.0' in small.metrics()


def test_FB_5_the_suggestions_accepted_are_kept(small: Service) -> None:
    small.give(ACCEPTED | {"acceptedSuggestions": [{"id": "b"}, {"id": SUGGESTION.upper()}, {"id": "b"}]})
    small.give({name: value for name, value in ACCEPTED.items() if name != "acceptedSuggestions"})
    assert [row["suggestions"] for row in small.kept()] == [[SUGGESTION, "b"], []]


def test_FB_6_reason_and_comment_are_kept(service: Service) -> None:
    service.give(OVERRIDDEN)
    (row,) = service.kept()
    assert (row["reason_code"], row["reason_system"], row["reason_display"]) == tuple(CODING.values())
    assert (row["comment"], row["comment_cut"]) == ("CANARY-COMMENT", False)


@pytest.mark.parametrize(("reason", "code", "comment"), [
    ({"overrideReason": {"reason": {"code": "x"}}}, "x", None),
    ({"overrideReason": {"userComment": "y"}}, None, "y"), ({"overrideReason": {}}, None, None),
    ({"overrideReason": None}, None, None), ({"overrideReason": "free"}, None, None), ({}, None, None),
    ({"overrideReason": {"reason": "x", "userComment": 5}}, None, None),
    ({"overrideReason": {"reason": {"code": 5}}}, None, None),
    ({"overrideReasons": {"reason": {"code": "x"}, "userComment": "y"}}, "x", "y"),
    ({"overrideReasons": [{"reason": {"code": "x"}}]}, "x", None), ({"overrideReasons": []}, None, None),
])  # fmt: skip
def test_FB_6_FB_11_reasons_in_the_forms_that_are_seen(small: Service, reason: Any, code: Any, comment: Any) -> None:
    bare = {name: value for name, value in OVERRIDDEN.items() if name != "overrideReason"}
    assert small.give(bare | reason).get_json()["accepted"] == 1
    (row,) = small.kept()
    assert (row["reason_code"], row["comment"]) == (code, comment)


def test_FB_11_epic_s_card_id_reason_and_extensions_are_taken(small: Service) -> None:
    name = "com.epic.cdshooks.feedback.overrideReason."
    entry = {
        "card": "123456", "outcome": "overridden", "outcomeTimestamp": AT, "extension": {"x": [1]},
        "overrideReasons": {
            "extension": {f"{name}id": "7", f"{name}title": "Not now", "other": "x", f"{name}odd": {}},
            "userComment": "later",
        },
    }  # fmt: skip
    assert small.client.post(FEEDBACK, json={"feedback": [entry], "extension": {"y": 1}}).get_json()["accepted"] == 1
    (row,) = small.kept()
    assert (row["card_uuid"], row["reason_extension"]) == ("123456", '{"id":"7","title":"Not now"}')


@pytest.mark.parametrize(("written", "kept"), [
    ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000+00:00"),
    ("2026-11-22t10:00:00z", "2026-11-22T10:00:00.000000+00:00"),
    ("2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.123456+00:00"),
    ("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00.000000+00:00"),
    ("2026-11-22T10:00:00-0530", "2026-11-22T15:30:00.000000+00:00"),
    ("2026-11-22T10:00:00", "2026-11-22T10:00:00.000000+00:00"),
])  # fmt: skip
def test_FB_7_the_timestamp_is_kept_in_utc(written: str, kept: str) -> None:
    body = json.dumps({"feedback": [ACCEPTED | {"outcomeTimestamp": written}]}).encode()
    assert parse_feedback(body).entries[0].outcome_at == kept


def test_FB_8_the_same_statement_is_kept_once_however_often_it_comes(service: Service) -> None:
    same_moment = ACCEPTED | {"outcomeTimestamp": "2026-11-22T11:00:00.000+01:00"}
    for _ in range(3):
        assert service.give(ACCEPTED, same_moment, ACCEPTED).get_json() == {"accepted": 3, "rejected": 0}
    assert len(service.kept()) == 1
    service.give(OVERRIDDEN, ACCEPTED | {"outcomeTimestamp": "2026-11-22T10:00:01Z"}, ACCEPTED | {"card": "other"})
    service.give(ACCEPTED | {"acceptedSuggestions": [{"id": "another"}]})
    assert len(service.kept()) == 5


def test_FB_8_a_card_that_was_given_twice_is_joined_once(service: Service) -> None:
    card = service.shown()
    assert service.shown()["uuid"] == card["uuid"]
    service.give(ACCEPTED | {"card": card["uuid"]})
    service.log.close()
    (row,) = service.kept()
    assert row["family"] == card["source"]["topic"]["code"]


def test_FB_11_feedback_that_overtakes_its_card_is_joined_later(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setattr("cds_service.store.decisions.LINGER", 60)
    card = service.shown()
    assert service.give(ACCEPTED | {"card": card["uuid"]}).status_code == 200
    assert [row["family"] for row in service.kept()] == [None]
    assert "cds_feedback_unknown_cards_total 1.0" in service.metrics()
    service.log.close()
    assert [row["family"] for row in service.kept()] == [card["source"]["topic"]["code"]]


def test_FB_11_an_unknown_card_is_taken_and_counted(small: Service) -> None:
    assert small.give(ACCEPTED).get_json() == {"accepted": 1, "rejected": 0}
    assert [row["family"] for row in small.kept()] == [None]
    assert "cds_feedback_unknown_cards_total 1.0" in small.metrics()


def test_FB_9_FB_12_a_card_of_another_client_is_like_one_never_given(service: Service) -> None:
    service.caller = "hospital-a"
    card = service.shown()
    service.log.close()
    service.caller = "hospital-b"
    answers = [service.give(ACCEPTED | {"card": uuid}) for uuid in (card["uuid"], CARD)]
    assert answers[0].data == answers[1].data
    assert {row["family"] for row in service.kept()} == {None}
    service.caller = "hospital-a"
    service.give(ACCEPTED | {"card": card["uuid"]})
    assert [(row["client_id"], row["family"]) for row in service.kept()] == [
        ("hospital-b", None), ("hospital-b", None), ("hospital-a", card["source"]["topic"]["code"]),
    ]  # fmt: skip


def test_FB_12_a_client_that_makes_the_same_card_uuid_does_not_get_the_other_s_feedback(service: Service) -> None:
    for caller in ("hospital-a", "hospital-b"):
        service.caller = caller
        card = service.shown()
    service.log.close()
    service.caller = "hospital-a"
    service.give(ACCEPTED | {"card": card["uuid"]})
    assert [row["client_id"] for row in service.kept()] == ["hospital-a"]


def test_FB_12_the_comment_is_cut_and_never_logged(small: Service, log_lines: io.StringIO, capfd: Any) -> None:
    long = "CANARY-COMMENT " + "x" * LONGEST_COMMENT
    answer = small.give(OVERRIDDEN | {"overrideReason": {"userComment": long}}, OVERRIDDEN | {"card": ["CANARY-CARD"]})
    (row,) = small.kept()
    assert (row["comment"], row["comment_cut"]) == (long[:LONGEST_COMMENT], True)
    logged = log_lines.getvalue()
    (line,) = [line for line in map(json.loads, logged.splitlines()) if line["event"] == "feedback"]
    assert (line["accepted"], len(line["rejected"])) == (1, 1)
    assert "CANARY" not in logged + answer.text + small.metrics() + "".join(capfd.readouterr())


@pytest.mark.parametrize("text_", ["NUL \0 in it", "\N{PILE OF POO}", "'; DROP TABLE feedback; --", "=HYPERLINK(1)"])
def test_FB_12_any_text_is_kept(service: Service, text_: str) -> None:
    service.give(OVERRIDDEN | {"card": text_, "overrideReason": {"reason": {"code": text_}, "userComment": text_}})
    (row,) = service.kept()
    assert {row["card_uuid"], row["reason_code"], row["comment"]} == {text_.replace("\0", "\N{REPLACEMENT CHARACTER}")}


def test_what_cannot_be_written_is_not_acknowledged_and_can_be_sent_again(tmp_path: Any) -> None:
    service = Service(f"sqlite:///{tmp_path}/locked.sqlite3")
    service.database.close()
    engine = create_engine(f"sqlite:///{tmp_path}/locked.sqlite3", isolation_level="AUTOCOMMIT")
    with engine.connect() as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr("cds_service.store.database.PRAGMAS", ("busy_timeout=10", "synchronous=FULL"))
        other.execute(text("BEGIN IMMEDIATE"))
        answer = service.give(ACCEPTED)
        refused(answer, 503, "store.unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert service.client.post(URL, json=sample("clustered-awake-jerks")).status_code == 200
        other.execute(text("ROLLBACK"))
    engine.dispose()
    assert service.kept() == []
    assert service.give(ACCEPTED).status_code == 200
    assert len(service.kept()) == 1
    service.close()


def test_on_a_full_disk_feedback_is_refused_and_cards_go_on(tmp_path: Any) -> None:
    service = Service(f"sqlite:///{tmp_path}/full.sqlite3")
    with service.database.reading() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    service.database.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cds_service.store.database.PRAGMAS", ("synchronous=FULL", f"max_page_count={pages}"))
        batch = [OVERRIDDEN | {"card": str(n), "overrideReason": {"userComment": "x" * 2000}} for n in range(100)]
        refused(service.give(*batch), 503, "store.unavailable")
        assert len(post(service.client, sample("clustered-awake-jerks")).get_json()["cards"]) > 0
        service.database.close()
    assert service.kept() == []
    assert service.give(*batch).get_json()["accepted"] == 100
    service.close()


def test_a_database_that_is_gone_refuses_feedback_and_not_cards() -> None:
    app = create_app(Settings(database_url="sqlite:////nowhere/at/all/x.sqlite3"))
    client = app.test_client()
    refused(client.post(FEEDBACK, json={"feedback": [ACCEPTED]}), 503, "store.unavailable")
    assert client.post(URL, json=sample("clustered-awake-jerks")).status_code == 200
    app.extensions["decision_log"].close()


def test_the_command_counts_what_was_given_and_said(service: Service, url: str) -> None:
    card = service.shown()
    service.give(
        ACCEPTED | {"card": card["uuid"]},
        OVERRIDDEN | {"card": card["uuid"], "overrideReason": {"reason": {"code": "seen"}, "userComment": "CANARY"}},
        ACCEPTED,
    )
    service.log.close()
    environment = {"CDS_DATABASE_URL": url, "COLUMNS": "120"}
    done = CliRunner().invoke(main, ["feedback"], env=environment)
    assert done.exit_code == 0, done.output
    table = done.stdout
    lines = {line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
             for line in table.splitlines() if line.startswith("│")}  # fmt: skip
    assert lines[card["source"]["topic"]["code"]] == ["1", "1", "1", "seen 1"]
    assert lines["(not in the log)"] == ["0", "1", "0", ""]
    told = CliRunner().invoke(main, ["feedback", "--json", "--since", "2026-01-01"], env=environment).stdout
    statements = [json.loads(line) for line in told.splitlines()]
    assert [item["commented"] for item in statements] == [False, True, False]
    assert statements[0]["rules"] == card["extension"][BASIS]["rules"]
    assert "CANARY" not in table + told


ENTRIES = st.lists(
    st.fixed_dictionaries({}, optional={
        "card": JUNK | st.just(CARD), "outcome": JUNK | st.sampled_from(["accepted", "overridden"]),
        "outcomeTimestamp": JUNK | st.just(AT), "acceptedSuggestions": JUNK | st.just([{"id": "s"}]),
        "overrideReason": JUNK | st.fixed_dictionaries({"reason": JUNK | st.just(CODING), "userComment": JUNK}),
        "overrideReasons": JUNK, "extension": JUNK,
    }) | JUNK, max_size=4,
)  # fmt: skip


@given(ENTRIES)
def test_any_entries_are_each_taken_or_named(entries: list[Any]) -> None:
    found = parse_feedback(json.dumps({"feedback": entries}).encode())
    assert len(found.entries) + len(found.rejected) == len(entries)


@given(st.binary(max_size=60) | JUNK.map(lambda value: json.dumps({"feedback": value}).encode()))
def test_any_bytes_are_feedback_or_refused_in_words(body: bytes) -> None:
    try:
        found = parse_feedback(body)
    except (MalformedJson, InvalidRequest):
        return
    assert isinstance(json.loads(body)["feedback"], list) and len(found.entries) <= MOST_ENTRIES


def test_a_store_that_fails_in_the_middle_keeps_nothing(tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/half.sqlite3")
    upgrade(database)
    store = FeedbackStore(database)
    rows = [
        entry._asdict() for entry in parse_feedback(json.dumps({"feedback": [ACCEPTED, OVERRIDDEN]}).encode()).entries
    ]
    rows[1]["comment_cut"] = None
    with pytest.raises(StoreUnavailable):
        store.keep(rows, "", "s", "2026")
    database.close()
    plain = sqlite3.connect(tmp_path / "half.sqlite3")
    assert plain.execute("SELECT count(*) FROM feedback").fetchone() == (0,)
    plain.close()
