"""The CDS Hooks endpoints: discovery and the service call."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from flask import Blueprint, Response, g, request

from cds_service.errors import InvalidRequest, MethodNotAllowed, UnknownService, UnsupportedMedia
from cds_service.hooks.discovery import SERVICE_ID, discovery
from cds_service.hooks.kept_request import write_kept
from cds_service.hooks.request import AS_OF, FHIR_ID_LENGTH, HookRequest, parse_request
from cds_service.hooks.respond import respond
from cds_service.log_keys import LogKeys
from cds_service.record.times import moment
from cds_service.settings import Settings
from cds_service.store.decisions import DecisionLog
from cds_service.web.answers import json_answer, request_id
from cds_service.web.callers import Callers
from cds_service.web.health import Health
from cds_service.web.in_force import RulesInForce
from cds_service.web.logs import logger
from cds_service.web.recording import client_id, decision_of

LARGEST_BODY = 2 * 1024 * 1024
MEDIA_TYPES = ("application/json", "application/fhir+json")


def hooks_blueprint(
    rules: RulesInForce, settings: Settings, callers: Callers, log: DecisionLog, keys: LogKeys,
    health: Health, now: Callable[[], datetime],
) -> Blueprint:  # fmt: skip
    """The endpoints under /cds-services. ``now`` is the clock."""
    api = Blueprint("hooks", __name__)
    versions = (settings.discovery_version, settings.hook_version)

    @api.get("/cds-services")
    def discover() -> Response:
        library = rules.library
        answer = json_answer(discovery(library, *versions))
        signed = [str(len(library.signatures))] if library.signatures else []  # the description tells of them
        answer.set_etag("-".join([library.hash, *signed, *filter(None, versions)]))
        answer.headers["Cache-Control"] = "no-cache"
        answer.make_conditional(request)
        return answer

    @api.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        require_known(service_id)
        started = time.perf_counter()
        hook_request = parse_request(read_body())
        if len(hook_request.patient_id) > FHIR_ID_LENGTH:
            logger.info("long-id", client=client_id(), request_id=request_id())
        as_of = moment_of(hook_request, settings, now)
        library = rules.library
        rules.require_stops()
        response = respond(hook_request, library, as_of, settings.base_url, callers.access())
        health.seconds.observe(time.perf_counter() - started)
        health.rules_failed(response.failed_rules)
        for card in response.body["cards"]:
            health.cards.labels(card["source"]["topic"]["code"], card["indicator"]).inc()
        g.cards = len(response.body["cards"])
        kept = write_kept(hook_request, response, settings.base_url) if keys.keeps_inputs else None
        log.record(decision_of(hook_request, response, library, request_id(), now(), kept, keys.pseudonym))
        return json_answer(response.body)

    @api.route("/cds-services/<service_id>", methods=["GET", "PUT", "PATCH", "DELETE"])
    def other_methods(service_id: str) -> Response:
        require_known(service_id)
        raise MethodNotAllowed("method", "Call this service by POST.")

    return api


def require_known(service_id: str) -> None:
    """Raises UnknownService for any id but our service's."""
    if service_id != SERVICE_ID:
        raise UnknownService("service.unknown", "No service has this id; see /cds-services for those that exist.")


def read_body() -> bytes:
    """The body's bytes; Flask refuses more than LARGEST_BODY. Raises UnsupportedMedia before a byte is parsed."""
    if request.mimetype not in MEDIA_TYPES:
        raise UnsupportedMedia("media-type", f"Send the body as one of {', '.join(MEDIA_TYPES)}.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("media-type", "Send the body without Content-Encoding.")
    return request.get_data(cache=False)


def moment_of(hook_request: HookRequest, settings: Settings, now: Callable[[], datetime]) -> int:
    """The moment that the question is about: the clock's, or the request's own where that is allowed."""
    if hook_request.as_of is None:
        return moment(now())
    if not settings.accepts_as_of:
        raise InvalidRequest("request.as-of", "An as-of date is accepted in the sandbox only.", f"extension['{AS_OF}']")
    return hook_request.as_of
