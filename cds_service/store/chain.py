"""The hash chain of the decision log: what a decision's hash covers.

Each writer (a worker process since its start) has a chain of its own, so that workers do not wait for one another.
A row's hash covers its content, its cards, the digest of its sealed input and the hash of the row before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

START = "0" * 64
COVERED = (
    "writer", "seq", "prev_hash", "decided_at", "request_id", "client_id", "service", "hook_instance", "as_of",
    "rule_set_version", "rule_set_hash", "outcomes", "inputs", "card_uuids", "cards_digest", "kept_digest",
)  # fmt: skip
COVERED_OF_CARD = (
    "place", "card_uuid", "client_id", "decided_at", "family", "indicator", "rules", "workups", "suggestions", "digest",
)  # fmt: skip


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_of(decision: Mapping[str, Any]) -> str:
    """The hash of a row of ``decisions``; a pseudonym is covered where there is one, which rows of 0001 have not."""
    covered = [decision[name] for name in COVERED]
    if decision["pseudonym"]:
        covered.append(decision["pseudonym"])
    return digest(orjson.dumps(covered))


def cards_digest(cards: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a decision's rows of ``cards``, in their order; empty when it gave none."""
    rows = [[card[name] for name in COVERED_OF_CARD] for card in cards]
    return digest(orjson.dumps(rows)) if rows else ""
