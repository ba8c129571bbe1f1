"""Public keys as JWK: clients' read from JWK Sets and bound to the algorithms they may verify, ours written."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey
PUBLIC_PARTS = ("kty", "crv", "x", "y", "n", "e")
MOST_KEYS = 20
SHORTEST_RSA = 2048
CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")


class Key(NamedTuple):
    """A public key and the algorithms that our record of the client allows with it."""

    public: RSAPublicKey | EllipticCurvePublicKey
    algorithms: frozenset[str]


class KeySet(NamedTuple):
    """Keys by key id, and what was wrong with those left out."""

    keys: Mapping[str, Key]
    problems: tuple[str, ...]


def read_key_set(document: object, allowed: Iterable[str]) -> KeySet:
    """The usable keys of a JWK Set.

    Left out, with the reason: keys without id or with one that stands twice, private and symmetric keys, keys
    for encryption, RSA under 2048 bits, and keys whose algorithm the client may not use.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or not listed or len(listed) > MOST_KEYS:
        return KeySet({}, ("it is no JWK Set of 1 to 20 keys",))
    keys: dict[str, Key] = {}
    problems: list[str] = []
    twice: set[str] = set()
    for number, jwk in enumerate(listed):
        try:
            kid, key = _key(jwk, frozenset(allowed))
        except ValueError as problem:
            problems.append(f"keys[{number}]: {problem}")
            continue
        if kid in keys or kid in twice:
            problems.append(f"keys[{number}]: its kid stands twice")
            keys.pop(kid, None)
            twice.add(kid)
            continue
        keys[kid] = key
    return KeySet(keys, tuple(problems))


def _key(jwk: Any, allowed: frozenset[str]) -> tuple[str, Key]:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str) or not jwk["kid"]:
        raise ValueError("it has no kid")
    if jwk.get("kty") not in ("RSA", "EC"):
        raise ValueError("its kty is neither RSA nor EC")
    if {"d", "p", "q", "k"} & jwk.keys():
        raise ValueError("it is a private key: publish the public one and make a new pair")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    try:
        parts = {name: jwk[name] for name in PUBLIC_PARTS if name in jwk}
        public = PyJWK(parts).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise ValueError("it cannot be read") from None
    fit: Iterable[str]
    if isinstance(public, RSAPublicKey):
        if public.key_size < SHORTEST_RSA:
            raise ValueError(f"it is shorter than {SHORTEST_RSA} bits")
        fit = RSA_ALGORITHMS
    elif isinstance(public, EllipticCurvePublicKey):
        fit = CURVES.get(public.curve.name, ())
    else:
        raise ValueError("it cannot be read")
    algorithms = allowed & set(fit)
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    if not algorithms:
        raise ValueError("no algorithm registered for this client goes with it")
    return jwk["kid"], Key(public, algorithms)


def public_jwk(private: PrivateKey) -> dict[str, str]:
    """The public half of a key; its kid is its thumbprint (RFC 7638)."""
    public = private.public_key()
    whole = RSAAlgorithm.to_jwk(public) if isinstance(public, RSAPublicKey) else ECAlgorithm.to_jwk(public)
    jwk = {name: value for name, value in orjson.loads(whole).items() if name in PUBLIC_PARTS}
    digest = hashlib.sha256(orjson.dumps(jwk, option=orjson.OPT_SORT_KEYS)).digest()
    return {**jwk, "kid": urlsafe_b64encode(digest).rstrip(b"=").decode()}
