"""Who a person is, as the hospital's identity provider says: OpenID Connect, authorization code with PKCE.

The provider's document and keys are fetched when somebody logs in and kept for an hour; nothing is fetched for a
call of an EHR. Of an ID token all is verified: signature by a key of the provider, issuer, audience, times, nonce.
Authlib and joserfc are loaded with the first login.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import orjson

from cds_service.trust.addresses import parse_base
from cds_service.trust.deadline import cutting_itself
from cds_service.trust.key_sets import CURVES, PUBLIC_PARTS, RSA_ALGORITHMS, read_key_set
from cds_service.trust.outbound import Line, Route
from cds_service.trust.trouble import Unreachable

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

ALGORITHMS = frozenset(RSA_ALGORITHMS).union(*CURVES.values())  # public keys only: neither none nor a shared secret
SECONDS = 5.0  # for one call to the provider
KEPT_SECONDS = 3600.0
RETRY_SECONDS = 60.0  # between two looks for a key that was not known
AT_ONCE = 8  # calls to the provider: each holds a thread, and the calls of EHRs need those too
LEEWAY = 60
LARGEST_TOKEN = 32 * 1024
FORM = "application/x-www-form-urlencoded"
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class NotIdentified(Exception):
    """It is not known who the person is. The text is ours and says what to do; nothing of the person is in it."""


class Registration(NamedTuple):
    """What we and the provider have agreed on. ``networks``: where else than in public it may be."""

    issuer: str
    client_id: str
    client_secret: str
    networks: tuple[str, ...] = ()
    ca_file: str | None = None


class Attempt(NamedTuple):
    """One try to log in: secrets that only this browser and we know until it comes back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        """An attempt nobody can guess."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))


Call = Callable[[str, Mapping[str, str], bytes | None], bytes]


class IdentityProvider:
    """The identity provider of this installation."""

    def __init__(
        self, registration: Registration, call: Call | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock``: seconds of any steady clock; ``call``: URL, headers and body to the bytes of the answer."""
        self._known = registration
        self._call = call or self._over_the_network
        self._clock = clock
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, dict[str, tuple[RSAKey | ECKey, list[str]]]] | None = None

    def login_url(self, attempt: Attempt, back_to: str) -> str:
        """Where the person logs in; from there the browser comes ``back_to`` us. Raises NotIdentified."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        url = self._endpoint("authorization_endpoint")
        return str(prepare_grant_uri(
            url, self._known.client_id, "code", redirect_uri=back_to, scope="openid profile email", state=attempt.state,
            nonce=attempt.nonce, code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        ))  # fmt: skip

    def end_url(self) -> str | None:
        """Where the person also ends the session with the provider, if that was ever said."""
        url = self._document[1].get("end_session_endpoint") if self._document else None
        return url if isinstance(url, str) and self._is_safe(url) else None

    def claims(self, answer: Mapping[str, str], attempt: Attempt, back_to: str, now: int) -> dict[str, Any]:
        """What the provider says of the person who came back with ``answer``, the query of the redirect.

        ``now``: seconds since 1970. Raises NotIdentified.
        """
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise NotIdentified("This is not the answer to a login that began in this browser. Log in again.")
        document = self._provider()
        said = answer.get("iss")
        expected = document.get("authorization_response_iss_parameter_supported") is True
        if (said is not None or expected) and said != self._known.issuer:
            raise NotIdentified("The answer came from another identity provider.")
        if "error" in answer or not answer.get("code"):
            raise NotIdentified("The identity provider did not log you in.")
        form = prepare_token_request(
            "authorization_code", redirect_uri=back_to, code=answer["code"], code_verifier=attempt.verifier
        )
        tokens = self._json(self._endpoint("token_endpoint"), *self._authenticated(document, form))
        token = tokens.get("id_token")
        if not isinstance(token, str) or len(token) > LARGEST_TOKEN:
            raise NotIdentified("The identity provider sent no ID token.")
        return self.verify(token, attempt.nonce, now)

    def verify(self, token: str, nonce: str, now: int) -> dict[str, Any]:
        """The claims of an ID token that is good in every respect. Raises NotIdentified."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
            key, algorithms = self._key(kid if isinstance(kid, str) else "")
            read = jwt.decode(token, key, algorithms=algorithms)
            claims = CodeIDToken(
                read.claims,
                read.header,
                {
                    "iss": {"essential": True, "value": self._known.issuer},
                    "aud": {"essential": True, "value": self._known.client_id},
                },
                {"nonce": nonce, "client_id": self._known.client_id},
            )
            claims.validate(now=now, leeway=LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError):
            raise NotIdentified("The identity provider's ID token is not good.") from None
        if not claims.get("sub"):
            raise NotIdentified("The identity provider's ID token is not good.")
        return dict(claims)

    def _key(self, kid: str) -> tuple[RSAKey | ECKey, list[str]]:
        """The key of this id and its algorithms; an unknown one is looked for once a minute. Raises KeyError."""
        with self._lock:
            now = self._clock()
            age = KEPT_SECONDS if self._keys is None else now - self._keys[0]
            if self._keys is None or age >= KEPT_SECONDS or (kid not in self._keys[1] and age >= RETRY_SECONDS):
                document = self._json(self._endpoint("jwks_uri"), {}, None)
                good = read_key_set(document, ALGORITHMS).keys
                self._keys = now, {
                    jwk["kid"]: (_imported(jwk), sorted(good[jwk["kid"]].algorithms))
                    for jwk in document.get("keys", ()) if isinstance(jwk, dict) and jwk.get("kid") in good
                }  # fmt: skip
            return self._keys[1][kid]

    def _provider(self) -> dict[str, Any]:
        """The provider's document, OpenID Connect Discovery 1.0. Raises NotIdentified."""
        now = self._clock()
        if self._document is None or now - self._document[0] >= KEPT_SECONDS:
            document = self._json(self._known.issuer.rstrip("/") + "/.well-known/openid-configuration", {}, None)
            if document.get("issuer") != self._known.issuer:
                raise NotIdentified("The identity provider gives itself another name than CDS_OIDC_ISSUER.")
            for name in ENDPOINTS:
                if not isinstance(document.get(name), str) or not self._is_safe(document[name]):
                    raise NotIdentified(f"The identity provider's {name} cannot be used.")
            self._document = now, document
        return self._document[1]

    def _endpoint(self, name: str) -> str:
        return str(self._provider()[name])

    def _is_safe(self, url: str) -> bool:
        """Whether it is https, or http where the provider itself is (load_settings allows that on loopback only)."""
        parts = urlsplit(url)
        return parts.scheme in ("https", urlsplit(self._known.issuer).scheme) and bool(parts.hostname)

    def _authenticated(self, document: Mapping[str, Any], form: str) -> tuple[dict[str, str], bytes]:
        """Headers and body that show we are the registered client (RFC 6749, 2.3.1)."""
        name, secret = quote(self._known.client_id, safe=""), quote(self._known.client_secret, safe="")
        ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" in ways:
            basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
            return {"Content-Type": FORM, "Authorization": f"Basic {basic}"}, form.encode()
        return {"Content-Type": FORM}, f"{form}&client_id={name}&client_secret={secret}".encode()

    def _json(self, url: str, headers: Mapping[str, str], body: bytes | None) -> dict[str, Any]:
        if not self._room.acquire(blocking=False):
            raise NotIdentified("Too many people log in at this moment. Try again in a few seconds.")
        try:
            read = orjson.loads(self._call(url, headers, body))
        except Unreachable as problem:
            raise NotIdentified(f"The identity provider cannot be asked: {problem.trouble.value}.") from None
        except ValueError:
            read = None
        finally:
            self._room.release()
        if not isinstance(read, dict):
            raise NotIdentified("The identity provider's answer cannot be used.")
        return read

    def _over_the_network(self, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """One call. Raises Unreachable, and ValueError for a URL that is none of those we call."""
        base = parse_base(url)
        route = Route(base, self._known.networks, self._known.ca_file)
        sent = {"Accept": "application/json", **headers}
        with cutting_itself(SECONDS) as deadline, Line(route, deadline, sent) as line:
            return line.get(base.path) if body is None else line.post(base.path, body)


def _imported(jwk: dict[str, Any]) -> RSAKey | ECKey:
    from joserfc.jwk import ECKey, RSAKey, import_key

    key = import_key({name: jwk[name] for name in PUBLIC_PARTS if name in jwk})
    if not isinstance(key, RSAKey | ECKey):
        raise ValueError("neither RSA nor EC")
    return key
