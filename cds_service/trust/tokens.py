"""Whether a token that came with a call is good (docs/trust.md).

The order: form, issuer, audience, times, tenant, signature, and last that the id was not used before, so that a
refused token uses up nothing. The caller is told one thing, 401; the cause is for our log and for
``cds-service token check``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeGuard

from jwt.algorithms import get_default_algorithms

from cds_service.trust.clients import Client, ClientRegistry
from cds_service.trust.key_sets import Key
from cds_service.trust.keys import KeyRing
from cds_service.trust.seen_tokens import SeenTokens

LARGEST_TOKEN = 8 * 1024
LEEWAY = 60
LONGEST_LIFE = 3600
LONGEST_ID = 256
HEADER_NAMES = frozenset({"alg", "kid", "typ", "jku"})
_SCHEME = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-_.~+/=]+)", re.ASCII)
_KID = re.compile(r"[!-~]{1,200}", re.ASCII)
_ALGORITHMS = get_default_algorithms()


class Cause(Enum):
    """Why a token is refused: a closed set, fit for logs and for a metric's label."""

    ABSENT = "absent"
    FORM = "form"
    HEADER = "header"
    ALGORITHM = "algorithm"
    CLAIMS = "claims"
    ISSUER = "issuer"
    TENANT = "tenant"
    DISABLED = "disabled"
    JKU = "jku"
    AUDIENCE = "audience"
    SUBJECT = "subject"
    EXPIRED = "expired"
    FUTURE = "future"
    LIFETIME = "lifetime"
    KEY = "key"
    SIGNATURE = "signature"
    REPEATED = "repeated"


EXPLAINED: Mapping[Cause, str] = {
    Cause.ABSENT: "there is no header 'Authorization: Bearer <token>'",
    Cause.FORM: "it is not three base64url parts of at most 8 KiB, each of the first two one JSON object without "
    "duplicate keys",
    Cause.HEADER: "its header needs alg, kid and typ 'JWT', may hold jku, and nothing else",
    Cause.ALGORITHM: "its alg is not one that is registered for this client and goes with this key",
    Cause.CLAIMS: "it needs iss, aud, jti as texts that are not empty and exp, iat as whole numbers",
    Cause.ISSUER: "its iss is not registered",
    Cause.TENANT: "its tenant is not the one registered for this issuer",
    Cause.DISABLED: "the client is disabled",
    Cause.JKU: "its jku is not exactly the URL that is registered for the client",
    Cause.AUDIENCE: "its aud is not exactly the URL called, nor an audience registered for the client",
    Cause.SUBJECT: "its sub is not the one registered for the client",
    Cause.EXPIRED: "its exp is past",
    Cause.FUTURE: "its iat or nbf lies in the future",
    Cause.LIFETIME: "exp minus iat is not between 1 second and 1 hour",
    Cause.KEY: "its kid is not among the client's keys that we hold",
    Cause.SIGNATURE: "its signature does not fit the client's key",
    Cause.REPEATED: "its jti was used before",
}


class Claims(NamedTuple):
    """The claims of a token that was found good."""

    client: Client
    jti: str
    expires: int


class Refused(Exception):
    """The token is not good. ``cause`` is for our log; ``client`` is the one the token claims to be, if registered."""

    def __init__(self, cause: Cause, client: Client | None = None) -> None:
        self.cause = cause
        self.client = client
        super().__init__(cause.value)


