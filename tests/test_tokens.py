"""Every token through the real endpoint and through ``cds-service token check``, which say the same of it.

Each refusal is asserted by its cause, in the counter of the service, and by what did not happen: no rule ran, no
socket was opened, and the token's id can still be used.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from forge import LEFT_OUT, b64, claims, ec_key, jwk, pem, rsa_key, token
from infants import library
from werkzeug.test import TestResponse

from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import SettingsError, StoreUnavailable
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.seen_tokens import SeenTokens
from cds_service.trust.seen_tokens import SeenInMemory, SeenWithFallback
from cds_service.trust.tokens import EXPLAINED, LARGEST_TOKEN, Cause
from cds_service.web import hooks_api

SERVICE = "/cds-services/infant-motor-workup"
AUD = f"https://cds.example{SERVICE}"
ISS = "https://ehr.example"
JKU = "https://ehr.example/jwks"
EC, RSA, EC256, FORGER, WEAK = ec_key(), rsa_key(), ec_key(ec.SECP256R1), ec_key(), rsa_key(1024)
BODY = json.loads((Path(__file__).parents[1] / "fixtures" / "clustered-awake-jerks.json").read_text())
BODY.pop("extension")
CLIENTS = [
    {"id": "main", "name": "Main", "issuer": ISS, "jku": JKU, "audiences": ["sand_man"], "jwks": {"keys": [
        jwk(EC, "ec"), jwk(RSA, "rsa", alg="RS384"), jwk(WEAK, "weak"), jwk(EC256, "p256"),
        jwk(EC, "for-encryption", use="enc"), jwk(EC, "a+b/c="), jwk(EC, "twice"), jwk(FORGER, "twice"),
        {"kty": "oct", "kid": "shared", "k": b64(b"secret" * 8), "alg": "HS256"}]}},
    {"id": "ward-a", "name": "A", "issuer": "https://vendor.example", "tenant": "a", "jwks": {"keys": [jwk(EC, "ec")]}},
    {"id": "pinned", "name": "Pinned", "issuer": "https://pinned.example", "subject": "s1",
     "algorithms": ["ES256"], "jwks": {"keys": [jwk(EC256, "p256")]}},
    {"id": "off", "name": "Off", "issuer": "https://off.example", "disabled": True, "jwks": {"keys": [jwk(EC, "ec")]}},
]  # fmt: skip


class Place(NamedTuple):
    """The service in production, and the environment in which its commands see the same."""

    app: Flask
    environment: dict[str, str]
    url: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "clients.json").write_text(json.dumps({"clients": CLIENTS}))
    url = f"sqlite:///{folder}/cds.sqlite3"
    upgrade(Database(url))
    environment = {
        "CDS_PROFILE": "production", "CDS_PUBLIC_URL": "https://cds.example", "CDS_DATABASE_URL": url,
        "CDS_CLIENTS_FILE": str(folder / "clients.json"),
    }  # fmt: skip
    app = service(url, folder / "clients.json")
    yield Place(app, environment, url)
    app.extensions["decision_log"].close()


def service(url: str, clients: Path, **more: Any) -> Flask:
    settings = Settings(
        profile=Profile.PRODUCTION, public_url="https://cds.example", database_url=url, clients_file=clients, **more
    )
    return create_app(settings, library())


def call(app: Flask, authorization: str | None, path: str = SERVICE, **more: Any) -> TestResponse:
    headers = {} if authorization is None else {"Authorization": authorization}
    return app.test_client().post(path, json=BODY, headers=headers, **more)


def refusals(app: Flask) -> dict[str, float]:
    """How many callers the service has refused, by cause."""
    text = app.test_client().get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("cds_tokens_refused_total{")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


def checked(place: Place, authorization: str, url: str = AUD) -> str:
    """The cause that ``token check`` tells, or ``good``."""
    done = CliRunner().invoke(main, ["token", "check", "-", "--url", url], env=place.environment, input=authorization)
    if done.exit_code == 0:
        assert done.output.startswith("good: client ")
        return "good"
    cause = done.output.split("401, ")[1].split(" ")[0].split(":")[0]
    assert EXPLAINED[Cause(cause)] in done.output
    return cause


def now() -> int:
    return int(time.time())


def bearer(*arguments: Any, **how: Any) -> Callable[[], str]:
    return lambda: f"Bearer {token(*arguments, **how)}"


def with_claims(key: Any = EC, header: dict[str, Any] | None = None, **changes: Any) -> Callable[[], str]:
    """A token with some claims changed; values that are functions are called when the token is made."""

    def make() -> str:
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        return f"Bearer {token(key, claims(**made), **(header or {}))}"

    return make


def ago(seconds: int) -> Callable[[], int]:
    return lambda: now() - seconds


def twice(name: str, first: Any, second: Any) -> Callable[[], str]:
    """A token whose claim ``name`` stands twice."""

    def make() -> str:
        text = json.dumps(claims(**{name: first}))[:-1] + f", {json.dumps(name)}: {json.dumps(second)}}}"
        return f"Bearer {token(EC, text.encode())}"

    return make


def header_twice() -> str:
    text = b'{"alg":"ES384","alg":"none","kid":"ec","typ":"JWT"}'
    return f"Bearer {token(EC, header_text=text, signed_with='ES384')}"


def other_writing() -> str:
    """The last character of the signature has bits that no byte takes up: another character, the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    made = token(RSA, alg="RS384", kid="rsa")
    return f"Bearer {made[:-1]}{alphabet[alphabet.index(made[-1]) ^ 1]}"


