"""Log lines as JSON with an allow list of fields: what is not on it is not written, so no patient ever is.

Lines of libraries lose their text: it may hold a URL or a value. The server's own keep it, without tracebacks.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson
import structlog

ALLOWED = frozenset(
    {"event", "level", "timestamp", "route", "method", "status", "code", "cards", "milliseconds", "request_id",
     "kind", "place", "cause", "client", "accepted", "rejected", "new", "unknown", "rule", "outcome"}
)  # fmt: skip
PLAIN = (str, int, float, bool, type(None))
SERVERS = frozenset({"_granian", "gunicorn.error"})


class Dropped:
    """Told how many fields were left out of log lines; /metrics counts them."""

    tell: Callable[[int], object] = staticmethod(lambda count: None)


def only_allowed(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The line without any field that is not on the list, or that is more than a plain value or a list of such."""
    kept = {name: value for name, value in fields.items() if name in ALLOWED and _is_plain(value)}
    if len(kept) < len(fields):
        Dropped.tell(len(fields) - len(kept))
    return kept


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, PLAIN) for item in value)
    return isinstance(value, PLAIN)


logger = structlog.wrap_logger(
    structlog.PrintLogger(sys.stderr),
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        only_allowed,
        structlog.processors.JSONRenderer(),
    ],
)
_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)


class LibraryLines(logging.Formatter):
    """A library's log record as one of our lines: who said something and how grave, not what."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; of the server's own messages the text without what is filled in, and no traceback of anybody."""
        event = str(record.msg) if record.name in SERVERS else "library"
        line = {"kind": record.name, "event": event, "level": record.levelname.lower()}
        return orjson.dumps(_stamp(None, "", line)).decode()


LIBRARIES = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": f"{__name__}.LibraryLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
    "loggers": {name: {"handlers": ["stderr"], "level": "INFO", "propagate": False} for name in SERVERS},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
