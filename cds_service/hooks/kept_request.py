"""A request as it is kept for replay: everything on which the answer rests, and no token."""

from __future__ import annotations

from typing import Any

import orjson

from cds_service.hooks.request import HookRequest
from cds_service.hooks.respond import HookResponse

MEMBERS = ("hook_instance", "user_id", "patient_id", "encounter_id", "fhir_server", "authorized")


def write_kept(request: HookRequest, response: HookResponse, public_url: str) -> bytes:
    """The bytes to be sealed: the request with the prefetch as it was completed, and the moment of the answer."""
    kept: dict[str, Any] = {name: getattr(request, name) for name in MEMBERS}
    kept["prefetch"] = response.prefetch
    return orjson.dumps({"request": kept, "as_of": response.record.as_of, "public_url": public_url})


def read_kept(content: bytes) -> tuple[HookRequest, int, str]:
    """The request, its moment and the base of its cards' links."""
    data = orjson.loads(content)
    return HookRequest(**data["request"], as_of=None), data["as_of"], data["public_url"]
