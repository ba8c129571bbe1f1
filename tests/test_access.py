"""Who gets into which page: every route against every role, and all the ways around the gate that do not lead in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from infants import library
from people import OIDC, Clock, Person, desk_in_production
from services import PUBLIC, bearer, opened, undated
from wire import URL

from cds_service.app import create_app
from cds_service.errors import SettingsError, StoreUnavailable
from cds_service.settings import Profile, Settings, load_settings
from cds_service.store.desk_log import entries
from cds_service.trust.identity import IdentityProvider
from cds_service.web.desk import access_log
from cds_service.web.desk.access import OPEN
from cds_service.web.desk.login import LONGEST_NAME, name_of, path_of, role_of
from cds_service.web.desk.roles import Role

ROWS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "desk_routes.yaml").read_text(encoding="utf-8"))
PEOPLE = {"nobody": None} | {role.name.lower(): role for role in Role if role}
CLOSED = [row for row in ROWS if ROWS[row]["nobody"] == "login"]
START = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def answering_provider() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdentityProvider, "login_url", lambda *_: "https://idp.example/auth")
        yield


@pytest.fixture(scope="module")
def with_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """All routes that there are, those of the sandbox among them, and people who log in."""
    app = opened(tmp_path_factory.mktemp("login"), public_url="http://127.0.0.1:8080", **OIDC)
    yield app
    app.extensions["decision_log"].close()


@pytest.fixture(scope="module")
def in_production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    app = desk_in_production(tmp_path_factory.mktemp("production"), calls_per_address=0)
    yield app
    app.extensions["decision_log"].close()


@pytest.fixture(scope="module")
def without_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Production that knows no identity provider."""
    nothing = dict.fromkeys(OIDC)
    app = desk_in_production(tmp_path_factory.mktemp("closed"), **nothing)
    yield app
    app.extensions["decision_log"].close()


def routes(app: Flask) -> set[str]:
    """Method and path of every route below the gate."""
    return {
        f"{method} {rule.rule}" for rule in app.url_map.iter_rules() if rule.endpoint not in OPEN
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }  # fmt: skip


def path(row: str) -> str:
    """The row's path with its values in place."""
    values = ROWS[row].get("values", {})
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), row.split(" ")[1])


def answered(person: Person, row: str) -> Any:
    if row.startswith("POST "):
        return person.post(path(row), **ROWS[row].get("fields", {}))
    return person.call(row.split(" ")[0], path(row))


def test_every_route_has_a_row_and_every_row_a_route(with_login: Flask) -> None:
    assert routes(with_login) == set(ROWS)


def test_every_route_says_who_may_see_it_or_is_open_by_name(with_login: Flask, in_production: Flask) -> None:
    for app in (with_login, in_production):
        endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
        assert endpoints - OPEN == {name for name, view in app.view_functions.items() if hasattr(view, "role")}
        assert endpoints >= OPEN


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("row", ROWS)
def test_everybody_gets_what_the_matrix_says(with_login: Flask, in_production: Flask, row: str, who: str) -> None:
    for app in (with_login, in_production):
        if row not in routes(app):
            continue
        answer = answered(Person(app, PEOPLE[who]), row)
        sent_to_login = answer.status_code == 303 and answer.headers["Location"].startswith("/login?")
        match ROWS[row][who]:
            case "login":
                assert sent_to_login if row.startswith("GET ") else answer.status_code == 401
            case "refused":
                assert answer.status_code == 403 and "Your role does not include this page" in answer.text
            case "in":
                assert answer.status_code not in (401, 403) and answer.status_code < 500 and not sent_to_login
                assert (answer.status_code == 404) == (ROWS[row].get("finds") == "nothing"), answer.text
            case other:
                raise AssertionError(f"{row}: {other} is no answer")


@pytest.mark.parametrize("row", CLOSED)
def test_production_without_a_provider_has_none_of_the_closed_pages(without_login: Flask, row: str) -> None:
    method, route = row.split(" ")[0], path(row)
    for way in (method, "HEAD", "POST", "PUT", "OPTIONS"):
        assert Person(without_login).call(way, route).status_code == 404
    assert Person(without_login).get(f"{route}?format=json").status_code == 404


