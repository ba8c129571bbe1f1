"""Calls of our own endpoints from the sandbox page: the whole road of a caller on this machine, without a socket."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Context
from typing import Any, NamedTuple

import orjson
from flask import Flask, current_app, request
from werkzeug.test import EnvironBuilder, run_wsgi_app

from cds_service.hooks.discovery import SERVICE_ID
from cds_service.web.callers import MAY_WAIT

CALL = f"/cds-services/{SERVICE_ID}"
FEEDBACK = f"{CALL}/feedback"
SHOWN_HEADERS = ("Content-Type", "X-Request-Id", "Cache-Control", "Retry-After", "WWW-Authenticate")


class Sent(NamedTuple):
    """A call and its answer. ``body`` None: the answer is no JSON object."""

    status: str
    code: int
    headers: Mapping[str, str]
    milliseconds: float
    text: str
    body: Mapping[str, Any] | None

    @property
    def request_id(self) -> str:
        """Under which the decision is found."""
        return self.headers.get("X-Request-Id", "")


def send(path: str, content: bytes) -> Sent:
    """POST to ourselves as whoever looks at the page: same address, no token.

    Everything that meets a caller meets this call too: authentication, limits, the line in the log, the decision log.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    headers = [("X-Forwarded-For", line) for line in request.headers.getlist("X-Forwarded-For")]
    with_environ = EnvironBuilder(
        path, base_url=request.host_url, method="POST", data=content, content_type="application/json", headers=headers,
        environ_base={"REMOTE_ADDR": request.remote_addr, MAY_WAIT: request.environ.get(MAY_WAIT, True)},
    )  # fmt: skip
    environ = with_environ.get_environ()
    started = time.perf_counter()
    # In a context of its own, so that nothing of the page's request is taken for the caller's.
    answer, status, answered = Context().run(run_wsgi_app, app.wsgi_app, environ, buffered=True)
    took = (time.perf_counter() - started) * 1000
    body = b"".join(answer)
    shown = {name: answered[name] for name in SHOWN_HEADERS if name in answered}
    return Sent(status, int(status.split(" ", 1)[0]), shown, round(took, 1), *_read(body))


def _read(content: bytes) -> tuple[str, Mapping[str, Any] | None]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace"), None
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), value if isinstance(value, dict) else None


def feedback_body(card: str, answer: Mapping[str, Any], at: str) -> bytes:
    """The feedback that an EHR sends of one card. ``at``: an instant in UTC."""
    return orjson.dumps({"feedback": [{"card": card, "outcomeTimestamp": at, **answer}]})
