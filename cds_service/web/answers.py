"""Answers on the wire: JSON bytes, and errors as FHIR OperationOutcome with a stable code and a request id."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import orjson
from flask import Response, g, request

from cds_service.errors import RequestError

OUTCOME = "application/fhir+json; charset=utf-8"
JSON = "application/json; charset=utf-8"
ERROR_SYSTEM = "https://infant-motor-cds.example/fhir/CodeSystem/error"
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def request_id() -> str:
    """The caller's X-Request-Id when it is a plain one, else one of ours; the same for the whole request."""
    known: str | None = g.get("request_id")
    if known is None:
        sent = request.headers.get("X-Request-Id", "")
        known = sent if _REQUEST_ID.fullmatch(sent) else str(uuid4())
        g.request_id = known
    return known


def json_answer(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status=status, content_type=JSON)


def outcome(error: RequestError) -> Response:
    """The OperationOutcome of a refusal: code, fixed text, element path, request id; nothing else."""
    return _outcome(error.status, error.issue_type, error.code, error.text, error.expression)


def unauthenticated(error: RequestError) -> Response:
    """The one answer to every caller without a good token: nothing in it tells one cause from another."""
    g.error_code = error.code
    answer = Response(status=error.status, headers={"WWW-Authenticate": "Bearer"})
    del answer.headers["Content-Type"]
    return answer


def internal_error() -> Response:
    """The answer to a defect of ours."""
    return _outcome(500, "exception", "internal", "The service failed. Quote the request id to its operator.", None)


def _outcome(status: int, issue_type: str, code: str, text: str, expression: str | None) -> Response:
    g.error_code = code
    issue: dict[str, Any] = {
        "severity": "fatal" if status >= 500 else "error",
        "code": issue_type,
        "details": {"coding": [{"system": ERROR_SYSTEM, "code": code}], "text": text},
        "diagnostics": f"See docs/errors.md#{code}. Request id: {request_id()}",
    }
    if expression is not None:
        issue["expression"] = [expression]
    body = {"resourceType": "OperationOutcome", "issue": [issue]}
    return Response(orjson.dumps(body), status=status, content_type=OUTCOME)
