"""What of a chart an answer says it could not use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cds_service.hooks.respond import EVALUATION


def unread_of(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each resource, or element of one, and why: unreadable, of a code or kind not known, or words without a code."""
    report = body.get("extension", {}).get(EVALUATION, {})
    found = [(item["resource"], item["reason"]) for key in ("unreadable", "ignored") for item in report.get(key, ())]
    found += [
        (f"{item['resource']} {item['element']}", f"words without a code, like “{item['looksLike']}”: fires no rule")
        for item in report.get("uncoded", ())
    ]
    return list(dict.fromkeys(found))
