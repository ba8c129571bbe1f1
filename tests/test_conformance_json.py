"""CDS Hooks, "Use of JSON" and "Extensions", over HTTP (tests/conformance.yaml)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from services import PUBLIC, Json, Production, dated
from wire import post, refused, walk

from cds_service.errors import SettingsError
from cds_service.settings import load_settings

PERMITTED = ("cards", "services")


def empty_members(body: Any) -> list[tuple[str, Any]]:
    return [
        (name, value) for part in walk(body) for name, value in part.items()
        if (value is None or value in ("", [], {})) and not (name in PERMITTED and value == [])
    ]  # fmt: skip


def test_JSON_1_answers_are_json_in_utf8_and_production_is_https(
    sandbox: Any, production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (sandbox.get("/cds-services"), post(sandbox, dated())):
        assert json.loads(answer.data.decode("utf-8")) == answer.get_json()
    monkeypatch.setenv("CDS_PROFILE", "production")
    monkeypatch.setenv("CDS_CLIENTS_FILE", str(production.file))
    monkeypatch.setenv("CDS_PUBLIC_URL", PUBLIC.replace("https", "http"))
    with pytest.raises(SettingsError, match="https URL"):
        load_settings()


def test_JSON_2_nothing_empty_is_sent(answers: dict[str, Json], discovered: Json) -> None:
    assert empty_members({"a": {"b": [{"c": None}]}, "cards": []}) == [("c", None)]
    assert [found for body in (discovered, *answers.values()) for found in empty_members(body)] == []


def test_JSON_3_an_optional_member_without_value_is_left_out(answers: dict[str, Json]) -> None:
    advice = [
        card for body in answers.values() for card in body["cards"] if card["source"]["topic"]["code"] == "reassurance"
    ]
    assert advice
    for card in advice:
        assert not {"suggestions", "selectionBehavior"} & card.keys()
    assert all("systemActions" not in body for body in answers.values())


def test_JSON_4_no_comments_and_no_trailing_commas(sandbox: Any) -> None:
    for answer in (sandbox.get("/cds-services"), post(sandbox, dated()), post(sandbox, b"{")):
        json.loads(answer.data)  # RFC 8259 knows neither


def test_JSON_4_they_are_refused_in_requests(sandbox: Any) -> None:
    for content in (b'{"hook": "patient-view",}', b'{"hook": "patient-view" /* x */}', b"// x\n{}"):
        refused(post(sandbox, content), 400, "json.syntax")


def test_JSON_5_resources_are_objects_both_ways(sandbox: Any, suggestions: list[Json]) -> None:
    for suggestion in suggestions:
        assert all(isinstance(action["resource"], dict) for action in suggestion["actions"])
    body = dated()
    body["prefetch"]["patient"] = json.dumps(body["prefetch"]["patient"])
    refused(post(sandbox, body), 412, "data.missing")


def test_JSON_6_EXT_1_unknown_members_and_extensions_change_nothing(sandbox: Any) -> None:
    plain = post(sandbox, dated())
    body = dated(**{"com.vendor": [None]})
    for part in (body["context"], body["prefetch"]["patient"], body["prefetch"]["observations"]):
        part["extension"] = (
            {"com.vendor.x": {"deep": [1]}} if part is body["context"] else [{"url": "x", "valueCode": "y"}]
        )
    body["extension"]["com.epic.cdshooks.request.bpa-trigger-action"] = 60
    assert post(sandbox, body).data == plain.data


@pytest.mark.parametrize(("content", "status", "code"), [
    (b'{"hook": 1, "hook": 1}', 400, "json.duplicate-key"), (b'{"a": NaN}', 400, "json.syntax"),
    (b"\xff", 400, "json.syntax"), (b"[" * 100, 400, "json.syntax"), (b" " * (2 * 1024 * 1024 + 1), 413, "size"),
])  # fmt: skip
def test_JSON_7_odd_json_is_refused(sandbox: Any, content: bytes, status: int, code: str) -> None:
    refused(post(sandbox, content), status, code)


@pytest.mark.parametrize("media", ["application/json", "application/fhir+json", "application/json; charset=utf-8"])
def test_JSON_7_media_types(sandbox: Any, media: str) -> None:
    answer = post(sandbox, dated(), content_type=media)
    assert (answer.status_code, answer.content_type) == (200, "application/json; charset=utf-8")
    refused(post(sandbox, dated(), content_type="text/json"), 415, "media-type")


def test_EXT_2_EXT_3_our_extensions_are_objects_under_a_name_of_ours(answers: dict[str, Json]) -> None:
    found = [
        part["extension"] for body in answers.values() for part in (body, *body["cards"])
    ]  # fmt: skip
    assert len(found) > len(answers)
    for extension in found:
        assert isinstance(extension, dict)
        assert all(
            name.startswith("example.infant-motor-cds.") and isinstance(value, dict)
            for name, value in extension.items()
        )


def test_EXT_1_feedback_may_be_extended(sandbox: Any, tmp_path: Path) -> None:
    answer = sandbox.post("/cds-services/infant-motor-workup/feedback", json={"feedback": [], "extension": {"x": 1}})
    assert (answer.status_code, answer.get_json()) == (200, {"accepted": 0, "rejected": 0})
