"""Logging in at a real identity provider (oidc-provider), through its forms, and what does not get anybody in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from databases import free_port
from flask import Flask
from oidc_provider import CLIENT_ID, SECRET, log_in_there, running_provider
from people import Clock, Person, desk_in_production
from services import PUBLIC
from serving import running

from cds_service.store.desk_log import entries

BACK = f"{PUBLIC}/login/callback"


class Stage(NamedTuple):
    app: Flask
    clock: Clock
    issuer: str


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with running_provider(free_port(), BACK) as found:
        yield found


@pytest.fixture
def stage(issuer: str, tmp_path: Path) -> Iterator[Stage]:
    clock = Clock(datetime.now(UTC))
    app = desk_in_production(
        tmp_path, clock, oidc_issuer=issuer, oidc_client_id=CLIENT_ID, oidc_client_secret=SECRET,
        oidc_networks="127.0.0.0/8",
    )  # fmt: skip
    yield Stage(app, clock, issuer)
    app.extensions["decision_log"].close()


def sent_there(person: Person, next_path: str = "/access") -> str:
    """Where our login sends the browser."""
    answer = person.get("/login", query_string={"next": next_path})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def came_back(person: Person, name: str, next_path: str = "/access") -> str:
    """Path and query with which the provider sends back a person of this name who has logged in there."""
    return log_in_there(sent_there(person, next_path), name, BACK).removeprefix(PUBLIC)


def test_a_person_logs_in_and_out(stage: Stage) -> None:
    ann = Person(stage.app)
    assert ann.get("/access?since=2026-11-01").headers["Location"] == "/login?next=%2Faccess%3Fsince%3D2026-11-01"
    answer = ann.get(came_back(ann, "ann+viewer+admin", "/access?since=2026-11-01"))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/access?since=2026-11-01")
    cookies = {cookie.split("=")[0]: cookie for cookie in answer.headers.getlist("Set-Cookie")}
    assert cookies.keys() == {"__Host-cds", "__Host-cds-login"} and "Max-Age=0" in cookies["__Host-cds-login"]
    assert all("Secure; HttpOnly; Path=/; SameSite=Lax" in cookie for cookie in cookies.values())
    page = ann.get("/access")
    assert page.status_code == 200 and "ann (ann+viewer+admin), admin" in page.text
    (token,) = re.findall(r'name="csrf" value="([^"]+)"', page.text)
    out = ann.call("POST", "/logout", data={"csrf": token})
    assert (out.status_code, out.headers["Location"]) == (303, "/logged-out")
    assert f"{stage.issuer}/session/end?client_id=cds+desk" in ann.get("/logged-out").text
    assert ann.get("/access").status_code == 303
    rows = entries(stage.app.extensions["database"])
    assert [(row.who, row.role, row.status) for row in rows] == [("ann (ann+viewer+admin)", "admin", 200)]


def test_the_login_is_asked_for_with_pkce_nonce_and_state_that_are_new_each_time(stage: Stage) -> None:
    first, second = (parse_qs(urlsplit(sent_there(Person(stage.app))).query) for _ in range(2))
    assert first["code_challenge_method"] == ["S256"] and first["response_type"] == ["code"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 43 and first[name] != second[name]


@pytest.mark.parametrize("name", ["vera", "vera+Admin+root"])
def test_somebody_without_a_role_is_told_what_is_missing_and_stays_out(stage: Stage, name: str) -> None:
    vera = Person(stage.app)
    answer = vera.get(came_back(vera, name))
    assert answer.status_code == 403
    assert "your account has no role here" in answer.text and "viewer, analyst, reviewer, admin" in answer.text
    assert not any("__Host-cds=" in cookie for cookie in answer.headers.getlist("Set-Cookie"))
    assert vera.get("/access").status_code == 303


def test_a_role_lets_in_as_far_as_it_reaches(stage: Stage) -> None:
    rob = Person(stage.app)
    rob.get(came_back(rob, "rob+reviewer"))
    answer = rob.get("/access")
    assert answer.status_code == 403 and "rob (rob+reviewer), reviewer" in answer.text


def refused(person: Person, path: str, text: str) -> None:
    answer = person.get(path)
    assert answer.status_code == 400 and text in answer.text, answer.text
    assert not any("__Host-cds=" in cookie for cookie in answer.headers.getlist("Set-Cookie"))
    assert person.get("/access").status_code == 303


def test_an_answer_brought_to_another_browser_is_refused(stage: Stage) -> None:
    mallory, victim = Person(stage.app), Person(stage.app)
    path = came_back(mallory, "mallory+admin")
    refused(victim, path, "No login began in this browser")
    sent_there(victim)
    refused(victim, path, "not the answer to a login that began in this browser")


def test_a_changed_state_is_refused(stage: Stage) -> None:
    ann = Person(stage.app)
    refused(ann, re.sub(r"state=[^&]+", "state=x", came_back(ann, "ann+admin")), "not the answer to a login")


def test_a_code_of_another_login_is_refused(stage: Stage) -> None:
    """Its state put right: then the provider misses the verifier of the browser where the code was made."""
    mallory, victim = Person(stage.app), Person(stage.app)
    stolen, own = came_back(mallory, "mallory+admin"), came_back(victim, "victim+viewer")
    state = re.findall(r"state=([^&]+)", own)[0]
    mixed = re.sub(r"state=[^&]+", f"state={state}", stolen)
    refused(victim, mixed, "cannot be asked: it answered with an error status")


def test_an_id_token_of_another_login_is_refused(stage: Stage, monkeypatch: Any) -> None:
    """The verifier put right as well: then the nonce is that of the other login."""
    ann = Person(stage.app)
    sessions = stage.app.extensions["access"].sessions
    path = came_back(ann, "ann+admin")
    found = sessions.login_under_way
    monkeypatch.setattr(sessions, "login_under_way", lambda: [found()[0], "another nonce", *found()[2:]])
    refused(ann, path, "ID token is not good")


def test_a_code_is_good_once(stage: Stage) -> None:
    ann = Person(stage.app)
    path = came_back(ann, "ann+admin")
    kept = ann.client.get_cookie("__Host-cds-login", domain="cds.example")
    assert kept is not None and ann.get(path).status_code == 303
    again = Person(stage.app)
    refused(again, path, "No login began in this browser")
    again.client.set_cookie("__Host-cds-login", kept.value, domain="cds.example", secure=True)
    refused(again, path, "cannot be asked: it answered with an error status")


def test_a_login_that_takes_too_long_begins_again(stage: Stage) -> None:
    ann = Person(stage.app)
    path = came_back(ann, "ann+admin")
    stage.clock.moment += timedelta(minutes=10)
    refused(ann, path, "within the last ten minutes")


def test_a_refusal_of_the_provider_is_passed_on_without_its_words(stage: Stage) -> None:
    ann = Person(stage.app)
    state = parse_qs(urlsplit(sent_there(ann)).query)["state"][0]
    answer = f"/login/callback?error=access_denied&error_description=<b>x&state={state}&iss={stage.issuer}"
    refused(ann, answer, "did not log you in")


def test_a_session_ends_and_a_new_login_has_a_new_id(stage: Stage) -> None:
    ann = Person(stage.app)
    ann.get("/rules")
    before = ann.client.get_cookie("__Host-cds", domain="cds.example")  # a visitor's, made by a form
    ann.get(came_back(ann, "ann+admin"))
    first = ann.client.get_cookie("__Host-cds", domain="cds.example")
    assert ann.get("/access").status_code == 200 and first is not None and first != before
    stage.clock.moment += timedelta(minutes=30)
    assert ann.get("/access").headers["Location"] == "/login?next=%2Faccess"
    stage.clock.moment -= timedelta(minutes=30)
    ann.get(came_back(ann, "ann+admin"))
    second = ann.client.get_cookie("__Host-cds", domain="cds.example")
    sessions = stage.app.extensions["access"].sessions
    assert second is not None
    assert sessions._sessions.loads(first.value)[0] != sessions._sessions.loads(second.value)[0]


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_leads_nobody_to_another_host(stage: Stage, place: str) -> None:
    ann = Person(stage.app)
    assert ann.get(came_back(ann, "ann+admin", place)).headers["Location"] == "/"


def test_a_provider_that_is_away_is_said_and_lets_nobody_in(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, oidc_issuer=f"http://127.0.0.1:{free_port()}", oidc_networks="127.0.0.0/8")
    answer = Person(app).get("/login")
    assert answer.status_code == 503 and "cannot be asked: no connection" in answer.text
    assert Person(app).get("/rules").status_code == 200
    app.extensions["decision_log"].close()


def test_the_whole_way_over_sockets_with_two_workers(tmp_path: Path) -> None:
    """Service and provider as processes, one browser between them; each request may meet the other worker."""
    port = free_port()
    login = {
        "CDS_OIDC_ISSUER": f"http://127.0.0.1:{port}", "CDS_OIDC_CLIENT_ID": CLIENT_ID,
        "CDS_OIDC_CLIENT_SECRET": SECRET,
    }  # fmt: skip
    with running(tmp_path, workers=2, **login) as service:
        base = f"http://127.0.0.1:{service.port}"
        with running_provider(port, f"{base}/login/callback"), requests.Session() as browser:
            asked = browser.get(f"{base}/access", allow_redirects=False, timeout=10)
            started = browser.get(base + asked.headers["Location"], allow_redirects=False, timeout=10)
            back = log_in_there(started.headers["Location"], "ann+admin", f"{base}/login/callback")
            page = browser.get(back, timeout=10)
            assert (page.status_code, page.url) == (200, f"{base}/access")
            assert {cookie.name for cookie in browser.cookies} == {"cds"}
            for _ in range(10):  # both workers
                page = browser.get(f"{base}/access", timeout=10)
                assert page.status_code == 200 and "ann (ann+admin), admin" in page.text
            (token,) = re.findall(r'name="csrf" value="([^"]+)"', page.text)
            kept = dict(browser.cookies)
            out = browser.post(f"{base}/logout", {"csrf": token}, headers={"Origin": base}, timeout=10)
            assert "You are logged out" in out.text
            for _ in range(10):
                again = requests.get(f"{base}/access", cookies=kept, allow_redirects=False, timeout=10)
                assert again.headers["Location"] == "/login?next=%2Faccess"
        told = service.log.read_text()
        assert SECRET not in told and "code=" not in told and "ann" not in told.replace("cannot", "")
