"""A browser that behaves as CDS Hooks clients do (tests/client/page), with a real FHIR server behind it.

The official Sandbox can be had neither from a registry nor as a whole from the index of public code, so this client
is written from what its source and the vendors' texts say (docs/decisions/0011-real-clients.md).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from forge import ec_key, jwk
from jwt.algorithms import ECAlgorithm
from lacking import lacking
from medplum import ACCESS, CLIENT, Medplum, running_medplum
from serving import Service, running
from wire import FIXTURES, Json

from cds_service.store.database import Database
from cds_service.store.feedback import FeedbackStore

MISSING = "Chromium is not installed: apt-get install -y chromium"
ISSUER = "https://sandbox.example"
WRITTEN_ON = date(2026, 11, 22)
COMMENT = "seen with the family"
MARKDOWN = {"p", "strong", "em", "ul", "ol", "li", "a", "code"}
HOSTILE = "<img src=x onerror=alert(1)>"


class Stage(NamedTuple):
    """All that a user's browser meets."""

    medplum: Medplum
    service: Service
    page: str
    fields: dict[str, str]


def chromium() -> str:
    """Where Debian's Chromium is."""
    found = shutil.which("chromium")
    if found is not None:
        return found
    lacking(MISSING)


def of_today(name: str) -> Json:
    """A sample with every date moved so that it is as of today, and without an as-of date: real clients send none."""
    gone = datetime.now(UTC).date() - WRITTEN_ON
    text = (FIXTURES / f"{name}.json").read_text(encoding="utf-8")
    moved = re.sub(r"\d{4}-\d\d-\d\d", lambda found: str(date.fromisoformat(found[0]) + gone), text)
    request: Json = json.loads(moved)
    del request["extension"]
    return request


class Quiet(SimpleHTTPRequestHandler):
    """Serves the page and what it is made of, from this machine alone."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served_page() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(CLIENT)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/page/index.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    chromium()
    folder = tmp_path_factory.mktemp("client")
    key = ec_key()
    private = {**json.loads(ECAlgorithm.to_jwk(key)), "kid": "k1"}
    record = {"id": "sandbox", "name": "Sandbox", "issuer": ISSUER, "jwks": {"keys": [jwk(key, "k1")]}}
    (folder / "clients.json").write_text(json.dumps({"clients": [record]}))
    request = of_today("clonus-both-sides")
    with running_medplum() as medplum, served_page() as page:
        medplum.take(request)
        with running(folder, CDS_CLIENTS_FILE=str(folder / "clients.json")) as service:
            fields = {
                "service": f"http://127.0.0.1:{service.port}", "fhir": medplum.base, "access": ACCESS,
                "issuer": ISSUER, "key": json.dumps(private), "patient": request["context"]["patientId"],
                "user": request["context"]["userId"],
            }  # fmt: skip
            yield Stage(medplum, service, page, fields)


def browsed(stage: Stage, **more: Any) -> Json:
    """What a user of the page saw and was told."""
    asked = {"chromium": chromium(), "page": stage.page, "fields": stage.fields, **more}
    done = subprocess.run(
        ["node", "browse.mjs"], cwd=CLIENT, input=json.dumps(asked), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    seen: Json = json.loads(done.stdout)
    return seen


def joined(stage: Stage, count: int) -> dict[str, Any]:
    """The feedback in the database by its outcome, once so many statements are joined to their cards."""
    database = Database(f"sqlite:///{stage.service.database}")
    deadline = time.monotonic() + 20
    while True:
        rows = [dict(row) for row in FeedbackStore(database).joined()]
        if len(rows) == count and all(row["family"] for row in rows):
            database.close()
            return {row["outcome"]: row for row in rows}
        assert time.monotonic() < deadline, rows
        time.sleep(0.05)


@pytest.fixture(scope="module")
def seen(stage: Stage) -> Json:
    """One visit: the chart opened, a suggestion of the first card accepted, the last card dismissed."""
    return browsed(stage, act={"comment": COMMENT})


def test_the_cards_of_the_chart_are_seen(seen: Json) -> None:
    assert seen["state"] == "2 cards"
    assert [card["visible"] for card in seen["cards"]] == [True, True]
    for card in seen["cards"]:
        assert "clonus" in card["summary"].lower()
        assert "Why shown:" in card["detail"] and "Basis:" in card["detail"]
        assert card["suggestions"] and card["reasons"] and card["links"]
    assert (seen["trouble"], seen["elsewhere"]) == ([], [])


def test_the_detail_is_markdown_and_holds_no_html(seen: Json) -> None:
    for card in seen["cards"]:
        assert {"p", "strong"} <= set(card["elements"]) <= MARKDOWN
        assert "**" not in card["detail"] and "\\" not in card["detail"]


def test_html_in_the_record_is_shown_as_text_by_a_client_that_lets_html_through(stage: Stage) -> None:
    spoiled = {"type": "Observation", "id": spoilable(stage), "with": {"id": HOSTILE, "effectiveDateTime": 1}}
    cards = browsed(stage, spoil=spoiled)["cards"]
    assert any("Observation" in card["detail"].partition("Not known:")[2] for card in cards)
    assert not any(HOSTILE in card["detail"] for card in cards)  # an id that is none is not told
    assert all(set(card["elements"]) <= MARKDOWN for card in cards)


def spoilable(stage: Stage) -> str:
    """The body temperature: a result that the cards can do without, and name when it cannot be read."""
    found = stage.medplum.ask("GET", f"Observation?patient={stage.fields['patient']}")["entry"]
    (resource,) = [
        entry["resource"] for entry in found if "8310-5" in [c["code"] for c in entry["resource"]["code"]["coding"]]
    ]
    return str(resource["id"])


def test_an_accepted_suggestion_comes_back_as_feedback_joined_to_its_card(stage: Stage, seen: Json) -> None:
    assert "201" in seen["said"][0] and "accepted: 200" in seen["said"][0]
    row = joined(stage, 2)["accepted"]
    assert (row["client_id"], row["family"], row["indicator"]) == ("sandbox", "imaging", "warning")
    assert len(row["suggestions"]) == 1
    assert row["rules"] and row["request_id"]
    (order,) = stage.medplum.ask("GET", f"ServiceRequest?patient={stage.fields['patient']}")["entry"]
    assert (order["resource"]["status"], order["resource"]["intent"]) == ("draft", "proposal")


def test_an_override_comes_back_with_its_reason_and_comment(stage: Stage, seen: Json) -> None:
    assert "overridden: 200" in seen["said"][-1]
    row = joined(stage, 2)["overridden"]
    assert (row["client_id"], row["family"], row["comment"]) == ("sandbox", "referrals", COMMENT)
    assert row["reason_code"] and row["reason_system"] and row["reason_display"] is None
    assert row["rules"]
