"""What others wrote stays text: on every page of the desk, and in every CSV and JSON, whatever it looks like.

Every text that comes from outside is written into one database, past the checks at the door, as each of HOSTILE.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from desk_pages import ROUTES, RULE, filled, pages
from flask import Flask
from infants import library
from msgspec.structs import replace
from packs import CARDS
from services import opened
from sqlalchemy import insert
from wire import Json, sample

from cds_service.hooks.kept_request import write_kept
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.log_keys import log_keys
from cds_service.rules.signoff import Signature, add_signature
from cds_service.rules.signoff_file import change_signoffs
from cds_service.settings import Settings
from cds_service.store import desk_log, stops
from cds_service.store.append import append, batch_of, new_chain
from cds_service.store.database import Database
from cds_service.store.decision import Decision
from cds_service.store.period import written
from cds_service.store.schema import feedback
from cds_service.web.recording import decision_of

NOW = datetime.now(UTC)
HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</textarea><script>",
    "</title><svg onload=alert(1)>", "[x](javascript:alert(1))", "![x](http://evil.example/x)", "javascript:alert(1)",
    "http://evil.example/", '=cmd|" /C calc"!A0', "+1+1", "-1+cmd", "@SUM(1+1)", "\t=1+1", "{{7*7}}", "{% for x %}",
    "<b>bold</b> *x* **y**", "&lt;script&gt;",
]  # fmt: skip
SIGNED = next(rule for rule in library().rules if rule.id != RULE)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet calculates
OURS = "http://cds.example"
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "data", "poster", "srcset")
ASKED = (
    "q sort page rule outcome client since until pseudonym request_id family workup before after cohort weeks table "
    "signed document next who"
)
SEARCHED = ("/decisions", "/analytics", "/access", "/rules")
FOREIGN = {"iframe", "object", "embed", "base", "img", "style", "applet", "video", "audio", "b", "math"}


class Seen(HTMLParser):
    """A page as a browser takes it: its text, its addresses, and whatever has no business on a page of ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.twins: set[str] = set()
        self.wrong: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in FOREIGN or (tag == "script" and not given.get("src", "").startswith("/static/")):
            self.wrong.append(f"<{tag}> {given}")
        if tag == "meta" and "http-equiv" in given:
            self.wrong.append(f"<{tag}> {given}")
        self.wrong += [
            f"{tag} {name}={value}" for name, value in given.items() if name.startswith("on") or name == "style"
        ]
        for name in ADDRESSES:
            if name not in given:
                continue
            found = urlsplit(urljoin(f"{OURS}/", given[name].strip()))
            if (found.scheme, found.netloc) != ("http", "cds.example"):
                self.wrong.append(f"{tag} {name}={given[name]}")
            if "format=csv" in found.query or "format=json" in found.query:
                self.twins.add(given[name])
        self.text += [given[name] for name in ("value", "aria-label", "content") if name in given]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class Visit(NamedTuple):
    """A desk over the database, and the numbers of its decisions."""

    app: Flask
    client: Any
    numbers: list[int]
    shown: set[str]  # the hostile texts that were met, as text

    def look(self, path: str, status: int | None = None) -> Seen:
        return self.judge(path, self.client.get(path), status)

    def judge(self, path: str, answer: Any, status: int | None = None) -> Seen:
        """Look at an answer; refusals for programs are JSON and looked at too."""
        assert answer.status_code < 500 and status in (None, answer.status_code), (path, answer.status_code)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if answer.mimetype != "text/html":
            assert answer.mimetype in ("application/fhir+json", "application/json", "text/csv", "application/yaml"), (
                path
            )
            return Seen("")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, policy
        seen = Seen(answer.text)
        assert seen.wrong == [], path
        text = "\n".join(seen.text)
        self.shown.update(hostile for hostile in HOSTILE if hostile in text)
        return seen


def hostile_decision(text: str) -> Decision:
    """What is logged of a sample in which every text is this one."""
    body = poisoned(sample("low-calcium-mmol"), text)
    with Flask(__name__).app_context():
        request = parse_request(json.dumps(body).encode())
        response = respond(request, library(), request.as_of or 0, "https://cds.example")
        kept = write_kept(request, response, "https://cds.example")
        made = decision_of(request, response, library(), text[:64], NOW, kept)
    cards = [replace(card, uuid=f"{text} {place}") for place, card in enumerate(made.cards)]
    assert cards
    return replace(
        made, client_id=text, hook_instance=text, pseudonym=text[:32], rule_set_version=text[:20], cards=cards,
        inputs=made.inputs | {text: text}, missing={text: [RULE]}, as_of=made.as_of,
        unread=[(kind, text) for kind in ("uncoded", "unknown-code", "unknown-unit", "unreadable")],
    )  # fmt: skip


def poisoned(value: Any, text: str) -> Any:
    """The request with this text wherever free text may stand, and added where none stood."""
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    if not isinstance(value, dict):
        return value
    free = {"display", "text", "note", "unit", "family", "given", "title", "description"}
    found = {
        key: text if key in free and isinstance(part, str) else poisoned(part, text) for key, part in value.items()
    }
    if "coding" in found:
        found["text"] = text
    return found