@pytest.mark.parametrize("row", CLOSED)
def test_no_way_of_writing_a_path_or_method_leads_around_the_gate(in_production: Flask, row: str) -> None:
    if row not in routes(in_production):
        return
    method, route = row.split(" ")[0], path(row)
    before = entries(in_production.extensions["database"])
    written = [
        route, f"{route}/", f"/{route}", f"//{route}", f"/.{route}", f"/rules/..{route}", f"{route}//", f"{route};a",
        f"{route}\0", f"{route}.json", f"{route}.csv", route.upper(), f"/static/..{route}", f"/static/../{route[1:]}",
        f"{route} ", f"{route}%2f", f"%2f{route[1:]}", f"{route}%00", route.replace("/", "/./"), route[1:],
    ]  # fmt: skip
    for way in (method, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"):
        for text in written:
            headers = {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/rules", "X-Forwarded-Prefix": "/rules"}
            as_servers_say = {"PATH_INFO": text, "QUERY_STRING": "format=html&_method=GET"}
            answer = Person(in_production).call(way, "/", headers=headers, environ_overrides=as_servers_say)
            nothing = way == "OPTIONS" and not answer.data  # of a static file that there is not
            assert nothing or answer.status_code in (303, 308, 400, 401, 404, 405), (way, text)
            if answer.status_code in (303, 308):
                place = answer.headers["Location"].removeprefix(PUBLIC)
                assert place.startswith("/login?") or place.split("?")[0].rstrip("/") == route, (way, text, place)
    assert entries(in_production.extensions["database"]) == before


@pytest.mark.parametrize("row", CLOSED)
def test_twins_are_refused_with_401_and_no_page(in_production: Flask, row: str) -> None:
    if row.startswith("GET ") and row in routes(in_production):
        for form in ("csv", "json"):
            answer = Person(in_production).get(f"{path(row)}?format={form}")
            assert (answer.status_code, answer.content_type) == (401, "application/fhir+json; charset=utf-8")
            assert answer.get_json()["issue"][0]["details"]["coding"][0]["code"] == "desk.login"


def test_a_view_that_forgot_to_say_who_may_see_it_is_not_there(tmp_path: Path, log_lines: Any) -> None:
    app = opened(tmp_path)
    app.add_url_rule("/forgotten", "forgotten", lambda: "a secret")
    answer = Person(app).get("/forgotten")
    assert answer.status_code == 404 and "secret" not in answer.text
    assert '"page-without-role"' in log_lines.getvalue()


def test_a_sandbox_without_provider_asks_nobody_and_has_no_login(sandbox: Any) -> None:
    assert sandbox.get("/access").status_code == 200
    assert sandbox.get("/login").status_code == sandbox.get("/login/callback").status_code == 404
    assert "Log in" not in sandbox.get("/").text


def test_a_sandbox_is_read_under_the_names_of_this_machine_only(tmp_path: Path) -> None:
    app = opened(tmp_path, public_url="http://127.0.0.1:8080")
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"):
        assert app.test_client().get("/rules", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example"):  # a name that was rebound to us
        answer = app.test_client().get("/rules", headers={"Host": host})
        assert answer.status_code == 400 and "This address is none of this service" in answer.text


# Forms


def logged_in(app: Flask, role: Role = Role.ADMIN) -> Person:
    return Person(app, role)


def is_logged_in(person: Person) -> bool:
    return bool(person.get("/access").status_code == 200)


GOOD = [
    {}, {"Origin": PUBLIC}, {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"},
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
]  # fmt: skip
BAD = [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{PUBLIC}.evil.example"},
    {"Origin": "http://cds.example"}, {"Origin": f"{PUBLIC}:8443"}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": PUBLIC, "Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]  # fmt: skip


@pytest.mark.parametrize("headers", GOOD)
def test_a_form_of_our_own_page_is_taken(in_production: Flask, headers: dict[str, str]) -> None:
    person = logged_in(in_production)
    data = {"csrf": person.form_token()}
    assert person.call("POST", "/logout", data=data, headers=headers).headers["Location"] == "/logged-out"
    assert not is_logged_in(person)


@pytest.mark.parametrize("headers", BAD)
def test_a_form_from_elsewhere_is_refused_and_does_nothing(in_production: Flask, headers: dict[str, str]) -> None:
    person = logged_in(in_production)
    answer = person.call("POST", "/logout", data={"csrf": person.form_token()}, headers=headers)
    assert answer.status_code == 400 and "This form is not of this session" in answer.text
    assert is_logged_in(person)


def test_a_form_without_the_token_of_this_session_is_refused_and_does_nothing(in_production: Flask) -> None:
    person, other = logged_in(in_production), logged_in(in_production)
    token = person.form_token()
    for given in (None, "", "x", token[:-1], token + "x", token.upper(), other.form_token(), "ä" * 20):
        data = {} if given is None else {"csrf": given}
        answer = person.call("POST", "/logout", data=data)
        assert answer.status_code == 400 and "This form is not of this session" in answer.text
        assert person.get(f"/logout?csrf={token}").status_code == 405
    assert person.call("POST", f"/logout?csrf={token}").status_code == 400  # an address is no form
    assert is_logged_in(person)
    assert person.call("POST", "/logout", headers={"X-CSRF-Token": token}).status_code == 303  # a script of ours


def test_forms_of_the_sandbox_need_their_token_too(tmp_path: Path) -> None:
    person = Person(opened(tmp_path, public_url="http://127.0.0.1:8080"))
    page = person.get("/api")
    (token,) = re.findall(r'name="csrf" value="([^"]+)"', page.text)
    assert "HttpOnly" in page.headers["Set-Cookie"]
    assert person.call("POST", "/api", data={"request": "{", "csrf": token}).status_code == 400
    assert "json.syntax" in person.call("POST", "/api", data={"request": "{", "csrf": token}).text
    for data, headers in (({}, {}), ({"csrf": token}, {"Origin": "https://evil.example"})):
        answer = person.call("POST", "/api", data={"request": "{", **data}, headers=headers)
        assert answer.status_code == 400 and "json.syntax" not in answer.text
    stranger = Person(person.app)
    assert "json.syntax" not in stranger.call("POST", "/api", data={"request": "{", "csrf": token}).text


# Sessions


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Iterator[Flask]:
    app = desk_in_production(tmp_path, clock)
    yield app
    app.extensions["decision_log"].close()


def test_a_session_is_over_after_half_an_hour_of_nothing(timed: Flask, clock: Clock) -> None:
    person = logged_in(timed)
    clock.moment += timedelta(minutes=29, seconds=59)
    assert is_logged_in(person)  # and this was a sign of life
    clock.moment += timedelta(minutes=29, seconds=59)
    assert is_logged_in(person)
    token = person.form_token()
    clock.moment += timedelta(minutes=30)
    assert person.get("/access").headers["Location"] == "/login?next=%2Faccess"
    assert person.call("POST", "/logout", data={"csrf": token}).status_code == 400


def test_a_session_is_over_after_eight_hours_whatever_happens(timed: Flask, clock: Clock) -> None:
    person = logged_in(timed)
    for _ in range(8 * 4 - 1):
        clock.moment += timedelta(minutes=15)
        assert is_logged_in(person)
    clock.moment += timedelta(minutes=15)
    assert not is_logged_in(person)


def test_the_cookie_is_for_this_host_over_https_and_no_script(timed: Flask, clock: Clock) -> None:
    person = logged_in(timed)
    clock.moment += timedelta(minutes=2)
    (cookie,) = person.get("/access").headers.getlist("Set-Cookie")
    name, *rest = cookie.split("; ")
    assert name.startswith("__Host-cds=") and set(rest) == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
    assert "Set-Cookie" not in person.get("/access").headers  # within the minute nothing is new


def test_a_cookie_that_is_not_ours_is_nobody(timed: Flask) -> None:
    person = logged_in(timed, Role.VIEWER)
    held = person.client.get_cookie("__Host-cds", domain="cds.example")
    assert held is not None
    with timed.test_request_context():
        forms = timed.extensions["access"].sessions
        other = type(forms)(Settings(session_key="another key, which is as long as ours"), None, forms._now)
        forged = other._sessions.dumps(["i", "mallory", 4, int(START.timestamp()), int(START.timestamp())])
    for value in ("", "x", held.value[:-1], held.value + "x", held.value.replace(".", ""), forged, "[]"):
        person.client.set_cookie("__Host-cds", value, domain="cds.example", secure=True)
        assert person.get("/access").headers["Location"].startswith("/login?")


def test_a_logout_ends_copies_of_the_cookie_in_every_worker(timed: Flask, tmp_path: Path, clock: Clock) -> None:
    person = logged_in(timed)
    held = person.client.get_cookie("__Host-cds", domain="cds.example")
    assert held is not None
    second = create_app(
        Settings(profile=Profile.PRODUCTION, public_url=PUBLIC, database_url=f"sqlite:///{tmp_path}/desk.sqlite3",
                 clients_file=tmp_path / "clients.json", **OIDC), library(), clock,
    )  # fmt: skip
    thief = Person(second)
    thief.client.set_cookie("__Host-cds", held.value, domain="cds.example", secure=True)
    assert is_logged_in(thief)
    assert "__Host-cds=;" in person.post("/logout").headers["Set-Cookie"]
    assert not is_logged_in(thief) and not is_logged_in(person)
    second.extensions["decision_log"].close()


def test_where_the_store_is_away_a_card_s_link_is_read_and_nothing_else(timed: Flask, monkeypatch: Any) -> None:
    person = logged_in(timed)

    def away(*_: Any) -> bool:
        raise StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")

    monkeypatch.setattr(timed.extensions["access"].sessions, "was_ended", away)
    assert person.get("/rules").status_code == 200
    assert person.get("/access").status_code == 503


def test_callers_of_the_service_are_known_by_token_and_never_by_cookie(timed: Flask) -> None:
    person = logged_in(timed)
    answer = person.call("POST", URL, json=undated())
    assert (answer.status_code, answer.data) == (401, b"")
    for path_ in ("/cds-services", "/healthz", "/openapi.json"):
        assert "Set-Cookie" not in person.get(path_).headers
    answered_ = person.call("POST", URL, json=undated(), headers={"Authorization": bearer()})
    assert "Set-Cookie" not in answered_.headers


def test_a_page_of_elsewhere_may_call_the_service_but_never_read_a_page(tmp_path: Path) -> None:
    client = opened(tmp_path).test_client()
    headers = {"Origin": "https://evil.example"}
    assert client.get("/cds-services", headers=headers).headers["Access-Control-Allow-Origin"] == "*"
    for path_ in ("/", "/rules", "/access", "/api"):
        assert "Access-Control-Allow-Origin" not in client.get(path_, headers=headers).headers
        assert "Access-Control-Allow-Origin" not in client.options(path_, headers=headers).headers


def test_pages_may_run_scripts_of_this_host_and_no_others(in_production: Flask) -> None:
    policy = Person(in_production).get("/rules").headers["Content-Security-Policy"]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == parts["base-uri"] == parts["frame-ancestors"] == "'none'"
    assert parts["script-src"] == parts["connect-src"] == parts["style-src"] == parts["form-action"] == "'self'"
    assert "script-src" not in Person(in_production).get("/openapi.json").headers["Content-Security-Policy"]


# Who looked at what


def test_each_look_leaves_one_row_and_refusals_leave_theirs(timed: Flask) -> None:
    admin, viewer = Person(timed, Role.ADMIN, "ann (1)"), Person(timed, Role.VIEWER, "vera (2)")
    admin.get("/access?request_id=abc-1&q=Erika%20Mustermann")
    viewer.get("/access?pseudonym=0123456789abcdef01234567")
    viewer.call("HEAD", "/access")
    Person(timed).get("/access")
    admin.get("/rules")
    rows = entries(timed.extensions["database"])[::-1]
    assert [(row.who, row.role, row.method, row.route, row.subject, row.status) for row in rows] == [
        ("ann (1)", "admin", "GET", "/access", "abc-1", 200),
        ("vera (2)", "viewer", "GET", "/access", "0123456789abcdef01234567", 403),
        ("vera (2)", "viewer", "HEAD", "/access", "", 403),
    ]
    assert rows[0].at.startswith("2026-11-20T10:00:00")


def test_a_patient_s_id_typed_into_any_address_stays_out_of_the_log(timed: Flask) -> None:
    analyst = Person(timed, Role.ANALYST, "anna (3)")
    patient = "erika-1970"
    for path_ in (f"/decisions?pseudonym={patient}", f"/decisions?rule={patient}", f"/audits/none/infants/{patient}",
                  f"/decisions/1/why-not/{patient}", f"/decisions/1/no-card/{patient}",
                  f"/decisions?request_id=Erika%20{patient}"):  # fmt: skip
        analyst.get(path_)
    analyst.get("/decisions?rule=low-calcium-with-movement&pseudonym=0123456789abcdef01234567")
    subjects = [row.subject for row in entries(timed.extensions["database"])][::-1]
    assert len(subjects) == 7 and patient not in " ".join(subjects)
    assert subjects[-1] == "0123456789abcdef01234567 low-calcium-with-movement"


def test_the_log_is_read_with_filters_and_twins(timed: Flask) -> None:
    admin = Person(timed, Role.ADMIN, "=cmd()")
    Person(timed, Role.VIEWER, "<b>vera").get("/access")
    page = admin.get("/access").text
    assert "&lt;b&gt;vera" in page and "<b>vera" not in page
    assert [row["who"] for row in admin.get("/access?format=json&status=403").get_json()["access"]] == ["<b>vera"]
    assert "'=cmd()" in admin.get("/access?format=csv").text
    assert admin.get("/access?format=json&until=2026-11-20").get_json()["access"] == []
    assert admin.get("/access?format=json&since=2026-11-21").get_json()["access"] == []
    assert len(admin.get("/access?format=json&since=nonsense'--").get_json()["access"]) > 3


def test_a_look_that_cannot_be_noted_shows_nothing(timed: Flask, monkeypatch: Any) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")

    Person(timed, Role.VIEWER, "vera").get("/access")
    monkeypatch.setattr(access_log, "note", away)
    answer = logged_in(timed).get("/access")
    assert answer.status_code == 503 and "vera" not in answer.text


# What the login gives


@pytest.mark.parametrize(("claims", "claim", "role"), [
    ({"roles": ["viewer"]}, "roles", Role.VIEWER), ({"roles": "analyst"}, "roles", Role.ANALYST),
    ({"roles": ["viewer", "admin", "other"]}, "roles", Role.ADMIN),
    ({"realm_access": {"roles": ["reviewer"]}}, "realm_access.roles", Role.REVIEWER),
    ({"https://a.example/roles": ["viewer"]}, "https://a.example/roles", Role.VIEWER),
    ({}, "roles", None), ({"roles": []}, "roles", None),
    ({"roles": ["Admin", "root", "public", "ADMIN "]}, "roles", None),
    ({"roles": [4, None, ["admin"]]}, "roles", None), ({"roles": {"admin": True}}, "roles", None),
    ({"roles": "admin viewer"}, "roles", None), ({"groups": ["admin"]}, "roles", None),
    ({"realm_access": "admin"}, "realm_access.roles", None),
])  # fmt: skip
def test_only_the_four_words_give_a_role(claims: dict[str, Any], claim: str, role: Role | None) -> None:
    assert role_of(claims, claim) is role


@pytest.mark.parametrize(("text", "path_"), [
    ("/access?format=csv&since=2026-11-01", "/access?format=csv&since=2026-11-01"), ("/", "/"), ("", "/"),
    ("//evil.example", "/"), ("/\\evil.example", "/"), ("\\\\evil.example", "/"), ("https://evil.example", "/"),
    ("/%09/evil.example", "/%09/evil.example"), ("/\t/evil.example", "/"), ("/x\r\nSet-Cookie: a=b", "/"),
    ("javascript:alert(1)", "/"), ("///evil.example", "/"), ("evil.example", "/"), ("/ä", "/"),
    (" //evil.example", "/"),
    ("/" + "a" * 3000, "/"),
])  # fmt: skip
def test_a_login_leads_to_a_page_of_this_host(text: str, path_: str) -> None:
    assert path_of(text) == path_


def test_a_name_is_short_and_plain_and_always_ends_with_the_id_that_nobody_chooses() -> None:
    assert name_of({"sub": "u1", "preferred_username": "ann\r\n\u202e\0"}) == "ann (u1)"
    assert name_of({"sub": "u1", "preferred_username": "u1"}) == name_of({"sub": "u1"}) == "u1"
    long = name_of({"sub": "s" * 90, "email": "a" * 5000})
    assert len(long) <= LONGEST_NAME and long.endswith(f"a ({'s' * 90})")
    assert len(name_of({"sub": "s" * 5000, "email": "a" * 5000})) <= LONGEST_NAME


# Settings

KEY = OIDC["session_key"]
BASE = {"profile": "production", "public_url": PUBLIC, "oidc_client_id": "desk", "oidc_client_secret": "s",
        "oidc_issuer": "https://idp.example", "session_key": KEY}  # fmt: skip


@pytest.mark.parametrize(("change", "text"), [
    ({"oidc_issuer": None}, "CDS_OIDC_ISSUER: a login needs"), ({"oidc_client_id": ""}, "CDS_OIDC_CLIENT_ID: a login"),
    ({"oidc_client_secret": None}, "CDS_OIDC_CLIENT_SECRET: a login"),
    ({"oidc_client_secret": None, "oidc_client_id": None}, "CDS_OIDC_CLIENT_ID, CDS_OIDC_CLIENT_SECRET"),
    ({"session_key": None}, "CDS_SESSION_KEY: a login needs a key"), ({"session_key": "short"}, "CDS_SESSION_KEY"),
    ({"session_key": "short", "profile": "sandbox"}, "CDS_SESSION_KEY"),
    ({"oidc_issuer": "http://127.0.0.1:4000"}, "CDS_OIDC_ISSUER: give the provider's https URL"),
    ({"oidc_issuer": "http://idp.example", "profile": "sandbox"}, "CDS_OIDC_ISSUER: give the provider's https URL"),
    ({"oidc_issuer": "https://idp.example?x=1"}, "CDS_OIDC_ISSUER: give"),
    ({"oidc_issuer": "https://idp.example#x"}, "CDS_OIDC_ISSUER: give"),
    ({"oidc_issuer": "https:///realm"}, "CDS_OIDC_ISSUER: give"),
    ({"oidc_issuer": "ftp://127.0.0.1", "profile": "sandbox"}, "CDS_OIDC_ISSUER: give"),
    ({"oidc_issuer": "idp.example"}, "CDS_OIDC_ISSUER"),
    ({"oidc_networks": "everything"}, "CDS_OIDC_NETWORKS: give networks"),
])  # fmt: skip
def test_half_a_login_is_refused_at_start(change: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        load_settings(**{**BASE, **change})


def test_a_whole_login_and_none_are_taken(monkeypatch: Any) -> None:
    assert load_settings(**BASE).has_login
    monkeypatch.setenv("CDS_OIDC_ISSUER", "")
    assert not load_settings(profile="production", public_url=PUBLIC).has_login
    assert load_settings(
        **{**BASE, "profile": "sandbox", "oidc_issuer": "http://127.0.0.1:4000", "session_key": None}
    ).has_login
