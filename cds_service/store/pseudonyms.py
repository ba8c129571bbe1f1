"""A patient's pseudonym in the log: the same for the same patient of a client, and nobody's without the key."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode

import orjson

from cds_service.errors import SettingsError

KEY_BYTES = 32
DIGITS = 24


def key_of(text: str) -> bytes:
    """The key that CDS_PSEUDONYM_KEY holds: 32 bytes in base64. Raises SettingsError, without the text."""
    try:
        key = b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"CDS_PSEUDONYM_KEY: the key is {KEY_BYTES} bytes in base64; make one with: openssl rand -base64 32"
        )
    return key


def pseudonym(key: bytes, client_id: str, patient_id: str) -> str:
    """The pseudonym, 24 hexadecimal digits of HMAC-SHA256. Two clients' patients of one id are two patients."""
    return hmac.digest(key, orjson.dumps([client_id, patient_id]), "sha256").hex()[:DIGITS]
