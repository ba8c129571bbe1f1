"""Tokens as clients and forgers write them, part by part, so that every part can be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LEFT_OUT = object()


def b64(content: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def ec_key(curve: type[ec.EllipticCurve] = ec.SECP384R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(key: PrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    """The public half as JWK."""
    public = key.public_key()
    text = RSAAlgorithm.to_jwk(public) if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm.to_jwk(public)
    found: dict[str, Any] = {**json.loads(text), "kid": kid, "use": "sig", **more}
    found.pop("key_ops", None)
    return found


def pem(key: PrivateKey) -> bytes:
    """The public half as PEM, which everybody has."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signature(algorithm: str, key: PrivateKey | bytes, content: bytes) -> bytes:
    """The signature over the first two parts; with bytes for a key, an HMAC."""
    if isinstance(key, bytes):
        return hmac.new(key, content, hashlib.sha256 if algorithm == "HS256" else hashlib.sha384).digest()
    signed: bytes = get_default_algorithms()[algorithm].sign(content, key)
    return signed


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, with these changed; LEFT_OUT takes one away."""
    now = int(time.time())
    whole = {
        "iss": "https://ehr.example", "aud": "https://cds.example/cds-services/infant-motor-workup",
        "iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), **changes,
    }  # fmt: skip
    return {name: value for name, value in whole.items() if value is not LEFT_OUT}


def token(
    key: PrivateKey | bytes,
    payload: Mapping[str, Any] | bytes | None = None,
    *,
    header_text: bytes | None = None,
    signed_with: str | None = None,
    **header: Any,
) -> str:
    """A token: good claims signed by ES384 under the kid ``ec``, unless something else is asked for."""
    head = {"alg": "ES384", "kid": "ec", "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not LEFT_OUT}
    body = payload if isinstance(payload, bytes) else json.dumps(claims() if payload is None else payload).encode()
    content = f"{b64(header_text if header_text is not None else json.dumps(head).encode())}.{b64(body)}"
    algorithm = signed_with or str(head.get("alg", "ES384"))
    return f"{content}.{b64(signature(algorithm, key, content.encode()))}"