def cut() -> str:
    return f"Bearer {token(EC).rsplit('.', 1)[0]}"


def tampered() -> str:
    head, _, sign = token(EC).split(".")
    return f"Bearer {head}.{b64(json.dumps(claims(sub='other')).encode())}.{sign}"


def oversize() -> str:
    return f"Bearer {token(EC, claims(padding='x' * LARGEST_TOKEN))}"


def unsigned() -> str:
    head = b64(b'{"alg":"none","kid":"ec","typ":"JWT"}')
    return f"Bearer {head}.{b64(json.dumps(claims()).encode())}."


def unsigned_with_bytes() -> str:
    return unsigned() + b64(b"x")


VENDOR = "https://vendor.example"
PINNED = {"iss": "https://pinned.example"}
P256 = {"alg": "ES256", "kid": "p256"}
TABLE: dict[str, tuple[Callable[[], str], str]] = {
    "ES384": (bearer(EC), "good"),
    "RS384": (bearer(RSA, alg="RS384", kid="rsa"), "good"),
    "ES256 for the client that registered it": (with_claims(EC256, P256, **PINNED, sub="s1"), "good"),
    "the registered jku": (bearer(EC, jku=JKU), "good"),
    "typ in small letters": (bearer(EC, typ="jwt"), "good"),
    "a kid with + / =": (bearer(EC, kid="a+b/c="), "good"),
    "aud as a list of one": (with_claims(aud=[AUD]), "good"),
    "aud by the registered alias": (with_claims(aud="sand_man"), "good"),
    "Epic's claims": (with_claims(sub="x", nbf=ago(300), exp=ago(-900)), "good"),
    "expired within the leeway": (with_claims(iat=ago(300), exp=ago(30)), "good"),
    "a clock half a minute ahead": (with_claims(iat=ago(-30)), "good"),
    "an hour long": (with_claims(iat=ago(0), exp=ago(-3600)), "good"),
    "bearer in small letters": (lambda: f"bearer {token(EC)}", "good"),
    "the tenant registered": (with_claims(iss=VENDOR, tenant="a"), "good"),
    "alg none": (unsigned, "algorithm"),
    "alg none with a signature": (unsigned_with_bytes, "algorithm"),
    "HS256 with the public key": (bearer(pem(EC), alg="HS256"), "algorithm"),
    "HS384 with the public key": (bearer(pem(RSA), alg="HS384", kid="rsa"), "algorithm"),
    "HS256 with a key of the set": (bearer(b"secret" * 8, alg="HS256", kid="shared"), "algorithm"),
    "alg in small letters": (bearer(EC, alg="es384", signed_with="ES384"), "algorithm"),
    "alg left out": (bearer(EC, alg=LEFT_OUT, signed_with="ES384"), "algorithm"),
    "alg a number": (bearer(EC, alg=384, signed_with="ES384"), "algorithm"),
    "RS384 said of an EC key": (bearer(RSA, alg="RS384", kid="ec"), "algorithm"),
    "ES384 said of an RSA key": (bearer(EC, kid="rsa"), "algorithm"),
    "RS256 where the key is for RS384": (bearer(RSA, alg="RS256", kid="rsa"), "algorithm"),
    "RS512 that nobody registered": (bearer(RSA, alg="RS512", kid="rsa"), "algorithm"),
    "ES384 for the client of ES256": (with_claims(EC, {"kid": "p256"}, **PINNED, sub="s1"), "algorithm"),
    "ES256 that the client did not register": (bearer(EC256, **P256), "key"),
    "PS384": (bearer(RSA, alg="PS384", kid="rsa"), "algorithm"),
    "another's key": (bearer(FORGER), "signature"),
    "claims changed after signing": (tampered, "signature"),
    "an unknown kid": (bearer(EC, kid="new"), "key"),
    "a kid that is a path": (bearer(EC, kid="../../dev/null"), "key"),
    "a kid that is SQL": (bearer(EC, kid="'or/**/1=1--"), "key"),
    "a kid with a blank": (bearer(EC, kid="e c"), "header"),
    "a kid that is too long": (bearer(EC, kid="x" * 201), "header"),
    "a kid that is a number": (bearer(EC, kid=1), "header"),
    "kid left out": (bearer(EC, kid=LEFT_OUT), "header"),
    "a kid that two keys have": (bearer(EC, kid="twice"), "key"),
    "a key for encryption": (bearer(EC, kid="for-encryption"), "key"),
    "an RSA key of 1024 bits": (bearer(WEAK, alg="RS384", kid="weak"), "key"),
    "typ left out": (bearer(EC, typ=LEFT_OUT), "header"),
    "typ at+jwt": (bearer(EC, typ="at+jwt"), "header"),
    "crit": (bearer(EC, crit=["exp"]), "header"),
    "b64 false": (bearer(EC, b64=False, crit=["b64"]), "header"),
    "zip": (bearer(EC, zip="DEF"), "header"),
    "an embedded jwk": (bearer(FORGER, jwk=jwk(FORGER, "ec")), "header"),
    "x5c": (bearer(FORGER, x5c=["MIIB"]), "header"),
    "x5u at a metadata address": (bearer(FORGER, x5u="https://169.254.169.254/"), "header"),
    "a foreign jku": (bearer(FORGER, jku="https://evil.example/jwks"), "jku"),
    "a jku that begins like ours": (bearer(FORGER, jku=JKU + ".evil"), "jku"),
    "a jku in capitals": (bearer(EC, jku=JKU.upper()), "jku"),
    "a jku that is a list": (bearer(EC, jku=[JKU]), "header"),
    "a jku for a client without": (with_claims(EC, {"jku": JKU}, iss=VENDOR, tenant="a"), "jku"),
    "another issuer": (with_claims(iss="https://other.example"), "issuer"),
    "an issuer that begins like ours": (with_claims(iss=ISS + ".evil"), "issuer"),
    "a part of our issuer": (with_claims(iss=ISS[:-1]), "issuer"),
    "iss left out": (with_claims(iss=LEFT_OUT), "claims"),
    "iss a list": (with_claims(iss=[ISS]), "claims"),
    "another tenant": (with_claims(iss=VENDOR, tenant="b"), "tenant"),
    "tenant left out": (with_claims(iss=VENDOR), "tenant"),
    "a tenant that nobody registered": (with_claims(tenant="a"), "tenant"),
    "a tenant that is a number": (with_claims(iss=VENDOR, tenant=1), "claims"),
    "a disabled client": (with_claims(iss="https://off.example"), "disabled"),
    "another subject": (with_claims(EC256, P256, **PINNED, sub="s2"), "subject"),
    "subject left out": (with_claims(EC256, P256, **PINNED), "subject"),
    "aud of the base": (with_claims(aud="https://cds.example"), "audience"),
    "aud of discovery": (with_claims(aud="https://cds.example/cds-services"), "audience"),
    "aud of feedback": (with_claims(aud=AUD + "/feedback"), "audience"),
    "aud with a slash": (with_claims(aud=AUD + "/"), "audience"),
    "aud by another scheme": (with_claims(aud=AUD.replace("https", "http")), "audience"),
    "aud ours and another": (with_claims(aud=[AUD, "https://other.example"]), "audience"),
    "aud an empty list": (with_claims(aud=[]), "audience"),
    "aud left out": (with_claims(aud=LEFT_OUT), "audience"),
    "expired": (with_claims(iat=ago(400), exp=ago(100)), "expired"),
    "exp left out": (with_claims(exp=LEFT_OUT), "claims"),
    "exp as text": (with_claims(exp=lambda: str(now() + 300)), "claims"),
    "exp with a fraction": (with_claims(exp=lambda: now() + 300.5), "claims"),
    "exp as true": (with_claims(exp=True), "claims"),
    "exp beyond all time": (with_claims(exp=10**30), "claims"),
    "iat left out": (with_claims(iat=LEFT_OUT), "claims"),
    "iat in the future": (with_claims(iat=ago(-120)), "future"),
    "iat in the future though nbf is past": (with_claims(iat=ago(-120), nbf=ago(300)), "future"),
    "iat a year old": (with_claims(iat=ago(365 * 86400)), "lifetime"),
    "ten years long": (with_claims(exp=ago(-10 * 365 * 86400)), "lifetime"),
    "an hour and a second": (with_claims(iat=ago(0), exp=ago(-3601)), "lifetime"),
    "over before it began": (with_claims(iat=ago(-20), exp=ago(10)), "lifetime"),
    "nbf in the future": (with_claims(nbf=ago(-120)), "future"),
    "nbf as text": (with_claims(nbf="now"), "claims"),
    "jti left out": (with_claims(jti=LEFT_OUT), "claims"),
    "jti empty": (with_claims(jti=""), "claims"),
    "jti a number": (with_claims(jti=7), "claims"),
    "jti too long": (with_claims(jti="j" * 257), "claims"),
    "jti with a NUL": (with_claims(jti="a\0b"), "claims"),
    "iss twice": (twice("iss", "https://other.example", ISS), "form"),
    "exp twice": (twice("exp", 1, 4102444800), "form"),
    "alg twice": (header_twice, "form"),
    "claims that are a list": (bearer(EC, b"[]"), "form"),
    "claims that are not JSON": (bearer(EC, b"{"), "form"),
    "claims with NaN": (bearer(EC, b'{"exp": NaN}'), "form"),
    "claims not in UTF-8": (bearer(EC, b'{"iss": "\xff"}'), "form"),
    "claims nested too deep": (bearer(EC, b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"), "form"),
    "two parts": (cut, "form"),
    "four parts": (lambda: f"Bearer {token(EC)}.x", "form"),
    "a signature written another way": (other_writing, "signature"),
    "a signature left out": (lambda: f"Bearer {token(EC).rpartition('.')[0]}.", "signature"),
    "a header with blanks in it": (lambda: f"Bearer {token(EC)[:4]}+/{token(EC)[4:]}", "form"),
    "padded": (lambda: f"Bearer {token(RSA, alg='RS384', kid='rsa')}==", "signature"),
    "oversize": (oversize, "form"),
    "Basic": (lambda: "Basic dXNlcjpwYXNz", "form"),
    "Bearer and nothing": (lambda: "Bearer ", "form"),
    "two tokens": (lambda: f"Bearer {token(EC)}, Bearer {token(EC)}", "form"),
    "a blank": (lambda: " ", "absent"),
}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a rule was asked and a socket opened."""
    counted = {"asked": 0, "sockets": 0}
    respond = hooks_api.respond

    def asked(*arguments: Any) -> Any:
        counted["asked"] += 1
        return respond(*arguments)

    def opened(*_: Any, **__: Any) -> Any:
        counted["sockets"] += 1
        raise OSError

    monkeypatch.setattr(hooks_api, "respond", asked)
    monkeypatch.setattr(socket, "create_connection", opened)
    monkeypatch.setattr(socket, "getaddrinfo", opened)
    return counted


def test_the_table_is_long_and_names_every_cause() -> None:
    assert len(TABLE) >= 100
    assert {cause for _, cause in TABLE.values()} >= {cause.value for cause in Cause} - {"repeated"}


@pytest.mark.parametrize("name", TABLE)
def test_endpoint_and_token_check_say_the_same(place: Place, quiet: dict[str, int], name: str) -> None:
    make, expected = TABLE[name]
    authorization = make()
    assert checked(place, authorization) == expected
    before = refusals(place.app)
    answer = call(place.app, authorization)
    after = refusals(place.app)
    if expected == "good":
        assert (answer.status_code, after) == (200, before)
        assert "cards" in answer.get_json()
        assert quiet == {"asked": 1, "sockets": 0}
        assert checked(place, authorization) == "repeated"
        return
    assert quiet == {"asked": 0, "sockets": 0}
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert {cause: after[cause] - before.get(cause, 0) for cause in after if after[cause] != before.get(cause)} == {
        expected: 1
    }
    assert checked(place, authorization) == expected


def test_all_refusals_look_the_same(place: Place) -> None:
    seen = set()
    for name in ("another issuer", "expired", "another's key", "two parts", "alg none"):
        answer = call(place.app, TABLE[name][0]())
        kept = {key: value for key, value in answer.headers.items() if key != "X-Request-Id"}
        seen.add((answer.status, answer.data, tuple(sorted(kept.items()))))
    answer = call(place.app, None)
    seen.add((answer.status, answer.data, tuple(sorted((k, v) for k, v in answer.headers if k != "X-Request-Id"))))
    assert len(seen) == 1


@pytest.mark.parametrize("cause", ["issuer", "key", "signature", "expired"])
def test_no_refusal_writes_the_token_into_the_log(
    cause: str, place: Place, log_lines: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = {
        "issuer": token(EC, claims(iss="https://canary.example", jti="canary")),
        "key": token(EC, claims(jti="canary"), kid="canary"),
        "signature": token(FORGER, claims(jti="canary")),
        "expired": token(EC, claims(jti="canary", iat=now() - 600, exp=now() - 300)),
    }[cause]
    call(place.app, f"Bearer {mine}")
    logged = log_lines.getvalue()
    assert f'"cause": "{cause}"' in logged
    printed = "".join(capfd.readouterr())
    for secret in ("canary", *mine.split(".")):
        assert secret not in logged + printed


def test_a_token_is_good_once_and_a_refused_one_does_not_use_up_its_id(place: Place) -> None:
    same = claims(jti="only-once")
    assert call(place.app, f"Bearer {token(FORGER, same)}").status_code == 401
    assert not SeenTokens(Database(place.url)).known("main", "only-once")
    assert call(place.app, f"Bearer {token(EC, same)}").status_code == 200
    before = refusals(place.app)
    again = token(EC, same)
    assert checked(place, f"Bearer {again}") == "repeated"
    assert call(place.app, f"Bearer {again}").status_code == 401
    assert refusals(place.app)["repeated"] == before.get("repeated", 0) + 1


def test_two_clients_may_use_the_same_id(place: Place) -> None:
    assert call(place.app, f"Bearer {token(EC, claims(jti='shared'))}").status_code == 200
    other = token(EC, claims(jti="shared", iss=VENDOR, tenant="a"))
    assert call(place.app, f"Bearer {other}").status_code == 200


def test_64_racing_uses_of_one_token_let_one_pass(place: Place) -> None:
    one = f"Bearer {token(EC)}"
    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(lambda _: call(place.app, one).status_code, range(64)))
    assert sorted(codes) == [200] + [401] * 63


def test_another_worker_and_a_restart_know_the_used_token(place: Place) -> None:
    one = f"Bearer {token(EC)}"
    assert call(place.app, one).status_code == 200
    other = service(place.url, Path(place.environment["CDS_CLIENTS_FILE"]))
    assert call(other, one).status_code == 401
    assert refusals(other) == {"repeated": 1}


def test_the_host_header_does_not_change_the_audience(place: Place) -> None:
    elsewhere = token(EC, claims(aud=f"https://evil.example{SERVICE}"))
    answer = call(place.app, f"Bearer {elsewhere}", base_url="https://evil.example")
    assert answer.status_code == 401
    assert call(place.app, f"Bearer {token(EC)}", base_url="https://evil.example").status_code == 200


def test_a_call_without_token_is_refused_before_its_body_is_read(place: Place, quiet: dict[str, int]) -> None:
    before = refusals(place.app)
    answer = place.app.test_client().post(SERVICE, data=b"\xff", content_type="text/plain")
    assert (answer.status_code, answer.data) == (401, b"")
    assert refusals(place.app)["absent"] == before.get("absent", 0) + 1
    assert quiet["asked"] == 0


@pytest.mark.parametrize("path", [SERVICE + "/feedback", "/cds-services/other", "/cds-services/", SERVICE + "/"])
def test_every_post_under_cds_services_needs_a_token_for_itself(place: Place, path: str) -> None:
    assert call(place.app, None, path).status_code == 401
    assert call(place.app, f"Bearer {token(EC)}", path).status_code == 401
    fitting = token(EC, claims(aud="https://cds.example" + path))
    assert call(place.app, f"Bearer {fitting}", path).status_code != 401


@pytest.mark.parametrize("path", [
    "//cds-services/infant-motor-workup", "/cds-services//infant-motor-workup", "/%63ds-services/infant-motor-workup",
    "/x/../cds-services/infant-motor-workup", "/CDS-SERVICES/infant-motor-workup",
    "/cds-services/infant-motor-workup/.", "/cds-services/infant-motor-workup%2Ffeedback",
    "/./cds-services/infant-motor-workup",
])  # fmt: skip
def test_no_way_of_writing_the_path_leads_past_the_token(place: Place, quiet: dict[str, int], path: str) -> None:
    answer = call(place.app, None, path, follow_redirects=True)
    assert answer.status_code in (401, 404, 405)
    assert quiet["asked"] == 0


def test_discovery_is_open_but_a_bad_token_is_refused(place: Place) -> None:
    client = place.app.test_client()
    assert client.get("/cds-services").status_code == 200
    for_discovery = token(EC, claims(aud="https://cds.example/cds-services"))
    assert client.get("/cds-services", headers={"Authorization": f"Bearer {for_discovery}"}).status_code == 200
    bad = client.get("/cds-services", headers={"Authorization": f"Bearer {token(EC)}"})
    assert (bad.status_code, bad.data) == (401, b"")


def test_discovery_may_be_closed(place: Place) -> None:
    app = service(place.url, Path(place.environment["CDS_CLIENTS_FILE"]), discovery_needs_token=True)
    client = app.test_client()
    assert client.get("/cds-services").status_code == 401
    good = token(EC, claims(aud="https://cds.example/cds-services"))
    assert client.get("/cds-services", headers={"Authorization": f"Bearer {good}"}).status_code == 200


def test_the_sandbox_takes_unsigned_callers_of_this_machine_only(tmp_path: Path, place: Place) -> None:
    clients = Path(place.environment["CDS_CLIENTS_FILE"])
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/x.sqlite3", clients_file=clients,
                              public_url="https://cds.example"), library())  # fmt: skip
    assert call(app, None).status_code == 200
    assert call(app, None, environ_overrides={"REMOTE_ADDR": "10.1.2.3"}).status_code == 401
    assert refusals(app) == {"absent": 1}
    assert call(app, f"Bearer {token(FORGER)}").status_code == 401
    assert call(app, f"Bearer {token(EC)}").status_code == 200


class Locked:
    """A database that does not answer; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = False

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        self.asked += 1
        if not self.answers:
            raise StoreUnavailable("store.unavailable", "x")
        return True

    def known(self, client_id: str, jti: str) -> bool:
        raise StoreUnavailable("store.unavailable", "x")


def test_while_the_store_does_not_answer_a_worker_still_knows_what_it_saw() -> None:
    clock, store = [0.0], Locked()
    seen = SeenWithFallback(store, SeenInMemory(lambda: clock[0]), lambda: clock[0])
    assert seen.use("c", "1", 100)
    assert not seen.use("c", "1", 100)
    assert seen.use("c", "2", 100)
    assert (store.asked, seen.unsure, seen.troubled) == (1, 2, True)  # asked once: it is left alone for a while
    clock[0], store.answers = SeenWithFallback.PAUSE, True
    assert seen.use("c", "3", 100)
    assert not seen.use("c", "1", 100)
    assert (store.asked, seen.unsure, seen.troubled) == (2, 2, False)


def test_memory_forgets_only_what_has_expired() -> None:
    clock = [0.0]
    seen = SeenInMemory(lambda: clock[0])
    for number in range(1000):
        seen.use("c", str(number), 10)
    clock[0] = 11.0
    seen.use("c", "later", 100)
    assert not seen.known("c", "5")
    assert seen.known("c", "later")


@pytest.mark.parametrize(("policy", "codes"), [("remember", [200, 401]), ("refuse", [503, 503])])
def test_without_a_database_cards_go_on_unless_the_operator_wants_otherwise(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, codes: list[int]
) -> None:
    def broken(*_: object) -> bool:
        raise StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")

    monkeypatch.setattr(SeenTokens, "use", broken)
    app = service(place.url, Path(place.environment["CDS_CLIENTS_FILE"]), tokens_without_store=policy)
    one = f"Bearer {token(EC)}"
    assert [call(app, one).status_code for _ in range(2)] == codes


@pytest.mark.parametrize("setting", [
    {"public_url": None}, {"public_url": "http://cds.example"}, {"public_url": "https://"},
    {"public_url": "https://cds.example?x=1"}, {"sandbox_fhir_bases": "http://127.0.0.1:1/fhir"},
])  # fmt: skip
def test_production_refuses_unsafe_settings(
    place: Place, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str | None]
) -> None:
    from cds_service.settings import load_settings

    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings().only_signed_rules
    for name, text in setting.items():
        monkeypatch.delenv(f"CDS_{name.upper()}", raising=False)
        if text is not None:
            monkeypatch.setenv(f"CDS_{name.upper()}", text)
    with pytest.raises(SettingsError, match=f"CDS_{next(iter(setting)).upper()}"):
        load_settings()


def test_production_refuses_a_debugger_and_an_open_database(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from cds_service.settings import load_settings

    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with pytest.raises(SettingsError, match="FLASK_DEBUG"):
        load_settings()
    monkeypatch.setenv("FLASK_DEBUG", "0")
    file = Path(place.url.removeprefix("sqlite:///"))
    mode = file.stat().st_mode
    file.chmod(0o644)
    try:
        with pytest.raises(SettingsError, match="CDS_DATABASE_URL"):
            load_settings()
    finally:
        file.chmod(mode)


def test_production_without_clients_does_not_start(place: Place, tmp_path: Path) -> None:
    empty = tmp_path / "none.json"
    empty.write_text('{"clients": []}')
    with pytest.raises(SettingsError, match="at least one registered client"):
        service(place.url, empty)


def test_an_operator_is_told_when_tokens_were_taken_without_the_store(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise StoreUnavailable("store.unavailable", "x")

    monkeypatch.setattr(SeenTokens, "use", broken)
    app = service(place.url, Path(place.environment["CDS_CLIENTS_FILE"]))
    assert app.test_client().get("/readyz").get_json()["warnings"] == []
    assert call(app, f"Bearer {token(EC)}").status_code == 200
    assert app.test_client().get("/readyz").get_json()["warnings"] == [
        "tokens: 1 were accepted while the database did not answer"
    ]


def test_expired_ids_are_forgotten_now_and_then(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = SeenTokens(Database(place.url))
    stored.use("main", "long-ago", now() - 10)
    stored.use("main", "still-good", now() + 1000)
    monkeypatch.setattr("cds_service.web.callers.FORGET_EVERY", 1)
    assert call(place.app, f"Bearer {token(EC)}").status_code == 200
    deadline = time.monotonic() + 5
    while stored.known("main", "long-ago"):
        assert time.monotonic() < deadline
    assert stored.known("main", "still-good")


def test_a_locked_database_holds_a_call_for_less_than_its_promise(place: Place) -> None:
    database = Database(place.url)
    with database.writing():
        started = time.monotonic()
        assert call(place.app, f"Bearer {token(EC)}").status_code == 200
        assert time.monotonic() - started < 1.5
