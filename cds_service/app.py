"""The application: settings and library in, a WSGI app out."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask, Response, got_request_exception
from werkzeug.exceptions import HTTPException

from cds_service.errors import (
    MethodNotAllowed,
    Overloaded,
    RequestError,
    StoreUnavailable,
    TooLarge,
    TooManyCalls,
    Unauthenticated,
    UnknownService,
)
from cds_service.log_keys import log_keys
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.settings import Settings, load_settings
from cds_service.store.database import Database
from cds_service.store.decisions import DecisionLog
from cds_service.store.feedback import FeedbackStore
from cds_service.store.schema_version import require_schema
from cds_service.web.answers import internal_error, outcome, request_id, unauthenticated
from cds_service.web.callers import Callers
from cds_service.web.desk.access import Access
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.register import register_desk
from cds_service.web.feedback_api import feedback_blueprint
from cds_service.web.framing import frame_answers
from cds_service.web.front import Front
from cds_service.web.health import Health
from cds_service.web.hooks_api import LARGEST_BODY, hooks_blueprint
from cds_service.web.in_force import RulesInForce
from cds_service.web.logs import logger
from cds_service.web.openapi import openapi_blueprint
from cds_service.web.operations import operations_blueprint
from cds_service.web.rates import Rates
from cds_service.web.watch import Watch

COLLECT = (20_000, 50, 100)


def create_app(
    settings: Settings | None = None, library: RuleLibrary | None = None, now: Callable[[], datetime] | None = None
) -> Flask:
    """The service. Raises SettingsError or ContentError when it cannot be trusted to answer."""
    settings = settings if settings is not None else load_settings()
    if library is None:
        library = load_library(signoff_file=settings.signoff_file, only_signed=settings.only_signed_rules)
    clock = now if now is not None else lambda: datetime.now(UTC)
    app = Flask(__name__, static_folder="web/static", template_folder="web/templates")
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_BODY, PROPAGATE_EXCEPTIONS=False)
    database = Database(settings.database_url)
    keys = log_keys(settings)
    require_schema(database, may_upgrade=settings.upgrades_schema)
    log = DecisionLog(
        database, settings.decision_queue, keys=keys.inputs if keys.keeps_inputs else None,
        may_upgrade=settings.upgrades_schema,
    )  # fmt: skip
    health = Health(log)
    app.extensions["decision_log"] = log
    app.extensions["health"] = health
    app.extensions["database"] = database
    callers = Callers(settings, database, health, clock)
    app.extensions["callers"] = callers
    rules = RulesInForce(library, settings, database)
    app.extensions["rules"] = rules
    health.warning_sources.append(rules.warnings)
    app.register_blueprint(hooks_blueprint(rules, settings, callers, log, keys, health, clock))
    app.register_blueprint(feedback_blueprint(FeedbackStore(database), health, clock))
    watch = Watch(rules, settings, database, health, clock)
    app.extensions["watch"] = watch
    app.register_blueprint(operations_blueprint(watch, health))
    desk = Desk(rules, settings, database, watch, clock, keys, health.warnings)
    access = Access(desk)
    app.extensions["access"] = access
    register_desk(app, desk, access.sessions)
    app.register_blueprint(openapi_blueprint(rules, settings, clock))
    _answer_errors(app)
    frame_answers(app, settings, health)
    rates = Rates(settings)
    for step in (rates.limit_address, callers.know, rates.limit_client):
        app.before_request(step)
    access.guard(app)
    return app


def worker_app() -> Front:
    """The service as a worker process runs it.

    What is built at start lives as long as the process, and a request's JSON makes thousands of containers:
    the collector is told to leave the former alone and to look at the latter less often (docs/performance.md).
    """
    service = create_app()
    service.extensions["callers"].keys.start()
    service.extensions["rules"].start()
    service.extensions["watch"].start()
    app = Front(service, LARGEST_BODY)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    return app


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Response:
        if isinstance(error, Unauthenticated):
            return unauthenticated(error)
        answer = outcome(error)
        if isinstance(error, StoreUnavailable | Overloaded):
            answer.headers["Retry-After"] = "5"
        if isinstance(error, TooManyCalls):
            answer.headers["Retry-After"] = str(error.wait)
        if isinstance(error, MethodNotAllowed):
            answer.headers["Allow"] = "POST, OPTIONS"
        return answer

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        match error.code:
            case 404:
                return outcome(UnknownService("not-found", "Nothing is here. Services are listed at /cds-services."))
            case 405:
                answer = outcome(MethodNotAllowed("method", "This method is not offered here."))
                answer.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ["GET"]))
                return answer
            case 413:
                return outcome(TooLarge("size", f"The body is larger than {LARGEST_BODY} bytes."))
            case 500:
                return internal_error()
        return outcome(RequestError("request.http", "The request is not acceptable HTTP."))

    @app.errorhandler(Exception)
    def defect(error: Exception) -> Response:
        _log_defect(app, error)
        return internal_error()

    app.logger.disabled = True  # Flask's own lines hold tracebacks and messages, and those may hold the patient
    got_request_exception.connect(_log_defect, app, weak=False)  # what no handler above has met


def _log_defect(_: Flask, exception: BaseException) -> None:
    place = traceback.extract_tb(exception.__traceback__)[-1]
    logger.error(
        "defect", kind=type(exception).__name__, place=f"{place.filename}:{place.lineno}", request_id=request_id()
    )
