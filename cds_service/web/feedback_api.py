"""The feedback endpoint of CDS Hooks 2.0.1: on the disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Blueprint, Response

from cds_service.errors import MethodNotAllowed
from cds_service.hooks.feedback import parse_feedback
from cds_service.store.feedback import FeedbackStore
from cds_service.store.period import written
from cds_service.web.answers import json_answer, request_id
from cds_service.web.health import Health
from cds_service.web.hooks_api import read_body, require_known
from cds_service.web.logs import logger
from cds_service.web.recording import client_id


def feedback_blueprint(store: FeedbackStore, health: Health, now: Callable[[], datetime]) -> Blueprint:
    """POST /cds-services/{id}/feedback. ``now`` is the clock."""
    api = Blueprint("feedback", __name__)

    @api.post("/cds-services/<service_id>/feedback")
    def give(service_id: str) -> Response:
        require_known(service_id)
        feedback = parse_feedback(read_body())
        rows = [entry._asdict() for entry in feedback.entries]
        kept = store.keep(rows, client_id(), service_id, written(now()))
        for entry in feedback.entries:
            health.feedback.labels(entry.outcome).inc()
        health.feedback_rejected.inc(len(feedback.rejected))
        health.feedback_unknown.inc(kept.unknown)
        logger.info(
            "feedback", accepted=len(feedback.entries), new=kept.new, unknown=kept.unknown,
            rejected=list(feedback.rejected), request_id=request_id(),
        )  # fmt: skip
        answer: dict[str, Any] = {"accepted": len(feedback.entries), "rejected": len(feedback.rejected)}
        if feedback.rejected:
            answer["problems"] = feedback.rejected
        return json_answer(answer)

    @api.route("/cds-services/<service_id>/feedback", methods=["GET", "PUT", "PATCH", "DELETE"])
    def other_methods(service_id: str) -> Response:
        require_known(service_id)
        raise MethodNotAllowed("method", "Send feedback by POST.")

    return api
