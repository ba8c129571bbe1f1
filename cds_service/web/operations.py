"""For operators: is it alive, is it ready, what did it count."""

from __future__ import annotations

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cds_service.rules.library import RuleLibrary
from cds_service.web.answers import json_answer
from cds_service.web.health import Health


def operations_blueprint(library: RuleLibrary, health: Health) -> Blueprint:
    """/healthz, /readyz and /metrics of this worker."""
    api = Blueprint("operations", __name__)

    @api.get("/healthz")
    def healthz() -> Response:
        return json_answer({"status": "alive"})

    @api.get("/readyz")
    def readyz() -> Response:
        problems = health.problems()
        body = {
            "status": "ready" if not problems else "not ready",
            "rules": len(library.rules),
            "ruleSet": {"version": library.reading.pack_version, "hash": library.hash},
            "problems": problems,
            "warnings": health.warnings(),
        }
        return json_answer(body, 503 if problems else 200)

    @api.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(health.registry), content_type=CONTENT_TYPE_LATEST)

    return api
