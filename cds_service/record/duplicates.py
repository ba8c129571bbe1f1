"""The same resource sent twice counts once; two of one id that differ are not guessed between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cds_service.record.binding import Json
from cds_service.record.decode import READABLE_TYPES
from cds_service.record.times import Span, parse_span


def reference_of(resource: Mapping[str, Any]) -> str:
    """``Type/id``, or the bare type when the resource has no id by which to name it."""
    identity = resource.get("id")
    kind = str(resource.get("resourceType"))
    return f"{kind}/{identity}" if isinstance(identity, str) and identity else kind


def each_once(resources: Iterable[Json]) -> list[tuple[str | None, Json]]:
    """Each readable resource once, sorted by type and id; the reference is None where two of one id differ."""
    chosen: dict[tuple[str, str], tuple[bool, Json]] = {}
    for resource in resources:
        kind = str(resource.get("resourceType"))
        if kind not in READABLE_TYPES:
            continue
        identity = resource.get("id")
        key = (kind, identity if isinstance(identity, str) and identity else "~" + _canonical(resource))
        known = chosen.get(key)
        if known is None:
            chosen[key] = (True, resource)
        elif known[1] != resource:
            chosen[key] = _of_two(known, resource)
    return [
        (reference_of(resource) if agreed else None, resource)
        for _, (agreed, resource) in sorted(chosen.items(), key=lambda item: item[0])
    ]


def _of_two(known: tuple[bool, Json], other: Json) -> tuple[bool, Json]:
    """Of two resources of one id that differ: the later version, or the one not entered in error."""
    if not known[0]:
        return known
    first, second = _last_updated(known[1]), _last_updated(other)
    if first is not None and second is not None and (first.hi < second.lo or second.hi < first.lo):
        return (True, other) if first.hi < second.lo else known
    one, another = sorted((known[1], other), key=_canonical)
    for mistaken, standing in ((one, another), (another, one)):
        if mistaken.get("status") == "entered-in-error":
            return (True, standing)
    return (False, one)


def _last_updated(resource: Mapping[str, Any]) -> Span | None:
    meta = resource.get("meta")
    return parse_span(meta.get("lastUpdated")) if isinstance(meta, dict) else None


def _canonical(resource: Mapping[str, Any]) -> str:
    return msgspec.json.encode(resource, order="sorted").decode()