def said_of(decision: Decision, text: str) -> Iterator[Json]:
    for place, card in enumerate(decision.cards):
        yield {
            "identity": f"{text} {place}"[:64], "received_at": written(NOW), "client_id": decision.client_id,
            "service": decision.service, "card_uuid": card.uuid, "outcome": "overridden", "outcome_at": written(NOW),
            "suggestions": "[]", "reason_code": text, "reason_system": text,
            "reason_display": text if place else None, "reason_extension": json.dumps({text: text}), "comment": text,
            "comment_cut": False,
        }  # fmt: skip


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("inert")
    signoff = folder / "signoff.yaml"
    signoff.write_bytes((CARDS / "signoff.yaml").read_bytes())
    content = library().contents[SIGNED.id]
    for number, text in enumerate(HOSTILE):
        signature = Signature(f"{text} (s-{number})", "neonatologist", "2026-11-20", SIGNED.version, content, text)
        change_signoffs(CARDS, signoff, partial(add_signature, rule_id=SIGNED.id, signature=signature))
    app = opened(folder, public_url=OURS, signoff_file=signoff)
    database: Database = app.extensions["database"]
    keys = log_keys(Settings(database_url=str(database.url))).inputs
    made = [hostile_decision(text) for text in HOSTILE]
    append(database, batch_of(made, new_chain(), keys))
    at = written(NOW)
    for decision, text in zip(made, HOSTILE, strict=True):
        with database.writing() as connection:
            connection.execute(insert(feedback), list(said_of(decision, text)))
        stops.stop(database, RULE, text, text, at)
        stops.lift(database, RULE, text, text, text)
        desk_log.note(database, at=at, who=text, role=text, method=text, route=text, subject=text, status=200)
    stops.stop(database, RULE, "; ".join(HOSTILE), "; ".join(HOSTILE)[:480], at)
    app.extensions["rules"].look()
    yield Visit(app, app.test_client(), list(range(1, len(made) + 1)), set())
    app.extensions["decision_log"].close()


PAGES = [route for route in pages() if "<run>" not in route and route != "/logged-out"]


def paths_of(route: str, visit: Visit) -> list[str]:
    """The page with every decision that it may be of."""
    return sorted({filled(route, number=number, rule_id=RULE) for number in visit.numbers})


@pytest.mark.parametrize("route", PAGES)
def test_stored_text_is_text_on_the_page_and_in_its_twins(visit: Visit, route: str) -> None:
    for path in paths_of(route, visit):
        seen = visit.look(path)
        for twin in seen.twins:
            check_twin(visit.client.get(urljoin(path, twin)))


def check_twin(answer: Any) -> None:
    assert answer.status_code == 200
    if answer.mimetype == "application/json":
        assert json.loads(answer.data)
        return
    assert answer.mimetype == "text/csv" and answer.headers["Content-Disposition"].startswith("attachment; ")
    for row in csv.reader(io.StringIO(answer.text)):
        assert [cell for cell in row if cell.startswith(FORMULA) and not is_number(cell)] == []


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", HOSTILE)
def test_what_an_address_says_is_text_too(visit: Visit, text: str) -> None:
    asked = dict.fromkeys(ASKED.split(), text)
    for route in PAGES:
        path = filled(route, number=1, rule_id=RULE)
        visit.look(f"{path}?{urlencode(asked)}")
        if route in SEARCHED:
            visit.look(f"{path}?{urlencode({key: asked[key] for key in ('client', 'q', 'family', 'request_id')})}")
        for name in ROUTES[route].get("values", {}):
            visit.look(filled(route, **{"number": 1, "rule_id": RULE, name: text.replace("/", "-")}))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_form_sends_back_is_text_too(visit: Visit, text: str) -> None:
    token = next(iter(Tokens(visit.client.get(f"/rules/{SIGNED.id}").text).found))
    body = json.dumps({**sample("two-families"), text: text, "hook": text})
    forms: Mapping[str, Mapping[str, str]] = {
        f"/rules/{SIGNED.id}/stop": {"reason": text[:9]},
        f"/rules/{SIGNED.id}/sign": {"content": text, "role": text},
        "/sandbox/send": {"request": body, "as_of": text, "action": "send"},
        "/sandbox/build": {"age": text, "age-unit": text, "finding-0": text, "action": "show"},
        "/sandbox/feedback": {"request": text, "answer": text, "said": text},
        "/decisions": {"patient": text, "client": text},
        "/api": {"request": text},
    }
    for path, fields in forms.items():
        visit.judge(path, visit.client.post(path, data={"csrf": token, **fields}, base_url=OURS))


class Tokens(HTMLParser):
    """The tokens of a page's forms."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("name") == "csrf":
            self.found.append(given["value"] or "")


def test_the_pages_did_show_what_was_written(visit: Visit) -> None:
    """Else nothing would be proved. A tab is white space on a page."""
    fresh = visit._replace(shown=set())
    for path in ("/decisions", "/analytics", "/access", f"/rules/{RULE}", f"/rules/{SIGNED.id}", "/"):
        fresh.shown.clear()
        fresh.look(path)
        assert {text.strip() for text in fresh.shown} >= {text.strip() for text in HOSTILE}, path
    cells = {cell for row in csv.reader(io.StringIO(visit.client.get("/access?format=csv").text)) for cell in row}
    assert cells >= {f"'{text}" if text.startswith(FORMULA) else text for text in HOSTILE}
