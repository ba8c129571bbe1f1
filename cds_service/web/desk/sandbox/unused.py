"""What of a chart the answer says it could not use, and where in the request that stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from cds_service.web.desk.sandbox.text import line_of, steps_of
from cds_service.web.desk.unread import unread_of


class Unused(NamedTuple):
    """A resource, or an element of it, of which the answer says that it was not used, and why; 0: line not found."""

    resource: str
    why: str
    line: int


def unused_of(body: Mapping[str, Any], text: str) -> list[Unused]:
    """What the answer could not use of a request, which is this text."""
    return [Unused(name, why, line_of_resource(text, name.split(" ")[0])) for name, why in unread_of(body)]


def line_of_resource(text: str, reference: str) -> int:
    """The line on which a resource of a hook request begins, by ``Type/id``; 0 when it is not there."""
    kind, _, identity = reference.rpartition("/")
    try:
        prefetch = orjson.loads(text)["prefetch"]
        for key, value in prefetch.items():
            for place, entry in enumerate(value.get("entry", ())):
                resource = entry["resource"]
                if (resource.get("resourceType"), resource.get("id")) == (kind, identity):
                    return line_of(text, [*steps_of(f"prefetch.{key}.entry[{place}]"), "resource"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return 0
    return 0
