"""A patient's pseudonym in the log: the same for the same patient of a client, and nobody's without the key."""

from __future__ import annotations

import hmac

import orjson

from cds_service.store.sealed_inputs import key_bytes

DIGITS = 24


def key_of(text: str) -> bytes:
    """The key that CDS_PSEUDONYM_KEY holds: 32 bytes in base64. Raises SettingsError, without the text."""
    return key_bytes(text, "CDS_PSEUDONYM_KEY")


def pseudonym(key: bytes, client_id: str, patient_id: str) -> str:
    """The pseudonym, 24 hexadecimal digits of HMAC-SHA256. Two clients' patients of one id are two patients."""
    return hmac.digest(key, orjson.dumps([client_id, patient_id]), "sha256").hex()[:DIGITS]
