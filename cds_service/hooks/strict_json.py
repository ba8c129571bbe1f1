"""Bytes → JSON, or the reason why not. Two readers must never see two truths in one body (threat T1).

orjson refuses NaN, numbers that overflow, lone surrogates, a BOM and trailing bytes. Two things it lets pass
are refused here, both by writing the value out again, which is cheap:

* Depth: wrapped in so many lists that only DEEPEST levels are left, the value cannot be written.
* Duplicate keys, of which the last would win: each key brings a colon, and no other colon is lost by reading
  and writing unless it was written as an escape. Fewer colons out than in: look slowly. (Most clients send the
  very bytes that come out again; then nothing was dropped.)
"""

from __future__ import annotations

import json
import threading
from typing import Any

import orjson

from cds_service.errors import MalformedJson

DEEPEST = 64
_ESCAPED_COLON = b"\\u003"


def _deepest_written() -> int:
    """How deep orjson writes before it refuses; found out once, so that no constant of it is assumed."""
    value: list[Any] = []
    for depth in range(1, 100_000):
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError:
            return depth - 1
        value = [value]
    raise RuntimeError("orjson no longer limits how deep it writes")


_WRAPPERS = _deepest_written() - DEEPEST


class _Wrapping(threading.local):
    """So many lists, each in another, that only DEEPEST levels are left for what is put into the innermost."""

    def __init__(self) -> None:
        self.innermost: list[Any] = []
        self.outermost = self.innermost
        for _ in range(_WRAPPERS - 1):
            self.outermost = [self.outermost]


_wrapping = _Wrapping()


def load(body: bytes) -> Any:
    """The JSON value. Raises MalformedJson with a code that says what is wrong, never with a part of it."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        if "depth limit" in str(problem):
            raise _too_deep() from None
        raise MalformedJson("json.syntax", "The body is not valid JSON in UTF-8.") from None
    wrapping = _wrapping
    wrapping.innermost.append(value)
    try:
        written = orjson.dumps(wrapping.outermost)
    except orjson.JSONEncodeError:
        raise _too_deep() from None
    finally:
        wrapping.innermost.clear()  # nothing of a patient stays here
    same = len(written) == len(body) + 2 * _WRAPPERS and written.startswith(body, _WRAPPERS)
    if not same and _may_hold_duplicates(body, written) and _has_duplicate_keys(body):
        raise MalformedJson("json.duplicate-key", "A JSON object holds the same key twice.")
    return value


def _may_hold_duplicates(body: bytes, written: bytes) -> bool:
    return _ESCAPED_COLON in body or body.count(b":") != written.count(b":")


def _too_deep() -> MalformedJson:
    return MalformedJson("json.too-deep", f"The JSON is nested more than {DEEPEST} levels deep.")


def _has_duplicate_keys(body: bytes) -> bool:
    """Whether an object in the body holds a key twice, by reading it slowly."""
    found = False

    def pairs(items: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in items}) != len(items)

    json.loads(body, object_pairs_hook=pairs)
    return found
