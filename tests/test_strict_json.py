"""Bytes → JSON: nothing of a body stays behind, and calls side by side do not meet."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cds_service.errors import MalformedJson
from cds_service.hooks import strict_json
from cds_service.hooks.strict_json import DEEPEST, load

DEEP, TOO_DEEP = (b"[" * levels + b"7" + b"]" * levels for levels in (DEEPEST, DEEPEST + 1))


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"a":[1]}', ""), (DEEP, ""), (TOO_DEEP, "json.too-deep"), (b'{"a":1,"a":2}', "json.duplicate-key")],
)
def test_nothing_of_a_body_stays_when_it_was_read_or_refused(body: bytes, code: str) -> None:
    refused = ""
    try:
        value = load(body)
        assert sys.getrefcount(value) == 2, "somebody else holds it too"
    except MalformedJson as problem:
        refused = problem.code
    assert refused == code
    assert strict_json._wrapping.innermost == []


def test_bodies_that_are_read_side_by_side_are_each_judged_alone() -> None:
    def read(body: bytes) -> str:
        for _ in range(200):
            try:
                load(body)
                found = "read"
            except MalformedJson as problem:
                found = problem.code
            if found != ("read" if body is DEEP else "json.too-deep"):
                return found
        return ""

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, [DEEP, TOO_DEEP] * 8)) == {""}
    finally:
        sys.setswitchinterval(usual)
