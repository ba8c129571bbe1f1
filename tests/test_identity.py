"""ID tokens as forgers write them, and an identity provider that answers oddly: nobody gets a name by either."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from queue import Queue
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from forge import LEFT_OUT, b64, ec_key, jwk, pem, rsa_key, token
from jwt.algorithms import RSAAlgorithm

from cds_service.settings import Profile, Settings
from cds_service.trust.identity import AT_ONCE, Attempt, IdentityProvider, NotIdentified, Registration
from cds_service.trust.trouble import Trouble, Unreachable

NOW = 1_790_000_000
ISSUER = "https://idp.example"
BACK = "https://cds.example/login/callback"
SECRET = "the client's secret"  # noqa: S105
RSA, EC, OTHER, SHORT = rsa_key(), ec_key(), rsa_key(), rsa_key(1024)
DOCUMENT = {
    "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/auth", "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks", "authorization_response_iss_parameter_supported": True,
}  # fmt: skip
KEYS = [
    jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(SHORT, "short"), {**jwk(OTHER, "enc"), "use": "enc"},
    jwk(RSA, "only-512", alg="RS512"),
    {"kty": "oct", "k": b64(b"x" * 32), "kid": "oct"},
]  # fmt: skip
ATTEMPT = Attempt("the-state", "the-nonce", "v" * 64)


class Far:
    """The provider as far as we are concerned: what it answers, and what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "/.well-known/openid-configuration": DOCUMENT, "/jwks": {"keys": KEYS}, "/token": {"id_token": good()},
            **answers,
        }  # fmt: skip
        self.asked: list[tuple[str, Mapping[str, str], bytes | None]] = []
        self.seconds = 0.0
        self.provider = IdentityProvider(Registration(ISSUER, "desk", SECRET), self.call, lambda: self.seconds)

    def call(self, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        self.asked.append((url, headers, body))
        answer = self.answers[urlsplit(url).path]
        if isinstance(answer, Trouble):
            raise Unreachable(answer)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def paths(self) -> list[str]:
        return [urlsplit(url).path for url, _, _ in self.asked]

    def claims(self, **answer: str) -> Any:
        whole = {"state": ATTEMPT.state, "code": "c1", "iss": ISSUER, **answer}
        return self.provider.claims({key: value for key, value in whole.items() if value}, ATTEMPT, BACK, NOW)


def claims(**changes: Any) -> dict[str, Any]:
    whole = {"iss": ISSUER, "aud": "desk", "sub": "u1", "iat": NOW, "exp": NOW + 300, "nonce": "the-nonce", **changes}
    return {name: value for name, value in whole.items() if value is not LEFT_OUT}


def good(key: Any = RSA, header: Mapping[str, Any] = {}, **changes: Any) -> str:
    return token(key, claims(**changes), **{"alg": "RS256", "kid": "rsa", **header})


def spoiled(text: str) -> str:
    """The same claims but for the person, under the old signature."""
    head, body, signature = text.split(".")
    whole = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{b64(json.dumps({**whole, 'sub': 'admin'}).encode())}.{signature}"


@pytest.mark.parametrize("text", [
    good(), good(EC, {"alg": "ES384", "kid": "ec"}), good(aud=["desk"]), good(aud=["desk", "other"], azp="desk"),
    good(RSA, {"alg": "RS512"}), good(exp=NOW - 59), good(iat=NOW + 59),
])  # fmt: skip
def test_a_good_token_says_who_it_is(text: str) -> None:
    assert Far().provider.verify(text, "the-nonce", NOW)["sub"] == "u1"


FORGED = {
    "no algorithm": good(b"", {"alg": "none", "kid": LEFT_OUT}, ).rsplit(".", 1)[0] + ".",
    "no algorithm, a kid": good(b"", {"alg": "none"}).rsplit(".", 1)[0] + ".",
    "no algorithm, other case": good(b"", {"alg": "nOnE"}).rsplit(".", 1)[0] + ".",
    "HMAC with our public key": good(pem(RSA), {"alg": "HS256"}),
    "HMAC with our JWK": good(RSAAlgorithm.to_jwk(RSA.public_key()).encode(), {"alg": "HS256"}),
    "HMAC with the client's secret": good(SECRET.encode(), {"alg": "HS256"}),
    "HMAC with a symmetric key in the set": good(b"x" * 32, {"alg": "HS256", "kid": "oct"}),
    "another key": good(OTHER), "another key, brought along": good(OTHER, {"jwk": jwk(OTHER, "rsa")}),
    "another key, with its address": good(OTHER, {"jku": "https://evil.example/jwks"}),
    "a key of the set for encryption": good(OTHER, {"kid": "enc"}),
    "a short key of the set": good(SHORT, {"kid": "short"}),
    "an algorithm that is not the key's": good(RSA, {"kid": "only-512"}),
    "the algorithm of another kind of key": good(EC, {"alg": "ES384"}),
    "an unknown key": good(RSA, {"kid": "new"}),
    "no kid": good(RSA, {"kid": LEFT_OUT}), "a kid that is none": good(RSA, {"kid": 7}),
    "a critical header that we do not know": good(RSA, {"crit": ["x"], "x": 1}),
    "no signature": good().rsplit(".", 1)[0] + ".", "two parts": good().rsplit(".", 1)[0], "four parts": good() + ".x",
    "changed after signing": spoiled(good()),
    "another issuer": good(iss="https://idp.example.evil"), "an issuer with a slash": good(iss=ISSUER + "/"),
    "no issuer": good(iss=LEFT_OUT),
    "another audience": good(aud="other"), "no audience": good(aud=LEFT_OUT), "an audience within": good(aud="desk2"),
    "another audience in a list": good(aud=["other"]), "two audiences and no azp": good(aud=["desk", "other"]),
    "for another party": good(azp="other"),
    "another audience, for us": good(aud="other", azp="desk"),
    "another audience in a list, for us": good(aud=["other"], azp="desk"),
    "expired": good(exp=NOW - 61), "no end": good(exp=LEFT_OUT), "an end that is no number": good(exp="never"),
    "an end that is true": good(exp=True), "no time": good(iat=LEFT_OUT), "of the future": good(iat=NOW + 120),
    "not yet": good(nbf=NOW + 120),
    "another nonce": good(nonce="of another login"),
    "no nonce": good(nonce=LEFT_OUT), "a nonce in a list": good(nonce=["the-nonce"]),
    "nobody": good(sub=LEFT_OUT), "an empty subject": good(sub=""), "a subject that is no text": good(sub=7),
    "claims that are a list": token(RSA, b"[1]", alg="RS256", kid="rsa"),
    "claims that are no JSON": token(RSA, b"{", alg="RS256", kid="rsa"),
    "nothing": "", "text": "abc",
}  # fmt: skip


@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_says_nothing(text: str) -> None:
    with pytest.raises(NotIdentified, match="ID token is not good"):
        Far().provider.verify(text, "the-nonce", NOW)


def test_the_url_of_the_login_binds_it_to_this_browser() -> None:
    url = urlsplit(Far().provider.login_url(ATTEMPT, BACK))
    asked = {name: value for name, (value,) in parse_qs(url.query).items()}
    challenge = b64(hashlib.sha256(ATTEMPT.verifier.encode()).digest())
    assert url._replace(query="").geturl() == f"{ISSUER}/auth"
    assert asked == {
        "response_type": "code", "client_id": "desk", "redirect_uri": BACK, "scope": "openid profile email",
        "state": ATTEMPT.state, "nonce": ATTEMPT.nonce, "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    assert ATTEMPT.verifier not in url.query
    first, second = Attempt.new(), Attempt.new()
    assert len({*first, *second}) == 6 and all(len(part) >= 43 for part in first)


def test_the_code_is_redeemed_with_verifier_and_secret() -> None:
    far = Far()
    assert far.claims()["sub"] == "u1"
    url, headers, body = next(asked for asked in far.asked if asked[2] is not None)
    form = {name: value for name, (value,) in parse_qs((body or b"").decode()).items()}
    assert url == f"{ISSUER}/token"
    assert form == {
        "grant_type": "authorization_code",
        "code": "c1",
        "redirect_uri": BACK,
        "code_verifier": ATTEMPT.verifier,
    }
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"desk:the%20client%27s%20secret"


def test_the_secret_goes_into_the_form_where_the_provider_wants_it_there() -> None:
    document = {**DOCUMENT, "token_endpoint_auth_methods_supported": ["client_secret_post"]}
    far = Far(**{"/.well-known/openid-configuration": document})
    assert far.claims()["sub"] == "u1"
    _, headers, body = next(asked for asked in far.asked if asked[2] is not None)
    assert "Authorization" not in headers and parse_qs((body or b"").decode())["client_secret"] == [SECRET]


@pytest.mark.parametrize(("answer", "text"), [
    ({"state": "another"}, "not the answer to a login that began in this browser"),
    ({"state": ""}, "not the answer to a login that began in this browser"),
    ({"state": "the-ſtate"}, "not the answer to a login that began in this browser"),
    ({"iss": "https://evil.example"}, "another identity provider"), ({"iss": ""}, "another identity provider"),
    ({"error": "access_denied"}, "did not log you in"), ({"code": ""}, "did not log you in"),
])  # fmt: skip
def test_an_answer_that_is_not_to_this_login_redeems_nothing(answer: dict[str, str], text: str) -> None:
    far = Far()
    with pytest.raises(NotIdentified, match=text):
        far.claims(**answer)
    assert "/token" not in far.paths()


@pytest.mark.parametrize(("path", "answer", "text"), [
    ("/.well-known/openid-configuration", {**DOCUMENT, "issuer": "https://evil.example"}, "another name"),
    ("/.well-known/openid-configuration", {**DOCUMENT, "token_endpoint": "http://idp.example/token"}, "token_endpoint"),
    ("/.well-known/openid-configuration", {**DOCUMENT, "jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
    ("/.well-known/openid-configuration", {**DOCUMENT, "authorization_endpoint": "javascript:alert(1)"},
     "authorization_endpoint"),
    ("/.well-known/openid-configuration", {"issuer": ISSUER}, "authorization_endpoint"),
    ("/.well-known/openid-configuration", {**DOCUMENT, "token_endpoint": "https:///token"}, "token_endpoint"),
    ("/.well-known/openid-configuration", {**DOCUMENT, "jwks_uri": ["https://idp.example/jwks"]}, "jwks_uri"),
    ("/token", {"id_token": [good()]}, "sent no ID token"), ("/token", {"id_token": 7}, "sent no ID token"),
    ("/.well-known/openid-configuration", Trouble.TIMEOUT, "cannot be asked: no answer in time"),
    ("/.well-known/openid-configuration", b"<html>", "cannot be used"),
    ("/.well-known/openid-configuration", [], "cannot be used"),
    ("/token", Trouble.STATUS, "cannot be asked: it answered with an error status"),
    ("/token", {"access_token": "x"}, "no ID token"), ("/token", {"id_token": "x" * 40_000}, "no ID token"),
    ("/jwks", {"keys": []}, "not good"), ("/jwks", {"keys": "many"}, "not good"), ("/jwks", Trouble.TLS, "certificate"),
])  # fmt: skip
def test_a_provider_that_answers_oddly_identifies_nobody(path: str, answer: Any, text: str) -> None:
    with pytest.raises(NotIdentified, match=text):
        Far(**{path: answer}).claims()


def test_an_answer_of_another_provider_redeems_nothing_where_ours_announces_no_name() -> None:
    document = {name: value for name, value in DOCUMENT.items() if not name.startswith("authorization_response")}
    far = Far(**{"/.well-known/openid-configuration": document})
    with pytest.raises(NotIdentified, match="another identity provider"):
        far.claims(iss="https://evil.example")
    assert "/token" not in far.paths()
    assert far.claims(iss="")["sub"] == "u1"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://idp.example/end", ["https://idp.example/end"], None])
def test_nobody_is_led_to_an_end_that_is_no_safe_address(url: Any) -> None:
    far = Far(**{"/.well-known/openid-configuration": {**DOCUMENT, "end_session_endpoint": url}})
    far.provider.login_url(ATTEMPT, BACK)
    assert far.provider.end_url() is None


def test_document_and_keys_are_kept_and_a_new_key_is_looked_for_once_a_minute() -> None:
    far = Far()
    for _ in range(3):
        far.provider.verify(good(), "the-nonce", NOW)
    assert far.paths() == ["/.well-known/openid-configuration", "/jwks"]
    new = good(OTHER, {"kid": "new"})
    far.answers["/jwks"] = {"keys": [jwk(OTHER, "new")]}
    far.seconds = 59
    with pytest.raises(NotIdentified):
        far.provider.verify(new, "the-nonce", NOW)
    far.seconds = 60
    assert far.provider.verify(new, "the-nonce", NOW)["sub"] == "u1"
    with pytest.raises(NotIdentified):  # the key that is gone from the set is believed no longer
        far.provider.verify(good(), "the-nonce", NOW)
    assert far.paths().count("/jwks") == 2
    far.seconds = 3660
    far.provider.verify(new, "the-nonce", NOW)
    assert far.paths().count("/.well-known/openid-configuration") == 2


def test_of_many_who_log_in_while_the_provider_is_slow_few_wait() -> None:
    """Each holds a thread, and the calls of EHRs need those."""
    far, slow, told = Far(), Event(), Queue[str]()
    answer = far.provider._call

    def slowly(*asked: Any) -> bytes:
        assert slow.wait(20)
        return answer(*asked)

    def log_in() -> None:
        try:
            told.put(far.provider.login_url(ATTEMPT, BACK))
        except NotIdentified as problem:
            told.put(str(problem))

    far.provider._call = slowly
    people = [Thread(target=log_in, daemon=True) for _ in range(AT_ONCE + 12)]
    for person in people:
        person.start()
    try:
        assert all("Too many people log in at this moment" in told.get(timeout=5) for _ in range(12))
    finally:
        slow.set()
    assert all(told.get(timeout=5).startswith(ISSUER) for _ in range(AT_ONCE))
    assert far.provider.login_url(ATTEMPT, BACK).startswith(ISSUER)


def test_no_address_inside_is_called_unless_it_is_registered() -> None:
    settings = Settings(profile=Profile.PRODUCTION, oidc_issuer="https://10.0.0.7")
    provider = IdentityProvider(Registration("https://10.0.0.7", "desk", SECRET, settings.networks_of_provider))
    with pytest.raises(NotIdentified, match="its address may not be called"):
        provider.login_url(ATTEMPT, BACK)
    assert Settings(profile=Profile.PRODUCTION, oidc_networks="10.0.0.0/8").networks_of_provider == ("10.0.0.0/8",)


def test_nothing_of_the_person_or_the_secret_is_in_a_refusal_or_a_repr() -> None:
    with pytest.raises(NotIdentified) as refused:
        Far(**{"/token": {"id_token": good(OTHER)}}).claims()
    assert "u1" not in str(refused.value) and refused.value.__suppress_context__
    assert SECRET not in repr(Settings(oidc_client_secret=SECRET, session_key=SECRET))
