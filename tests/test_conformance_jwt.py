"""CDS Hooks, "Security and Safety": tokens, trust, CORS, over HTTP (tests/conformance.yaml). More: test_tokens.py."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from forge import LEFT_OUT, b64, claims, ec_key, jwk, pem, token
from services import EC, ISSUER, JKU, MAIN, PUBLIC, RSA, Production, bearer, dated, kept, opened, undated
from wire import URL, post, refused

from cds_service.errors import SettingsError
from cds_service.settings import load_settings
from cds_service.store.database import Database
from cds_service.store.seen_tokens import SeenTokens

FORGER = ec_key()
EC256 = ec_key(ec.SECP256R1)


def good(answer: Any) -> None:
    assert answer.status_code == 200, answer.text
    assert "cards" in answer.get_json()


def test_JWT_1_SEC_3_production_knows_its_callers(production: Production) -> None:
    production.refuses(None, "absent")
    production.refuses("Basic dXNlcjpwYXNz", "form")
    assert production.call(None, URL + "/feedback", body={"feedback": []}).status_code == 401
    good(production.call(bearer()))


def test_JWT_2_signed_by_the_client_s_key(production: Production) -> None:
    good(production.call(bearer()))
    good(production.call(bearer(RSA, header={"alg": "RS384", "kid": "rsa"})))
    production.refuses(bearer(FORGER), "signature")
    production.refuses(f"{bearer().rpartition('.')[0]}.", "signature")


@pytest.mark.parametrize(("name", "cause"), [("alg", "algorithm"), ("kid", "header"), ("typ", "header")])
def test_JWT_3_header_members_are_wanted(production: Production, name: str, cause: str) -> None:
    header = {name: LEFT_OUT, "signed_with": "ES384"}
    production.refuses(f"Bearer {token(EC, **header)}", cause)


def test_JWT_4_JWT_8_only_the_registered_key_set_and_issuer(production: Production) -> None:
    good(production.call(bearer(header={"jku": JKU})))
    production.refuses(bearer(FORGER, header={"jku": "https://evil.example/jwks"}), "jku")
    production.refuses(bearer(iss="https://evil.example"), "issuer")


@pytest.mark.parametrize("name", ["iss", "exp", "iat", "jti"])
def test_JWT_5_claims_are_wanted(production: Production, name: str) -> None:
    production.refuses(bearer(**{name: LEFT_OUT}), "claims")


def test_JWT_5_JWT_7_aud_is_the_url_that_is_called(production: Production) -> None:
    production.refuses(bearer(aud=LEFT_OUT), "audience")
    for wrong in (PUBLIC, f"{PUBLIC}/cds-services", f"{PUBLIC}{URL}/feedback", f"{PUBLIC}{URL}/", "https://x.example"):
        production.refuses(bearer(aud=wrong), "audience")
    good(production.call(bearer(aud=[PUBLIC + URL])))
    feedback = production.call(bearer(aud=f"{PUBLIC}{URL}/feedback"), URL + "/feedback", body={"feedback": []})
    assert feedback.status_code == 200


def test_JWT_6_only_the_registered_tenant(tmp_path: Path) -> None:
    service = Production(tmp_path, [{**MAIN, "tenant": "a"}])
    good(service.call(bearer(tenant="a")))
    service.refuses(bearer(tenant="b"), "tenant")
    service.refuses(bearer(), "tenant")
    service.app.extensions["decision_log"].close()


def test_JWT_9_none_and_symmetric_algorithms_are_refused(production: Production) -> None:
    head = b64(b'{"alg":"none","kid":"ec","typ":"JWT"}')
    body = bearer().split(".")[1]
    production.refuses(f"Bearer {head}.{body}.", "algorithm")
    for algorithm in ("HS256", "HS384"):
        production.refuses(bearer(pem(EC), header={"alg": algorithm}), "algorithm")


def test_JWT_10_algorithms_are_ours_to_choose_and_bound_to_the_key(tmp_path: Path) -> None:
    keys = {"keys": [jwk(EC, "ec"), jwk(RSA, "rsa"), jwk(EC256, "p256")]}
    service = Production(tmp_path, [{**MAIN, "jwks": keys}])
    good(service.call(bearer()))
    good(service.call(bearer(RSA, header={"alg": "RS384", "kid": "rsa"})))
    assert service.call(bearer(EC256, header={"alg": "ES256", "kid": "p256"})).status_code == 401
    service.refuses(bearer(RSA, header={"alg": "RS256", "kid": "rsa"}), "algorithm")
    service.refuses(bearer(RSA, header={"alg": "RS384", "kid": "ec"}), "algorithm")
    service.app.extensions["decision_log"].close()


def test_JWT_11_one_thing_wrong_is_enough(production: Production) -> None:
    now = int(time.time())
    for changes, cause in (
        ({"iss": "https://x.example"}, "issuer"), ({"aud": "x"}, "audience"),
        ({"iat": now - 400, "exp": now - 100}, "expired"), ({"tenant": "a"}, "tenant"),
    ):  # fmt: skip
        production.refuses(bearer(**changes), cause)
    production.refuses(bearer(FORGER), "signature")


def test_JWT_12_an_id_is_good_once_for_every_worker_and_after_a_restart(production: Production) -> None:
    same = bearer()
    good(production.call(same))
    production.refuses(same, "repeated")
    again = production.another()
    answer = again.test_client().post(URL, json=undated(), headers={"Authorization": same})
    assert (answer.status_code, answer.data) == (401, b"")
    again.extensions["decision_log"].close()


def test_JWT_13_STATUS_401_an_empty_answer_whatever_the_cause(production: Production) -> None:
    answers = [production.call(how) for how in (None, "x", bearer(FORGER), bearer(aud="x"), bearer(iss="x"))]
    seen = {
        (answer.status_code, answer.data, tuple(sorted((k, v) for k, v in answer.headers if k != "X-Request-Id")))
        for answer in answers
    }
    assert len(seen) == 1
    assert (answers[0].status_code, answers[0].data) == (401, b"")
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"


def test_JWT_14_SEC_5_no_token_and_no_patient_in_the_log(production: Production, log_lines: Any) -> None:
    taken, left = bearer(jti="canary-jti-1"), bearer(FORGER, jti="canary-jti-2")
    good(production.call(taken))
    production.refuses(left, "signature")
    body = {**undated(), "context": {"userId": "Practitioner/canary-user", "patientId": "canary-patient"}}
    refused(production.call(bearer(), body=body), 400, "patient.mismatch")
    log = log_lines.getvalue()
    assert '"event": "answered"' in log
    for secret in ("canary", *(taken.split(".")[1:]), *(left.split(".")[1:])):
        assert secret not in log


def test_JWT_15_a_forged_token_does_not_use_up_an_id(production: Production) -> None:
    same = claims(jti="conformance-15")
    assert production.call(f"Bearer {token(FORGER, same)}").status_code == 401
    assert not SeenTokens(Database(production.url)).known("main", "conformance-15")
    good(production.call(f"Bearer {token(EC, same)}"))


def test_JWT_16_nothing_is_fetched_for_a_token(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_to: list[Any] = []

    def note(address: Any, *_: Any, **__: Any) -> Any:
        opened_to.append(address)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", note)
    monkeypatch.setattr(socket, "getaddrinfo", note)
    production.refuses(bearer(FORGER, header={"jku": "https://169.254.169.254/jwks"}), "jku")
    production.refuses(bearer(header={"kid": "unknown"}), "key")
    production.refuses(bearer(FORGER, header={"x5u": "https://evil.example"}), "header")
    assert opened_to == []


def test_JWT_17_clocks_lifetime_nbf_sub_and_aliases(production: Production) -> None:
    now = int(time.time())
    for fine in (
        {"iat": now + 30}, {"iat": now - 300, "exp": now - 30}, {"exp": now + 900, "nbf": now - 300, "sub": "x"},
        {"aud": "sand_man"}, {"iat": now, "exp": now + 3600},
    ):  # fmt: skip
        good(production.call(bearer(**fine)))
    for changes, cause in (
        ({"iat": now + 120}, "future"), ({"nbf": now + 120}, "future"),
        ({"iat": now - 400, "exp": now - 61}, "expired"),
        ({"iat": now, "exp": now + 3700}, "lifetime"),
    ):  # fmt: skip
        production.refuses(bearer(**changes), cause)


def test_JWT_18_kid_is_any_text_typ_of_any_case_and_crit_is_refused(production: Production) -> None:
    good(production.call(bearer(header={"kid": "a+b/c="})))
    good(production.call(bearer(header={"typ": "jwt"})))
    production.refuses(bearer(header={"crit": ["exp"]}), "header")


def test_JWT_19_the_two_tokens_are_not_taken_for_each_other(production: Production) -> None:
    fhir = {"access_token": bearer().removeprefix("Bearer "), "token_type": "Bearer", "expires_in": 300}
    body = {**undated(), "fhirServer": "https://ehr.example/fhir", "fhirAuthorization": fhir}
    production.refuses(None, "absent", body=body)
    production.refuses("Bearer opaque-access-token", "form", body=body)


def test_SEC_1_production_has_an_https_address_or_does_not_start(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDS_PROFILE", "production")
    monkeypatch.setenv("CDS_CLIENTS_FILE", str(production.file))
    monkeypatch.setenv("CDS_DATABASE_URL", "postgresql://x/y")
    for address in ("http://cds.example", "", "cds.example"):
        monkeypatch.setenv("CDS_PUBLIC_URL", address)
        with pytest.raises(SettingsError, match="CDS_PUBLIC_URL"):
            load_settings()
    monkeypatch.setenv("CDS_PUBLIC_URL", PUBLIC)
    assert load_settings().base_url == PUBLIC


def test_SEC_6_a_decision_is_logged_for_its_client(tmp_path: Path) -> None:
    service = Production(tmp_path)
    answer = service.call(bearer())
    production_refuses = service.call(None)
    (row,) = kept(service.app)
    assert production_refuses.status_code == 401
    assert (row["client_id"], row["request_id"]) == ("main", answer.headers["X-Request-Id"])


ORIGIN = "https://sandbox.cds-hooks.example"


def preflight(client: Any, origin: str = ORIGIN) -> Any:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST",
               "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    return client.options(URL, headers=headers)


def test_CORS_1_a_browser_may_call_the_sandbox(sandbox: Any) -> None:
    assert preflight(sandbox).status_code == 204
    answer = post(sandbox, dated(), headers={"Origin": ORIGIN})
    good(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_CORS_2_production_lets_no_page_call_by_default(production: Production) -> None:
    for answer in (preflight(production.client), production.call(bearer(), environ_overrides={"HTTP_ORIGIN": ORIGIN})):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_CORS_2_a_listed_origin_is_answered_before_the_token_and_others_are_not(tmp_path: Path) -> None:
    service = Production(tmp_path, cors_origins=ORIGIN)
    answer = preflight(service.client)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert set(answer.headers["Access-Control-Allow-Methods"].split(", ")) == {"GET", "POST", "OPTIONS"}
    assert {"Authorization", "Content-Type", "Accept"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in answer.headers
    for other in ("https://evil.example", ORIGIN + ".evil.example", "http://sandbox.cds-hooks.example", "null"):
        refused_ = preflight(service.client, other)
        assert "Access-Control-Allow-Origin" not in refused_.headers
    assert (
        service.call(None, environ_overrides={"HTTP_ORIGIN": ORIGIN}).headers["Access-Control-Allow-Origin"] == ORIGIN
    )
    service.app.extensions["decision_log"].close()


def test_CORS_2_production_takes_no_star(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_PROFILE", "production")
    monkeypatch.setenv("CDS_CLIENTS_FILE", str(production.file))
    monkeypatch.setenv("CDS_DATABASE_URL", "postgresql://x/y")
    monkeypatch.setenv("CDS_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("CDS_CORS_ORIGINS", "*")
    with pytest.raises(SettingsError, match="CDS_CORS_ORIGINS"):
        load_settings()


def test_JWT_4_JWT_15_keys_of_the_registered_set_are_loaded_ahead_and_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cds_service.web import callers

    published = {"keys": [jwk(EC, "ec")]}
    asked: list[str] = []

    def load(client: Any) -> bytes:
        asked.append(client.jku)
        return json.dumps(published).encode()

    monkeypatch.setattr(callers, "load_keys", load)
    service = Production(tmp_path, [{"id": "main", "name": "Main", "issuer": ISSUER, "jku": JKU}])
    good(service.call(bearer(header={"jku": JKU})))
    fresh = ec_key()
    published["keys"].append(jwk(fresh, "new"))
    monkeypatch.setattr("cds_service.trust.keys.RENEW_SECONDS", 0.0)
    service.app.extensions["callers"].keys.refresh()
    good(service.call(bearer(fresh, header={"jku": JKU, "kid": "new"})))
    good(service.call(bearer(header={"jku": JKU})))
    assert set(asked) == {JKU}
    service.app.extensions["decision_log"].close()


def test_JWT_1_the_sandbox_is_open_to_this_machine_only(tmp_path: Path) -> None:
    app = opened(tmp_path)
    good(app.test_client().post(URL, json=dated()))
    far = app.test_client().post(URL, json=dated(), environ_overrides={"REMOTE_ADDR": "10.0.0.1"})
    assert (far.status_code, far.data) == (401, b"")
    app.extensions["decision_log"].close()
