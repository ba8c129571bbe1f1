"""For whoever runs it: ready or not and why, limits, headers, origins, log lines, counters, refused settings."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import runpy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from flask import Flask
from forge import claims, ec_key, jwk, token
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, select
from wire import URL, post, sample

from cds_service.app import create_app
from cds_service.errors import SettingsError
from cds_service.record.truth import FALSE
from cds_service.rules.content_hash import content_hash
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.pack import packaged_cards, read_pack
from cds_service.rules.probes import probes_of, run_probes
from cds_service.settings import SHORTEST_SESSION_KEY, Profile, Settings, load_settings
from cds_service.store.database import Database
from cds_service.store.schema import REVISIONS, decisions
from cds_service.store.schema_version import upgrade
from cds_service.web import framing, logs
from cds_service.web.front import Front
from cds_service.web.rates import address_of

RULE = "clustered-awake-jerks"
REQUEST = sample("clustered-awake-jerks")
JSON = "application/json"
Start = Callable[..., Flask]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/cds.sqlite3"


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    started: list[Flask] = []

    def run(library: RuleLibrary | None = None, now: Callable[[], datetime] | None = None, **more: Any) -> Flask:
        started.append(create_app(Settings(**{"database_url": url, **more}), library, now))
        return started[-1]

    yield run
    for app in started:
        app.extensions["decision_log"].close()


def ready(app: Flask) -> tuple[int, dict[str, Any]]:
    answer = app.test_client().get("/readyz")
    return answer.status_code, answer.get_json()


def dead(rule_id: str, how: Callable[[Any], Any]) -> RuleLibrary:
    """A library in which one rule has been broken without its raising anything at the start."""
    library = load_library()
    library.rules = tuple(
        msgspec.structs.replace(rule, applies=how) if rule.id == rule_id else rule for rule in library.rules
    )
    return library


def raises(_: Any) -> Any:
    raise ZeroDivisionError("CANARY")


# --- ready


def test_ready_says_what_is_loaded_and_tried(start: Start) -> None:
    status, said = ready(start())
    assert (status, said["status"], said["problems"]) == (200, "ready", [])
    assert said["rules"] == said["speaking"] == len(load_library().rules)
    assert said["signed"] == 0
    assert (said["store"]["writable"], said["store"]["schema"]) == (True, REVISIONS[-1])
    assert said["probes"]["outcomes"] == dict.fromkeys((rule.id for rule in load_library().rules), "recommended")
    assert said["probes"]["at"] and said["store"]["at"]


@pytest.mark.parametrize(("how", "outcome"), [(lambda _: FALSE, "not-applicable"), (raises, "internal-error")])
def test_a_rule_that_stops_speaking_turns_ready_red_and_is_named(start: Start, how: Any, outcome: str) -> None:
    app = start(dead(RULE, how))
    status, said = ready(app)
    assert (status, said["problems"]) == (503, [f"rule {RULE}: does not speak on its probe infant ({outcome})"])
    assert f'cds_rule_probe{{rule="{RULE}"}} 0.0' in app.test_client().get("/metrics").text


def test_a_rule_that_dies_later_is_noticed_by_the_next_probe(start: Start) -> None:
    app = start(library := load_library())
    assert ready(app)[0] == 200
    library.rules = dead(RULE, lambda _: FALSE).rules
    assert ready(app)[0] == 200
    app.extensions["watch"].probe()
    assert ready(app)[0] == 503
    library.rules = load_library().rules
    app.extensions["watch"].probe()
    assert ready(app)[0] == 200


def test_a_silent_rule_is_probed_all_the_same(start: Start) -> None:
    library = dead(RULE, lambda _: FALSE)
    library.silent = frozenset({RULE})
    assert f"rule {RULE}: does not speak on its probe infant (not-applicable)" in ready(start(library))[1]["problems"]


@pytest.mark.parametrize("day", ["2024-02-29", "2026-03-01", "2026-12-31", "2027-01-01", "2031-10-26"])
def test_every_probe_infant_makes_its_rule_speak_on_any_day(day: str) -> None:
    library = load_library()
    probes = probes_of(library)
    assert all(probe is not None and probe.today for probe in probes.values())
    assert set(run_probes(library, probes, day).values()) == {"recommended"}


def test_probes_are_asked_for_the_day_of_the_clock(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    days: list[str] = []
    monkeypatch.setattr("cds_service.web.watch.run_probes", lambda library, probes, day: days.append(day) or {})
    now = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    app = start(now=lambda: now)
    app.extensions["watch"].probe()
    now += timedelta(hours=1)
    app.extensions["watch"].probe()
    assert days == ["2026-11-22", "2026-11-23"]


def test_a_store_that_cannot_be_written_turns_ready_red_and_the_cards_come(start: Start) -> None:
    app = start(database_url="sqlite:////nowhere/at/all/cds.sqlite3")
    status, said = ready(app)
    assert (status, said["problems"]) == (503, ["store: it cannot be written (FileNotFoundError)"])
    assert said["store"]["writable"] is False
    assert post(app.test_client(), REQUEST).get_json()["cards"]


def test_a_store_that_comes_back_is_noticed(start: Start, url: str, tmp_path: Path) -> None:
    app = start()
    assert ready(app)[0] == 200
    (tmp_path / "cds.sqlite3").chmod(0o400)
    (tmp_path / "cds.sqlite3").rename(tmp_path / "away")
    app.extensions["database"].close()
    tmp_path.joinpath("cds.sqlite3").mkdir()
    app.extensions["watch"].try_store()
    assert ready(app)[0] == 503
    tmp_path.joinpath("cds.sqlite3").rmdir()
    (tmp_path / "away").rename(tmp_path / "cds.sqlite3")
    (tmp_path / "cds.sqlite3").chmod(0o600)
    app.extensions["watch"].try_store()
    assert ready(app)[0] == 200


# --- production: only signed rules speak


KEY = ec_key()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def production(start: Start, url: str, tmp_path: Path) -> Callable[..., Flask]:
    clients = tmp_path / "clients.json"
    ehr = {"id": "ehr", "name": "EHR", "issuer": "https://ehr.example", "jwks": {"keys": [jwk(KEY, "ec")]}}
    clients.write_text(json.dumps({"clients": [ehr]}))
    clients.chmod(0o600)
    upgrade(Database(url))

    def run(**more: Any) -> Flask:
        return start(
            **{"profile": Profile.PRODUCTION, "clients_file": clients, "public_url": "https://cds.example",
               "now": lambda: NOW, **more}
        )  # fmt: skip

    return run


def asked(app: Flask) -> Any:
    """The answer to a signed call for today, without the sandbox's as-of date."""
    body = {name: part for name, part in REQUEST.items() if name != "extension"}
    moment = int(NOW.timestamp())
    signed = token(KEY, claims(iat=moment, exp=moment + 300))
    return post(app.test_client(), body, headers={"Authorization": f"Bearer {signed}"})


