"""What every answer gets: request id, security headers, CORS where allowed; and its line in the log."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from cds_service.settings import Settings
from cds_service.web.answers import request_id
from cds_service.web.health import Health
from cds_service.web.logs import logger

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGES = f"{POLICY}; script-src 'self'; connect-src 'self'"  # for a script of our own that asks us; no inline one
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
TWO_YEARS = "max-age=63072000"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def frame_answers(app: Flask, settings: Settings, health: Health) -> None:
    """Frame every answer of this application, refusals and defects included."""
    origins = settings.origins
    https = settings.base_url.startswith("https://")

    def is_page() -> bool:
        """Whether this is for people: pages of elsewhere may call programs' interfaces, but never read a page."""
        return hasattr(app.view_functions.get(request.endpoint or ""), "role")

    def allowed_origin() -> str | None:
        if is_page():
            return None
        origin = request.headers.get("Origin")
        if "*" in origins:
            return "*"
        return origin if origin in origins else None

    @app.before_request
    def start() -> Response | None:
        g.started = time.perf_counter()
        if request.method == "OPTIONS" and allowed_origin() is not None:
            return Response(status=204)
        return None

    @app.after_request
    def finish(answer: Response) -> Response:
        headers = answer.headers
        headers["X-Request-Id"] = request_id()
        headers.update(HEADERS)
        headers.setdefault("Content-Security-Policy", PAGES if is_page() else POLICY)
        headers.setdefault("Cache-Control", "no-store")
        if https:
            headers["Strict-Transport-Security"] = TWO_YEARS
        origin = allowed_origin()
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Accept"
            headers["Access-Control-Expose-Headers"] = "X-Request-Id, Retry-After"
        if origins and origin != "*":
            headers.add("Vary", "Origin")
        code = g.get("error_code", "")
        health.answers.labels(str(answer.status_code), code).inc()
        client = g.get("client")
        logger.info(
            "answered", route=request.endpoint or "", status=answer.status_code, code=code, cards=g.get("cards"),
            method=request.method if request.method in METHODS else "other", client=client and client.id,
            milliseconds=round((time.perf_counter() - g.started) * 1000, 1), request_id=request_id(),
        )  # fmt: skip
        return answer