class TokenCheck:
    """Checks tokens against registry, keys and used ids."""

    def __init__(self, registry: ClientRegistry, keys: KeyRing, seen: SeenTokens) -> None:
        self._registry = registry
        self._keys = keys
        self._seen = seen

    def accept(self, authorization: str | None, endpoint: str, now: int) -> Client:
        """The client whose good token this is; the token's id is used up.

        ``endpoint``: our public URL that was called. ``now``: seconds since 1970. Raises Refused, and
        StoreUnavailable when it cannot be told whether the id was used.
        """
        claims = self.verify(authorization, endpoint, now)
        if not self._seen.use(claims.client.id, claims.jti, claims.expires + LEEWAY):
            raise Refused(Cause.REPEATED, claims.client)
        return claims.client

    def look(self, authorization: str | None, endpoint: str, now: int) -> Client:
        """What ``accept`` would answer now, without using up the token's id. Raises as ``accept`` does."""
        claims = self.verify(authorization, endpoint, now)
        if self._seen.known(claims.client.id, claims.jti):
            raise Refused(Cause.REPEATED, claims.client)
        return claims.client

    def verify(self, authorization: str | None, endpoint: str, now: int) -> Claims:
        """The claims of a token that is good but for having been used. Raises Refused."""
        token = _token(authorization)
        signed, _, signature = token.rpartition(".")
        header, payload = _parts(signed)
        alg, kid = _header(header)
        issuer, tenant = _text(payload, "iss"), payload.get("tenant")
        if tenant is not None and (not isinstance(tenant, str) or not tenant):
            raise Refused(Cause.CLAIMS)
        client = self._client(issuer, tenant)
        if "jku" in header and header["jku"] != client.jku:
            raise Refused(Cause.JKU, client)
        expires, jti = _claims(payload, client, endpoint, now)
        key = self._keys.find(client, kid)
        if key is None:
            raise Refused(Cause.KEY, client)
        if alg not in key.algorithms:
            raise Refused(Cause.ALGORITHM, client)
        if not _is_signed(signed, signature, alg, key):
            raise Refused(Cause.SIGNATURE, client)
        return Claims(client, jti, expires)

    def _client(self, issuer: str, tenant: str | None) -> Client:
        client = self._registry.find(issuer, tenant)
        if client is None:
            raise Refused(Cause.TENANT if self._registry.knows(issuer) else Cause.ISSUER)
        if client.disabled:
            raise Refused(Cause.DISABLED, client)
        return client


def _token(authorization: str | None) -> str:
    if authorization is None or not authorization.strip():
        raise Refused(Cause.ABSENT)
    if len(authorization) > LARGEST_TOKEN + len("Bearer "):
        raise Refused(Cause.FORM)
    found = _SCHEME.fullmatch(authorization)
    if found is None:
        raise Refused(Cause.FORM)
    return found[1]


def _is_signed(signed: str, signature: str, alg: str, key: Key) -> bool:
    """Whether this is the signature by this key; ``alg`` is one of the key's own."""
    try:
        return bool(_ALGORITHMS[alg].verify(signed.encode(), key.public, _bytes(signature)))
    except Exception:  # PyJWT raises more than its own errors for some keys and signatures
        return False


def _parts(signed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = signed.split(".")
    if len(parts) != 2:
        raise Refused(Cause.FORM)
    return _json(parts[0]), _json(parts[1])


def _bytes(part: str) -> bytes:
    """base64url without padding. Raises ValueError for anything else, and for a second way to write the same."""
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part.encode():
        raise ValueError("not base64url in its one form")
    return content


def _json(part: str) -> dict[str, Any]:
    """One JSON object: PyJWT would let the last of two equal names win, and another reader the first."""
    try:
        value = json.loads(_bytes(part).decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Refused(Cause.FORM) from None
    if not isinstance(value, dict):
        raise Refused(Cause.FORM)
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(_: str) -> None:
    raise ValueError("not a number of JSON")


def _header(header: Mapping[str, Any]) -> tuple[str, str]:
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if header.keys() - HEADER_NAMES or not isinstance(typ, str) or typ.upper() != "JWT":
        raise Refused(Cause.HEADER)
    if not isinstance(kid, str) or not _KID.fullmatch(kid) or not isinstance(header.get("jku", ""), str):
        raise Refused(Cause.HEADER)
    if not isinstance(alg, str) or not alg.startswith(("ES", "RS")):
        raise Refused(Cause.ALGORITHM)
    return alg, kid


def _claims(payload: Mapping[str, Any], client: Client, endpoint: str, now: int) -> tuple[int, str]:
    """``exp`` and ``jti`` of claims that are all as they should be."""
    audience = payload.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if not isinstance(audience, str) or audience not in (endpoint, *client.audiences):
        raise Refused(Cause.AUDIENCE, client)
    expires, issued = payload.get("exp"), payload.get("iat")
    jti = _text(payload, "jti", client)
    if not _is_time(expires) or not _is_time(issued) or len(jti) > LONGEST_ID or not jti.isprintable():
        raise Refused(Cause.CLAIMS, client)
    if expires <= now - LEEWAY:
        raise Refused(Cause.EXPIRED, client)
    starts = payload.get("nbf", issued)
    if not _is_time(starts):
        raise Refused(Cause.CLAIMS, client)
    if max(issued, starts) > now + LEEWAY:
        raise Refused(Cause.FUTURE, client)
    if not 0 < expires - issued <= LONGEST_LIFE:
        raise Refused(Cause.LIFETIME, client)
    if client.subject is not None and payload.get("sub") != client.subject:
        raise Refused(Cause.SUBJECT, client)
    return expires, jti


def _text(payload: Mapping[str, Any], name: str, client: Client | None = None) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(Cause.CLAIMS, client)
    return value


def _is_time(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**11
