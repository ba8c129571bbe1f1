"""What the service answers, for programs (/openapi.json) and for people who try it out (/api).

The document is written by hand beside this module; tests/test_openapi.py holds it against the routes and the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any

import orjson
import yaml
from flask import Blueprint, Response, render_template, request

from cds_service.errors import RequestError
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.rules.library import RuleLibrary
from cds_service.settings import Profile, Settings
from cds_service.web.answers import json_answer, outcome
from cds_service.web.desk.roles import Role, requires
from cds_service.web.hooks_api import moment_of
from cds_service.web.in_force import RulesInForce

SAMPLE = "clustered-awake-jerks.json"


def openapi_document(settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1 of the API and the operators' endpoints, with the URL under which we are reached."""
    text = files("cds_service.web").joinpath("openapi.yaml").read_bytes()
    document: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    document["servers"] = [{"url": settings.base_url}]
    return document


def openapi_blueprint(rules: RulesInForce, settings: Settings, now: Callable[[], datetime]) -> Blueprint:
    """/openapi.json and the page /api. Trying out from the page is for the sandbox; nothing of it is logged."""
    pages = Blueprint("openapi", __name__)
    document = openapi_document(settings)
    sandbox = settings.profile is Profile.SANDBOX

    @pages.get("/openapi.json")
    def describe() -> Response:
        return json_answer(document)

    def page(body: str, answer: Response | None = None) -> str:
        told = None if answer is None else orjson.dumps(answer.get_json(), option=orjson.OPT_INDENT_2).decode()
        return render_template(
            "api.html", operations=operations_of(document), base=settings.base_url, service=SERVICE_ID, sandbox=sandbox,
            sent=body, status=None if answer is None else answer.status, told=told,
            urls=urls_of(rules.library, settings),
        )  # fmt: skip

    @pages.get("/api")
    @requires(Role.PUBLIC)
    def api() -> str:
        return page(files("fixtures").joinpath(SAMPLE).read_text(encoding="utf-8") if sandbox else "")

    if sandbox:

        @pages.post("/api")
        @requires(Role.PUBLIC)
        def try_out() -> tuple[str, int]:
            sent = request.form.get("request", "")
            try:
                asked = parse_request(sent.encode("utf-8", "surrogatepass"))
                given = respond(asked, rules.library, moment_of(asked, settings, now), settings.base_url)
                answer = json_answer(given.body)
            except RequestError as refusal:
                answer = outcome(refusal)
            return page(sent, answer), answer.status_code

    return pages


def operations_of(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Method, path and summary of everything that the document describes."""
    methods = ("get", "post")
    return [
        (method.upper(), path, item[method]["summary"])
        for path, item in document["paths"].items() for method in methods if method in item
    ]  # fmt: skip


def urls_of(library: RuleLibrary, settings: Settings) -> list[str]:
    """Every URL that a card may name: what a client's list of allowed links needs."""
    rules = [f"{settings.base_url}/rules/{rule.id}" for rule in library.rules]
    guidance = [f"{settings.base_url}/guidance/{slug}" for slug in library.guidance]
    return [f"{settings.base_url}/", *sorted(rules), *sorted(guidance)]
