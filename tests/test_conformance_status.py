"""CDS Hooks, "HTTP Status Codes": each status we use, over HTTP (tests/conformance.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from services import Production, bearer, dated, opened
from wire import URL, post, refused

from cds_service.errors import StoreUnavailable
from cds_service.store.feedback import FeedbackStore
from cds_service.web import hooks_api


def test_STATUS_400_bad_json_shape_hook_or_patient(sandbox: Any) -> None:
    other = {**dated()["prefetch"], "patient": {"resourceType": "Patient", "id": "other"}}
    for body, code in (
        (b"{", "json.syntax"), ({}, "request.field"), (dated(hook="order-sign"), "request.hook"),
        (dated(prefetch=other), "patient.mismatch"),
    ):  # fmt: skip
        refused(post(sandbox, body), 400, code)


def test_STATUS_404_no_such_service(sandbox: Any) -> None:
    refused(sandbox.post("/cds-services/other", json=dated()), 404, "service.unknown")
    refused(sandbox.get("/nowhere"), 404, "not-found")


def test_STATUS_405_another_method_is_told_which_ones_work(sandbox: Any) -> None:
    answer = sandbox.delete(URL)
    refused(answer, 405, "method")
    assert answer.headers["Allow"] == "POST, OPTIONS"


def test_STATUS_413_too_large(sandbox: Any) -> None:
    refused(post(sandbox, b" " * (hooks_api.LARGEST_BODY + 1)), 413, "size")
    refused(sandbox.post(URL + "/feedback", json={"feedback": [{}] * 101}), 413, "feedback.size")


def test_STATUS_415_wrong_media_type(sandbox: Any) -> None:
    refused(post(sandbox, dated(), content_type="application/xml"), 415, "media-type")
    refused(post(sandbox, dated(), headers={"Content-Encoding": "gzip"}), 415, "media-type")


def test_STATUS_429_too_many_calls_are_told_when_to_come_back(tmp_path: Path) -> None:
    service = Production(tmp_path, calls_per_client=1)
    answers = [service.call(bearer()) for _ in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    late = answers[-1]
    refused(late, 429, "rate.client")
    assert int(late.headers["Retry-After"]) >= 1
    service.app.extensions["decision_log"].close()


def test_STATUS_500_a_defect_tells_nothing_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("canary-internals")

    app = opened(tmp_path)
    monkeypatch.setattr(hooks_api, "respond", fails)
    answer = app.test_client().post(URL, json=dated())
    refused(answer, 500, "internal")
    assert "canary" not in answer.text and "Traceback" not in answer.text
    app.extensions["decision_log"].close()


def test_STATUS_503_what_cannot_be_written_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any) -> Any:
        raise StoreUnavailable("store.unavailable", "x")

    app = opened(tmp_path)
    monkeypatch.setattr(FeedbackStore, "keep", locked)
    answer = app.test_client().post(URL + "/feedback", json={"feedback": []})
    refused(answer, 503, "store.unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    app.extensions["decision_log"].close()
