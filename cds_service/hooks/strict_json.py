"""Bytes → JSON, or the reason why not. Two readers must never see two truths in one body.

jiter refuses duplicate keys, NaN, lone surrogates, a BOM and trailing bytes; depth and numbers that overflow
are refused here (threat T1).
"""

from __future__ import annotations

import re
from typing import Any

import jiter

from cds_service.errors import MalformedJson

DEEPEST = 64
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_HUGE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{300}")


def load(body: bytes) -> Any:
    """The JSON value. Raises MalformedJson with a code that says what is wrong, never with a part of it."""
    if is_too_deep(body):
        raise MalformedJson("json.too-deep", f"The JSON is nested more than {DEEPEST} levels deep.")
    try:
        value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as problem:
        if "duplicate key" in str(problem):
            raise MalformedJson("json.duplicate-key", "A JSON object holds the same key twice.") from None
        raise MalformedJson("json.syntax", "The body is not valid JSON in UTF-8.") from None
    if _HUGE.search(body) and _HUGE.search(_STRINGS.sub(b"", body)):
        raise MalformedJson("json.number", "A number is too large to be read exactly.")
    return value


def is_too_deep(body: bytes) -> bool:
    """Whether objects and arrays nest deeper than we read; linear in the body, without a parse."""
    levels = _levels(body.translate(None, _NOT_BRACKETS))
    if levels is None or levels > DEEPEST:
        levels = _levels(_STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS))
    return levels is not None and levels > DEEPEST


def _levels(brackets: bytes) -> int | None:
    """How deep balanced brackets nest, at most one more than DEEPEST; None when they do not balance."""
    level = 0
    while brackets:
        if level > DEEPEST:
            return level
        inner = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(inner) == len(brackets):
            return None
        brackets = inner
        level += 1
    return level