def sign(folder: Path, rule: str) -> Path:
    """A hospital's sign-off file: two people of different roles have signed this rule as it is."""
    content = content_hash(read_pack(packaged_cards()), rule)
    roles = {"neurologist": "clinical", "informatician": "technical"}
    signed = [{"by": f"Person {n}", "role": role, "on": "2026-11-20", "version": "1.0.0", "content": content}
              for n, role in enumerate(roles)]  # fmt: skip
    file = folder / "signoff.yaml"
    whole = {"authors": {"default": ["Somebody Else"]}, "roles": roles, "signatures": {rule: signed}}
    file.write_text(json.dumps(whole, indent=1))
    return file


def logged(app: Flask, url: str) -> dict[str, str]:
    app.extensions["decision_log"].close()
    engine = create_engine(url)
    with engine.connect() as connection:
        (written,) = connection.execute(select(decisions.c.outcomes)).scalars()
    engine.dispose()
    found: dict[str, str] = json.loads(written)
    return found


def test_in_production_an_unsigned_rule_is_logged_as_silent_and_gives_no_card(
    production: Callable[..., Flask], url: str
) -> None:
    app = production()
    answer = asked(app)
    assert (answer.status_code, answer.get_json()["cards"]) == (200, [])
    assert logged(app, url)[RULE] == "recommended (silent)"


