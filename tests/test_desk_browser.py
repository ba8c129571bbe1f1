"""The desk as people meet it: Debian's Chromium, five tasks without JavaScript, axe, the keyboard, narrow and wide.

CDS_SCREENSHOTS=folder keeps a picture of every page, 360 and 1,600 pixels wide, light and dark.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from desk_pages import COMPARED, RULE, RUN, WITH_CARDS, audited, filled, name_of, pages, release_before
from infants import library
from lacking import lacking
from medplum import CLIENT
from people import Person, desk_in_production
from seed_decisions import seed
from serving import PATH, Service, running
from test_real_client import chromium
from wire import Json, sample

from cds_service.log_keys import log_keys
from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.search import Filters, search
from cds_service.trust.identity import IdentityProvider
from cds_service.web.desk.roles import Role

PATIENT_P = "jerks-refuted"
REASON = "Cards of the last days name a workup that was done."
NAMES = [name_of(route) for route in pages()]
MORE = ["rule-long", "search-wrong", "decision-without-input", "patient-unknown", "sandbox-sent", "sandbox-wrong",
        "build-wrong", "refused", "analytics-of-a-rule", "compared"]  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What one visit of the browser told; the service has four weeks of decisions behind it."""
    asked: Json = {"chromium": chromium(), "screenshots": os.environ.get("CDS_SCREENSHOTS", "")}
    if not (CLIENT / "node_modules" / "axe-core").is_dir():
        lacking("axe-core is not installed: npm ci in tests/client")
    folder = tmp_path_factory.mktemp("desk")
    url = f"sqlite:///{folder}/cds.sqlite3"
    database = Database(url)
    upgrade(database)
    keys = log_keys(Settings(database_url=url)).inputs
    seed(database, 1500, weeks=4, end=datetime.now(UTC), keys=keys, library=library())
    oldest = search(database, Filters(indicator="critical"), 100)[-1].id
    settings = {"CDS_RELEASES_DIR": str(release_before(folder)), "CDS_AUDITS_DIR": str(audited(folder))}
    with running(folder, **settings) as service:
        numbers = {name: decided(service, database, name) for name in (WITH_CARDS, PATIENT_P)}
        asked["base"] = f"http://127.0.0.1:{service.port}"
        asked["tasks"] = {
            "why no EEG card": {"patient": sample(PATIENT_P)["context"]["patientId"], "client": "-"},
            "from a card to its passage": {},
            "what changed and whom it touches": {},
            "most overridden rules and the chief reason": {},
            "every form": {},
            "stop one rule": {"rule": library().rule(RULE).title, "reason": REASON},  # type: ignore[union-attr]
        }
        asked["pages"] = {
            name_of(route): {"path": path_of(service, route, numbers[WITH_CARDS])} for route in pages()
        } | more_pages(oldest)  # fmt: skip
        asked["drawn"] = drawn(tmp_path_factory.mktemp("production"))
        done = subprocess.run(
            ["node", "desk.mjs"], cwd=CLIENT, input=json.dumps(asked), capture_output=True, text=True, timeout=300
        )
    database.close()
    assert done.returncode == 0, done.stderr
    told: Json = json.loads(done.stdout)
    return told


def path_of(service: Service, route: str, number: int) -> str:
    if route != "/audits/<run>/infants/<name>":
        return filled(route, number=number)
    found = json.loads(service.ask("GET", f"/audits/{RUN}/infants?format=json")[1])["infants"]
    return filled(route, name=found[0]["infant"])


def more_pages(oldest: int) -> dict[str, Json]:
    """Pages as they are when something was pressed, is wrong, or is missing."""
    infant = f"/sandbox/infants/{WITH_CARDS}"
    longest = max(library().rules, key=lambda rule: len(rule.criteria)).id
    found = {
        "rule-long": {"path": f"/rules/{longest}"},
        "search-wrong": {"path": "/decisions?since=x&outcome=y"},
        "decision-without-input": {"path": f"/decisions/{oldest}"},
        "patient-unknown": {"path": "/decisions/999999"},
        "sandbox-sent": {"path": infant, "press": "Send"},
        "sandbox-wrong": {"path": infant, "press": "Send", "fill": {"#request": '{"hook": 1'}},
        "build-wrong": {"path": "/sandbox/build", "fill": {"#age": "x"}, "press": "See the request"},
        "refused": {"path": "/access-refused"},
        "analytics-of-a-rule": {"path": f"/analytics?weeks=4&rule={RULE}"},
        "compared": {"path": COMPARED},
    }
    assert list(found) == MORE
    return found


