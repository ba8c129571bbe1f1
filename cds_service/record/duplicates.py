"""The same resource sent twice counts once; two of one id that differ are not guessed between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cds_service.record.binding import Json
from cds_service.record.decode import READABLE_TYPES
from cds_service.record.times import Span, parse_span

NO_ID = "~"
# FHIR R4 §2.24.0.1: [A-Za-z0-9\-.]{1,64}; some servers give longer ones. Anything else may hold a name or a number of
# a patient, and what is named goes into cards, reports and logs.
_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}", re.ASCII)


def reference_of(resource: Mapping[str, Any]) -> str:
    """``Type/id``, or the bare type when the resource has no id, or one that FHIR does not allow."""
    identity = resource.get("id")
    kind = str(resource.get("resourceType"))
    return f"{kind}/{identity}" if isinstance(identity, str) and _ID.fullmatch(identity) else kind


def identity_of(resource: Mapping[str, Any]) -> tuple[str, str]:
    """What makes a resource the same as another: type and id, whatever the id looks like; without one, its content."""
    identity = resource.get("id")
    kind = str(resource.get("resourceType"))
    return kind, identity if isinstance(identity, str) and identity else NO_ID + _canonical(resource)


def each_once(resources: Iterable[Json]) -> list[tuple[str | None, Json]]:
    """Each readable resource once with the name by which to refer to it, sorted by type and id.

    Of several with one id that differ each comes, and the name is None: nobody knows which is true.
    """
    chosen: dict[tuple[str, str], list[Json]] = {}
    for resource in resources:
        if resource.get("resourceType") in READABLE_TYPES:
            known = chosen.setdefault(identity_of(resource), [])
            if resource not in known:
                known.append(resource)
    found: list[tuple[str | None, Json]] = []
    for identity in sorted(chosen):
        several = chosen[identity]
        standing = several if len(several) == 1 else _standing(several)
        if len(standing) > 1:
            found += [(None, resource) for resource in sorted(standing, key=_canonical)]
        else:
            found.append((reference_of(standing[0]), standing[0]))
    return found


def _standing(several: list[Json]) -> list[Json]:
    """Of versions that differ: the latest when all say when they were written, without those in error."""
    times = [_last_updated(resource) for resource in several]
    dated = [(time, resource) for time, resource in zip(times, several, strict=True) if time is not None]
    if len(dated) == len(several):
        latest = max(time.lo for time, _ in dated)
        return [resource for time, resource in dated if time.hi >= latest]
    return [resource for resource in several if resource.get("status") != "entered-in-error"] or several[:1]


def _last_updated(resource: Mapping[str, Any]) -> Span | None:
    meta = resource.get("meta")
    return parse_span(meta.get("lastUpdated")) if isinstance(meta, dict) else None


def _canonical(resource: Mapping[str, Any]) -> str:
    return msgspec.json.encode(resource, order="sorted").decode()
