"""For operators: is it alive, is it ready, what did it count."""

from __future__ import annotations

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from cds_service.web.answers import json_answer
from cds_service.web.health import Health
from cds_service.web.watch import Watch


def operations_blueprint(watch: Watch, health: Health) -> Blueprint:
    """/healthz and /readyz of this worker; /metrics, of all workers together where there are several."""
    api = Blueprint("operations", __name__)

    @api.get("/healthz")
    def healthz() -> Response:
        return json_answer({"status": "alive"})

    @api.get("/readyz")
    def readyz() -> Response:
        report = watch.report()
        problems = watch.problems()
        body = {
            "status": "ready" if not problems else "not ready",
            **report,
            "problems": problems,
            "warnings": health.warnings(),
        }
        return json_answer(body, 503 if problems else 200)

    @api.get("/metrics")
    def metrics() -> Response:
        return Response(health.exposition(), content_type=CONTENT_TYPE_LATEST)

    return api