def test_a_signed_rule_speaks_and_its_unsigned_neighbours_do_not(
    production: Callable[..., Flask], url: str, tmp_path: Path
) -> None:
    app = production(signoff_file=sign(tmp_path, RULE))
    answer = asked(app).get_json()
    named = {rule["id"] for card in answer["cards"] for key in card["extension"].values() for rule in key["rules"]}
    assert named == {RULE}
    outcomes = logged(app, url)
    assert outcomes[RULE] == "recommended"
    assert {outcome.endswith(" (silent)") for rule, outcome in outcomes.items() if rule != RULE} == {True}
    assert ready(app)[0] == 200
    assert (ready(app)[1]["speaking"], ready(app)[1]["signed"]) == (1, 1)


def test_production_in_which_no_rule_speaks_is_not_ready(production: Callable[..., Flask]) -> None:
    status, said = ready(production())
    assert (status, said["speaking"]) == (503, 0)
    assert said["problems"] == [
        "rules: none is signed off, so none speaks; see CDS_SIGNOFF_FILE and cds-service sign-off"
    ]


# --- rate limits


def test_an_address_that_calls_too_often_waits_and_another_does_not(start: Start) -> None:
    client = start(calls_per_address=1).test_client()
    near, far = {"REMOTE_ADDR": "127.0.0.1"}, {"REMOTE_ADDR": "127.0.0.2"}
    answers = [post(client, REQUEST, environ_overrides=near) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert refused.get_json()["issue"][0]["details"]["coding"][0]["code"] == "rate.address"
    assert refused.get_json()["issue"][0]["code"] == "throttled"
    assert int(refused.headers["Retry-After"]) >= 1
    assert post(client, REQUEST, environ_overrides=far).status_code == 200
    assert {client.get(path, environ_overrides=near).status_code for path in ("/healthz", "/readyz")} == {200}


def test_a_client_that_calls_too_often_waits(production: Callable[..., Flask]) -> None:
    app = production(calls_per_client=1, calls_per_address=0)
    assert [asked(app).status_code for _ in range(3)] == [200, 200, 429]
    code = asked(app).get_json()["issue"][0]["details"]["coding"][0]["code"]
    assert code == "rate.client"


def test_an_address_is_limited_before_its_token_is_looked_at(production: Callable[..., Flask]) -> None:
    client = production(calls_per_address=1).test_client()
    statuses = [post(client, REQUEST, headers={"Authorization": "Bearer x"}).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


def test_rates_are_off_in_the_sandbox_and_on_in_production() -> None:
    assert (Settings().rate_of_addresses, Settings().rate_of_clients) == (0, 0)
    real = Settings(profile=Profile.PRODUCTION)
    assert (real.rate_of_addresses, real.rate_of_clients) == (200, 100)
    assert Settings(profile=Profile.PRODUCTION, calls_per_client=0).rate_of_clients == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),  # a stranger's header is not believed
        ("10.0.0.1", ["203.0.113.5, 198.51.100.1"], "198.51.100.1"),  # only the last, which our proxy added
        ("10.0.0.1", ["203.0.113.5", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # through two proxies of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "unreadable"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("", [], "unreadable"),
    ],
)
def test_the_address_is_the_callers_not_what_the_caller_says(peer: str, forwarded: list[str], found: str) -> None:
    assert address_of(peer, forwarded, Settings(proxies="10.0.0.0/8").proxy_networks) == found


# --- origins and headers


def test_only_listed_origins_may_call_in_production(production: Callable[..., Flask]) -> None:
    client = production(cors_origins="https://ehr.example, https://other.example").test_client()
    listed = client.options(URL, headers={"Origin": "https://ehr.example"})
    assert (listed.status_code, listed.headers["Access-Control-Allow-Origin"]) == (204, "https://ehr.example")
    assert "Origin" in listed.headers["Vary"]
    for origin in ("https://evil.example", "https://ehr.example.evil.example", "null", "*", ""):
        for answer in (client.options(URL, headers={"Origin": origin}), client.get("/", headers={"Origin": origin})):
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Origin" in answer.headers["Vary"]


def test_no_origin_may_call_in_production_unless_listed(production: Callable[..., Flask]) -> None:
    answer = production().test_client().get("/cds-services", headers={"Origin": "https://ehr.example"})
    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


def test_the_sandbox_lets_pages_of_any_origin_call(start: Start) -> None:
    answer = post(start().test_client(), REQUEST, headers={"Origin": "https://sandbox.cds-hooks.org"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(("path", "status"), [
    ("/", 200), ("/nowhere", 404), ("/readyz", 503), ("/metrics", 200), (URL, 405), ("/static/page.css", 200),
])  # fmt: skip
def test_every_answer_has_the_security_headers(production: Callable[..., Flask], path: str, status: int) -> None:
    answer = production().test_client().get(path, buffered=True)
    assert answer.status_code == status
    for name, value in framing.HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("sent", "kept"), [
    ("4f9c-call-7", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("Müller", False), ("x\ty", False),
    ('"}{"', False), ("", False), ("a_b", False), ("../x", False),
])  # fmt: skip
def test_a_request_id_is_taken_over_only_in_a_safe_shape(start: Start, sent: str, kept: bool) -> None:
    answer = start().test_client().get("/healthz", headers={"X-Request-Id": sent})
    assert (answer.headers["X-Request-Id"] == sent) is kept
    assert re.fullmatch(r"[A-Za-z0-9-]{1,64}", answer.headers["X-Request-Id"])


# --- log lines and counters


def test_a_field_that_is_not_listed_is_dropped_and_counted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start()
    written = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(written), processors=logs.logger._processors)
    logger.info("answered", status=200, patient="CANARY", code={"name": "CANARY"}, rejected=["feedback[0]", {"x": 1}])
    assert json.loads(written.getvalue()).keys() == {"event", "level", "timestamp", "status"}
    assert "cds_log_fields_dropped_total 3.0" in app.test_client().get("/metrics").text


def test_a_librarys_line_loses_its_text_and_its_traceback() -> None:
    formatter = logs.LibraryLines()
    try:
        raise ValueError("CANARY")
    except ValueError as problem:
        record = logging.LogRecord("urllib3.pool", logging.WARNING, "", 1, "at %s", ("CANARY",),
                                   (ValueError, problem, problem.__traceback__))  # fmt: skip
        own = logging.LogRecord("_granian", logging.ERROR, "", 1, "Stopped %s", ("CANARY",),
                                (ValueError, problem, problem.__traceback__))  # fmt: skip
    lines = [json.loads(formatter.format(record)), json.loads(formatter.format(own))]
    assert [line["event"] for line in lines] == ["library", "Stopped %s"]
    assert "CANARY" not in json.dumps(lines)


def test_no_label_holds_anything_of_a_caller(start: Start) -> None:
    app = start(calls_per_address=1000, calls_per_client=1000)
    client = app.test_client()
    ready(app)
    rules = {rule.id for rule in load_library().rules}
    families = {family.id for family in load_library().families}
    closed = {
        "rule": lambda text: text in rules,
        "family": lambda text: text in families,
        "indicator": lambda text: text in {"info", "warning", "critical"},
        "outcome": lambda text: text in {"accepted", "overridden"},
        "status": lambda text: re.fullmatch(r"[2-5]\d\d", text),
        "code": lambda text: re.fullmatch(r"|[a-z]+([.\-][a-z\-]+)*", text),
        "cause": lambda text: re.fullmatch(r"[a-z]+", text),
        "le": lambda text: re.fullmatch(r"[\d.]+|\+Inf", text),
    }
    marked = json.loads(json.dumps(REQUEST).replace("clustered", "CANARY")) | {"hookInstance": "CANARY", "x": "CANARY"}
    headers = {
        "X-Request-Id": "CANARY",
        "Origin": "https://CANARY",
        "User-Agent": "CANARY",
        "X-Forwarded-For": "CANARY",
    }
    for method in ("GET", "POST", "PUT", "DELETE", "CANARY", "PATCH", "OPTIONS"):
        for path in (URL, f"{URL}/feedback", "/cds-services/CANARY", "/CANARY?CANARY=CANARY", "/rules/CANARY"):
            for body in (json.dumps(marked).encode(), b"CANARY", b'{"feedback":[{"outcome":"CANARY"}]}', b""):
                client.open(path, method=method, data=body, headers=headers, content_type=JSON)
    for signed in ("CANARY", "Bearer CANARY", f"Bearer {token(KEY, claims(iss='CANARY', sub='CANARY'))}"):
        post(client, marked, headers={"Authorization": signed})
    entry = {"card": "CANARY", "outcome": "accepted", "outcomeTimestamp": "2026-11-22T10:00:00Z"}
    for outcome in ("accepted", "overridden", "CANARY"):
        client.post(f"{URL}/feedback", json={"feedback": [entry | {"outcome": outcome}]})
    post(client, REQUEST)
    text = client.get("/metrics").text
    assert "CANARY" not in text
    seen = set()
    for family in text_string_to_metric_families(text):
        for sample_ in family.samples:
            for name, value in sample_.labels.items():
                assert name in closed and closed[name](value), (family.name, name, value)
                seen.add(name)
    assert seen == set(closed)


# --- any bytes to any route


def routes() -> list[tuple[str, str]]:
    app = create_app(Settings(database_url="sqlite:////nowhere/x"))
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "infant-motor-workup", rule.rule)
        found += [(path, method) for method in sorted(rule.methods or ())]
    return sorted(set(found))


BYTES = st.binary(max_size=300) | st.sampled_from([
    b"", b"{}", b"[]", b"null", b'{"feedback":[]}', b'{"feedback":[1,{"card":"x"}]}', b"\xef\xbb\xbf{}", b"[" * 5000,
    json.dumps(REQUEST).encode(), json.dumps(REQUEST).encode()[:-2], b"body=%7B%7D", b"\x00" * 100,
])  # fmt: skip
HEADER_VALUE = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60) | st.sampled_from([
    "application/json", "application/fhir+json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "gzip", "Bearer x.y.z", "Bearer " + "e30." * 3, "bytes=0-1", "W/\"x\"", "-1", "chunked", "*",
])  # fmt: skip
HEADER_NAMES = ["Content-Type", "Content-Encoding", "Authorization", "X-Request-Id", "Origin", "If-None-Match", "Range",
                "Accept", "Host", "Cookie", "X-Forwarded-For", "If-Modified-Since", "Expect"]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("fuzz")
    app = create_app(Settings(database_url=f"sqlite:///{folder}/x.sqlite3"))
    assert ready(app)[0] == 200
    yield Front(app, 2 * 1024 * 1024)
    app.extensions["decision_log"].close()


