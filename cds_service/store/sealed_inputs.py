"""Inputs kept for replay are sealed: AES-256-GCM, bound to their place in the log, keys from the environment only."""

from __future__ import annotations

import binascii
import hashlib
import os
import zlib
from base64 import b64decode
from typing import NamedTuple

from cds_service.errors import SettingsError

NONCE_BYTES = 12
KEY_BYTES = 32
LARGEST_INPUT = 64 * 1024 * 1024  # as many bytes as an input may have when opened again
CURE = "make one with: openssl rand -base64 32"


def key_bytes(written: str, setting: str) -> bytes:
    """The 32 bytes of a key in base64, of either alphabet. Raises SettingsError, without the text."""
    try:
        key = b64decode(written.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{setting}: a key is {KEY_BYTES} bytes in base64; {CURE}")
    return key


class UnreadableInput(Exception):
    """The kept input cannot be opened: another key, or other bytes than were sealed."""


class Sealed(NamedTuple):
    """A sealed input and the key that opens it, by the first digits of the key's hash."""

    key_id: str
    content: bytes


class InputKeys:
    """The keys of CDS_INPUTS_KEY, separated by commas: the first one seals, each opens what it sealed."""

    def __init__(self, text: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # loaded only where inputs are kept

        self._ciphers: dict[str, AESGCM] = {}
        for written in text.split(","):
            key = key_bytes(written, "CDS_INPUTS_KEY")
            self._ciphers[hashlib.sha256(key).hexdigest()[:16]] = AESGCM(key)
        self._first = next(iter(self._ciphers))

    def seal(self, content: bytes, place: str) -> Sealed:
        """The content compressed and sealed; it opens for the same place only."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, zlib.compress(content, 1), place.encode())
        return Sealed(self._first, nonce + sealed)

    def open(self, sealed: Sealed, place: str) -> bytes:
        """The content. Raises UnreadableInput."""
        from cryptography.exceptions import InvalidTag

        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise UnreadableInput("it was sealed with a key that CDS_INPUTS_KEY does not hold")
        try:
            packed = cipher.decrypt(sealed.content[:NONCE_BYTES], sealed.content[NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise UnreadableInput("the sealed bytes were changed or belong to another decision") from None
        return zlib.decompressobj().decompress(packed, LARGEST_INPUT)
