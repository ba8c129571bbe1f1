"""Log lines as JSON with an allow list of fields: what is not on it is not written, so no patient ever is."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

ALLOWED = frozenset(
    {"event", "level", "timestamp", "route", "method", "status", "code", "cards", "milliseconds", "request_id",
     "kind", "place", "profile", "port", "cause", "client", "accepted", "rejected", "new", "unknown"}
)  # fmt: skip


def only_allowed(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The line without any field that is not on the list."""
    return {name: value for name, value in fields.items() if name in ALLOWED}


logger = structlog.wrap_logger(
    structlog.PrintLogger(sys.stderr),
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        only_allowed,
        structlog.processors.JSONRenderer(),
    ],
)