@given(
    route=st.sampled_from(routes()), method=st.none() | st.sampled_from(["TRACE", "X", "HEAD", "POST"]), body=BYTES,
    tail=st.text(max_size=20) | st.just(""), query=st.binary(max_size=30),
    headers=st.dictionaries(st.sampled_from(HEADER_NAMES), HEADER_VALUE, max_size=4),
)  # fmt: skip
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_to_any_route_are_answered_and_never_by_5xx(
    fuzzed: Front, route: tuple[str, str], method: str | None, body: bytes, tail: str, query: bytes,
    headers: dict[str, str],
) -> None:  # fmt: skip
    status, answer = through_the_front(fuzzed, method or route[1], route[0] + tail, query, headers, body)
    assert 200 <= status < 500
    assert b"Traceback" not in answer


def through_the_front(
    front: Front, method: str, path: str, query: bytes, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """What the ASGI front answers; the body comes in two pieces."""
    pieces = [{"type": "http.request", "body": body[:7], "more_body": True}, {"type": "http.request", "body": body[7:]}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query, "client": ("127.0.0.1", 1),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(front(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("query", [b"\xff\xfe=\x80", b"q=%ff%fe", b"q=\x00\r\n", "q=\u00e9".encode()])
def test_a_query_that_is_no_text_does_not_hurt_a_page(fuzzed: Front, query: bytes) -> None:
    assert through_the_front(fuzzed, "GET", "/rules", query, {"Host": "127.0.0.1:8080"}, b"")[0] == 200


# --- settings that production refuses


GOOD = {"profile": "production", "public_url": "https://cds.example"}


def test_production_starts_with_what_it_needs(tmp_path: Path) -> None:
    settings_ = load_settings(
        **GOOD, database_url=f"sqlite:///{tmp_path}/x.sqlite3", cors_origins="https://ehr.example"
    )
    assert settings_.origins == {"https://ehr.example"}


@pytest.mark.parametrize(("wrong", "said"), [
    ({"public_url": None}, "CDS_PUBLIC_URL"),
    ({"public_url": "http://cds.example"}, "CDS_PUBLIC_URL"),
    ({"public_url": "https://user@cds.example"}, "CDS_PUBLIC_URL"),
    ({"sandbox_fhir_bases": "https://ehr.example/fhir"}, "CDS_SANDBOX_FHIR_BASES"),
    ({"cors_origins": "*"}, "CDS_CORS_ORIGINS: production does not let pages of any origin call"),
    ({"cors_origins": "https://ehr.example,*"}, "CDS_CORS_ORIGINS: production does not let pages of any origin call"),
    ({"cors_origins": "http://ehr.example"}, "CDS_CORS_ORIGINS: http://ehr.example is not https"),
    ({"cors_origins": "https://ehr.example/path"}, "is no origin"),
    ({"proxies": "10.0.0.0/8,proxy.local"}, "CDS_PROXIES"),
    ({"calls_per_client": -1}, "CDS_CALLS_PER_CLIENT"),
])  # fmt: skip
def test_production_refuses_an_unsafe_setting_by_name(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings(**{**GOOD, "database_url": f"sqlite:///{tmp_path}/x.sqlite3", **wrong})
    assert not list(tmp_path.iterdir())


def test_production_refuses_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with pytest.raises(SettingsError, match="FLASK_DEBUG"):
        load_settings(**GOOD)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
@pytest.mark.parametrize("name", ["x.sqlite3", "x.sqlite3-wal"])
def test_production_refuses_a_database_file_that_anybody_may_read(tmp_path: Path, scheme: str, name: str) -> None:
    file = tmp_path / name
    file.touch(mode=0o600)
    url = f"{scheme}:///{tmp_path}/x.sqlite3"
    load_settings(**GOOD, database_url=url)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by any user"):
        load_settings(**GOOD, database_url=url)


def test_production_refuses_a_signoff_file_that_anybody_may_write(tmp_path: Path) -> None:
    file = sign(tmp_path, RULE)
    file.chmod(0o644)
    load_settings(**GOOD, signoff_file=file)
    file.chmod(0o666)
    with pytest.raises(SettingsError, match=r"CDS_SIGNOFF_FILE: .* can be written by any user"):
        load_settings(**GOOD, signoff_file=file)


@pytest.mark.parametrize("key", ["", "k" * 40])
def test_workers_that_are_started_together_have_one_session_key(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("CDS_SESSION_KEY", key)
    runpy.run_module("cds_service.gunicorn_server")
    made = os.environ["CDS_SESSION_KEY"]
    assert made == key if key else len(made) >= SHORTEST_SESSION_KEY
    runpy.run_module("cds_service.gunicorn_server")  # as when it is told to read its configuration anew
    assert os.environ["CDS_SESSION_KEY"] == made