def decided(service: Service, database: Database, name: str) -> int:
    """The number of the decision about this sample, once it is in the log."""
    known = len(search(database, Filters(client=""), 10))
    status, said = service.ask("POST", PATH, json.dumps(sample(name)).encode())
    assert status == 200, said
    deadline = time.monotonic() + 20
    while len(found := search(database, Filters(client=""), 10)) == known:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0].id


def drawn(folder: Path) -> dict[str, str]:
    """Pages of a service with a login, by the path at which the browser finds them."""
    app = desk_in_production(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdentityProvider, "end_url", lambda _: "https://idp.example/end")
        gone = Person(app).get("/logged-out").text
    refused = Person(app, Role.VIEWER).get("/access").text
    app.extensions["decision_log"].close()
    return {"/logged-out": gone, "/access-refused": refused}


@pytest.fixture
def task(seen: Json) -> Callable[[str], Json]:
    return lambda name: seen["tasks"][name]


def done(told: Json, clicks: int) -> str:
    """The text that is on the page at the end, after so many clicks."""
    assert "problem" not in told, (told["problem"], told["at"], told["clicks"])
    assert len(told["clicks"]) == clicks <= 3, told["clicks"]
    return str(told["text"])


def test_why_an_infant_got_no_eeg_card_is_found_in_three_clicks(task: Any) -> None:
    text = done(task("why no EEG card"), 3)
    assert "Why no card: EEG" in text and "Myoclonus: denied" in text
    assert "It would speak after 1 change" in text


def test_a_card_leads_to_its_passage_in_three_clicks(task: Any) -> None:
    told = task("from a card to its passage")
    text = done(told, 3)
    document, _, assertion = told["at"].removeprefix("/documents/").partition("#")
    assert library().assertions[assertion].document == document
    assert library().assertions[assertion].says in text


def test_what_changed_and_whom_it_touches_is_found_in_three_clicks(task: Any) -> None:
    told = task("what changed and whom it touches")
    text = done(told, 2)
    assert RULE in text and "movement_or_neurological_sign" in text  # what changed
    assert re.search(r"Infants, no longer\n[1-9]", text) and f"{RULE}: recommended → no finding" in text  # whom


def test_the_home_page_names_the_three_most_overridden_rules_with_the_chief_reason(task: Any) -> None:
    text = done(task("most overridden rules and the chief reason"), 0)
    found = re.findall(r"^([a-z0-9-]+): \d+, chiefly “(.+)”$", text, re.MULTILINE)
    assert len(found) == 3 and all(library().rule(rule) for rule, _ in found), text


def test_a_rule_is_stopped_in_three_clicks(task: Any) -> None:
    text = done(task("stop one rule"), 3)
    assert "Stopped since" in text and REASON in text


def test_every_form_works_without_javascript(task: Any) -> None:
    told = task("every form")
    assert "problem" not in told, (told["problem"], told["at"], told["clicks"])


@pytest.fixture(params=[*NAMES, *MORE])
def page(seen: Json, request: Any) -> Json:
    found: Json = seen["pages"][request.param]
    return found


def test_axe_finds_no_violation_in_light_and_dark_narrow_and_wide(page: Json) -> None:
    assert page["violations"] == []


def test_no_page_is_wider_than_the_screen(page: Json) -> None:
    assert page["wide"] == []


def test_no_page_troubles_the_browser_or_asks_another_host(page: Json) -> None:
    assert (page["trouble"], page["elsewhere"]) == ([], [])


def test_by_keyboard_all_is_reached_and_the_focus_is_seen(page: Json) -> None:
    assert page["focus"] == []


def test_on_paper_is_the_text_without_menus_and_filters(page: Json) -> None:
    assert page["paper"] == {"shown": [], "heading": True, "pale": []}


def test_every_page_of_the_matrix_was_looked_at(seen: Json) -> None:
    assert seen["pages"].keys() == {*NAMES, *MORE}
    allowed = {"search-wrong": 400, "patient-unknown": 404}
    assert {name: page["status"] for name, page in seen["pages"].items() if page["status"] != 200} == allowed
