"""SMART Backend Services: a client without a person proves who it is with a signed assertion, for a short token.

SMART App Launch 2.2, Backend Services and Asymmetric Client Authentication: private_key_jwt with ES384 or RS384, aud
the token endpoint, at most five minutes, each assertion once.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cds_service.errors import InputError
from cds_service.trust.exchange import Reply
from cds_service.trust.key_sets import SHORTEST_RSA, PrivateKey, public_jwk

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 240  # the specification allows 300
EARLY_SECONDS = 60  # a token is renewed so long before it ends
DEFAULT_LIFE = 300  # of a token that does not say (SMART recommends no more)


class SigningKey(NamedTuple):
    """A private key, with what a server finds its public half by."""

    private: PrivateKey
    kid: str
    algorithm: str

    def __repr__(self) -> str:
        return f"<key {self.kid}>"


def read_signing_key(path: Path, kid: str | None = None) -> SigningKey:
    """The private key in a file: PEM without password, a JWK or a JWK Set. Raises InputError, never with its content.

    ``kid``: the key of a set, or the id to present; by default the JWK's own, else the thumbprint (RFC 7638).
    """
    content = path.read_bytes()
    if content.lstrip()[:1] == b"{":
        private, named = _from_json(path, content, kid)
    else:
        try:
            private, named = serialization.load_pem_private_key(content, None), None
        except (ValueError, TypeError):
            raise InputError(f"{path}: neither a private key in PEM without password nor a JWK") from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP384R1):
        algorithm = "ES384"
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= SHORTEST_RSA:
        algorithm = "RS384"
    else:
        raise InputError(f"{path}: SMART wants a P-384 key (ES384) or an RSA key of {SHORTEST_RSA} bits (RS384)")
    return SigningKey(private, kid or named or public_jwk(private)["kid"], algorithm)


def _from_json(path: Path, content: bytes, kid: str | None) -> tuple[object, str | None]:
    try:
        document = orjson.loads(content)
        keys = [key for key in document.get("keys", [document]) if "d" in key]
        chosen = [key for key in keys if kid is None or key.get("kid") in (kid, None)]
        if not chosen:
            raise InputError(f"{path}: it holds no private key" + (f" with kid {kid}" if keys else ""))
        return jwt.PyJWK(chosen[0]).key, chosen[0].get("kid")
    except (orjson.JSONDecodeError, AttributeError, TypeError, jwt.PyJWTError):
        raise InputError(f"{path}: it is no JWK or JWK Set that can be used") from None


class Tokens:
    """The access token of an import, asked for when there is none, when it ends soon and when it was refused."""

    def __init__(
        self, client_id: str, key: SigningKey, endpoint: str, scope: str,
        post: Callable[[str, Callable[[], bytes]], Reply], now: Callable[[], float],
    ) -> None:  # fmt: skip
        """``post``: a form to a URL, tried again with another where that helps. ``now``: seconds since 1970."""
        self._client_id = client_id
        self._key = key
        self._endpoint = endpoint
        self._scope = scope
        self._post = post
        self._now = now
        self._lock = threading.Lock()
        self._token = ""
        self._ends = 0.0

    def current(self, refused: str = "") -> str:
        """A token that is not this ``refused`` one. Raises InputError when the server gives none."""
        with self._lock:
            if self._token in ("", refused) or self._now() > self._ends - EARLY_SECONDS:
                self._renew()
            return self._token

    def _form(self) -> bytes:
        now = int(self._now())
        claims = {
            "iss": self._client_id, "sub": self._client_id, "aud": self._endpoint, "iat": now,
            "exp": now + ASSERTION_SECONDS, "jti": str(uuid.uuid4()),
        }  # fmt: skip
        header = {"kid": self._key.kid, "typ": "JWT"}
        form = {
            "grant_type": "client_credentials", "scope": self._scope, "client_assertion_type": ASSERTION,
            "client_assertion": jwt.encode(claims, self._key.private, self._key.algorithm, headers=header),
        }  # fmt: skip
        return urlencode(form).encode()

    def _renew(self) -> None:
        reply = self._post(self._endpoint, self._form)
        try:
            answer = orjson.loads(reply.body)
            token, life = answer["access_token"], answer.get("expires_in", DEFAULT_LIFE)
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or reply.status != 200:
                raise TypeError
            self._token, self._ends = token, self._now() + max(float(life), 2 * EARLY_SECONDS)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"the token endpoint gave no access token (status {reply.status}{_cause(reply.body)}): is the client "
                f"registered there with key {self._key.kid} and scope {self._scope}?"
            ) from None


def _cause(body: bytes) -> str:
    """The error code of RFC 6749 §5.2, when it is one of the known."""
    known = ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
             "invalid_scope")  # fmt: skip
    return next((f", {code}" for code in known if f'"{code}"'.encode() in body), "")
