"""The OpenAPI document is that of the service: its routes, its answers to anything at all, and a page to try it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from forge import ec_key, jwk
from hypothesis import HealthCheck, Phase, given, settings
from infants import library
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from wire import SAMPLES, URL, post, sample

from cds_service.app import create_app
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.settings import Settings
from cds_service.store.stops import stop
from cds_service.web import in_force
from cds_service.web.openapi import openapi_document, urls_of

OPERATIONS = [
    (path, method) for path, item in openapi_document(Settings())["paths"].items() for method in item
    if method in ("get", "post")
]  # fmt: skip
REFUSING = ("hooks.other_methods", "feedback.other_methods")  # they answer 405
FOR_PEOPLE = ("openapi.api", "openapi.try_out", "static")
FUZZ = SchemathesisConfig.from_dict({"checks": {
    # A request that is right in itself may still lack data (412) or name a date that is none (400).
    "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "400", "412"]},
    "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "413", "415"]},
}})  # fmt: skip


def opened(folder: Path, **more: Any) -> Flask:
    return create_app(Settings(database_url=f"sqlite:///{folder}/openapi.sqlite3", **more), library())


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    running = opened(tmp_path_factory.mktemp("openapi"))
    plain = running.wsgi_app
    near = {"REMOTE_ADDR": "127.0.0.1"}  # schemathesis says nothing of where it is; the sandbox wants to know
    running.wsgi_app = lambda environ, start: plain({**environ, **near}, start)  # type: ignore[method-assign]
    yield running
    running.extensions["decision_log"].close()


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def test_it_is_served_with_the_public_url(tmp_path: Path) -> None:
    app = opened(tmp_path, public_url="https://cds.example/base/")
    answer = app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json; charset=utf-8"
    assert answer.get_json()["openapi"].startswith("3.1")
    assert answer.get_json()["servers"] == [{"url": "https://cds.example/base"}]


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    with pytest.raises(Exception, match="paths"):
        schemathesis.openapi.from_dict({**document, "paths": []}).validate()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_it_describes_every_route_for_programs_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<(?:\w+:)?service_id>", "{id}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules() if not rule.endpoint.startswith((*REFUSING, *FOR_PEOPLE))
        and not hasattr(app.view_functions[rule.endpoint], "role")
        for method in rule.methods or () if method not in ("HEAD", "OPTIONS")
    }  # fmt: skip
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method in ("get", "post")
    }
    assert served == described


def test_every_status_it_names_is_an_error_we_have_or_a_success(document: dict[str, Any]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `[a-z.\-]+` \| (\d{3}) \|", page, re.MULTILINE)) | {"200", "304"}
    named = {status for item in document["paths"].values() for method, operation in item.items()
             if method in ("get", "post") for status in operation["responses"]}  # fmt: skip
    assert named <= known


@pytest.mark.parametrize(("path", "method", "mode"), [
    pytest.param(path, method, mode, id=f"{method}-{path}-{mode.value}")
    for path, method in OPERATIONS for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or path.startswith("/cds-services/")  # the others have nothing to get wrong
])  # fmt: skip
def test_anything_sent_is_answered_as_described(app: Flask, path: str, method: str, mode: GenerationMode) -> None:
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app, config=FUZZ)[path][method]
    answered: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    def send(case: Any) -> None:
        answered[case.call_and_validate().status_code] += 1

    send()
    assert sum(answered.values()) >= 1


def test_a_token_refused_is_answered_as_described(app: Flask) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=FUZZ)
    for path, method in OPERATIONS:
        if path.startswith("/cds-services"):
            case = schema[path][method].Case(
                path_parameters={"id": SERVICE_ID} if "{id}" in path else {}, headers={"Authorization": "Bearer x"},
                **({"body": {}, "media_type": "application/json"} if method == "post" else {}),
            )  # fmt: skip
            answer = case.call()
            assert answer.status_code == 401
            case.validate_response(answer)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_and_its_answer_are_as_described(app: Flask, document: dict[str, Any], name: str) -> None:
    for part, value in (("HookRequest", sample(name)), ("HookResponse", post(app.test_client(), sample(name)).json)):
        whole = {**document, "$ref": f"#/components/schemas/{part}"}
        assert [error.message for error in Draft202012Validator(whole).iter_errors(value)] == []


def test_the_description_refuses_what_the_service_refuses(document: dict[str, Any]) -> None:
    """A schema that lets everything pass would pass every other test here."""
    check = Draft202012Validator({**document, "$ref": "#/components/schemas/HookRequest"})
    good = sample("clonus-both-sides")
    for change in (
        {"hook": "order-sign"}, {"hookInstance": " "}, {"context": {"userId": "Practitioner/x"}}, {"fhirServer": "x"},
        {"context": {**good["context"], "patientId": "Group/x"}}, {"fhirAuthorization": {"access_token": "x"}},
        {"prefetch": []}, {"extension": "x"}, {"context": {**good["context"], "userId": "Nurse/x"}},
    ):  # fmt: skip
        assert not check.is_valid(good | change), change


NO_DATA = json.dumps(sample("clonus-both-sides") | {"prefetch": {}})


def sent_by(client: Any, text: str | bytes) -> Any:
    form = re.search(r'name="csrf" value="([^"]+)"', client.get("/api").text)
    return client.post("/api", data={"request": text, "csrf": form[1] if form else ""})


def told(answer: Any) -> Any:
    return json.loads(unescape(answer.text.split('<pre tabindex="0">')[1].split("</pre>")[0]))


def test_the_page_lists_every_operation_and_loads_nothing_from_elsewhere(app: Flask, document: dict[str, Any]) -> None:
    page = app.test_client().get("/api").text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script" not in page and "style=" not in page and "onclick" not in page
    loaded = re.findall(r'<(?:link|img|script|iframe)[^>]*(?:href|src)="([^"]+)"', page)
    assert loaded == ["/static/page.css"]


def test_a_request_sent_from_the_page_is_answered_as_by_the_service(app: Flask) -> None:
    client = app.test_client()
    whole = sample("clustered-awake-jerks")
    answer = sent_by(client, json.dumps(whole))
    assert answer.status_code == 200
    assert told(answer) == post(client, whole).get_json()


def test_a_rule_that_was_stopped_is_silent_on_the_page_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 0.0)
    app = opened(tmp_path)
    client, whole = app.test_client(), sample("clustered-awake-jerks")
    before = told(sent_by(client, json.dumps(whole)))["cards"]
    stop(app.extensions["database"], "clustered-awake-jerks", "Anna Berg", "for a test", "2026-11-26")
    after = told(sent_by(client, json.dumps(whole)))["cards"]
    assert "rules/clustered-awake-jerks" in json.dumps(before)
    assert "rules/clustered-awake-jerks" not in json.dumps(after)


@pytest.mark.parametrize(("text", "status", "code"), [
    ("", 400, "json.syntax"), ("<script>", 400, "json.syntax"), ("\ud800", 400, "json.syntax"),
    ("[]", 400, "request.not-an-object"), (NO_DATA, 412, "data.missing"),
])  # fmt: skip
def test_a_refusal_is_shown_on_the_page_and_markup_is_not_run(app: Flask, text: str, status: int, code: str) -> None:
    answer = sent_by(app.test_client(), text.encode("utf-8", "surrogatepass"))
    assert (answer.status_code, told(answer)["issue"][0]["details"]["coding"][0]["code"]) == (status, code)
    assert "<script" not in answer.text


def test_production_shows_the_page_and_takes_nothing_from_it(tmp_path: Path) -> None:
    clients = tmp_path / "clients.json"
    known = {"id": "a", "name": "A", "issuer": "https://a.example", "jwks": {"keys": [jwk(ec_key(), "1")]}}
    clients.write_text(json.dumps({"clients": [known]}))
    clients.chmod(0o600)
    app = opened(tmp_path, public_url="https://cds.example")
    app.extensions["decision_log"].close()
    app = opened(tmp_path, public_url="https://cds.example", profile="production", clients_file=clients)
    page = app.test_client().get("/api")
    assert "<form" not in page.text and "Authorization: Bearer" in page.text
    assert sent_by(app.test_client(), json.dumps(sample("clustered-awake-jerks"))).status_code == 405


def test_the_urls_on_cards_are_all_listed(app: Flask) -> None:
    listed = set(urls_of(library(), Settings()))
    assert listed <= set(re.findall(r"<code>(http[^<]+)</code>", app.test_client().get("/api").text))
    client = app.test_client()
    for name in SAMPLES:
        for card in post(client, sample(name)).get_json()["cards"]:
            assert {card["source"]["url"], *(link["url"] for link in card["links"])} <= listed
    for url in listed:
        assert client.get(url.removeprefix(Settings().base_url)).status_code == 200


def test_the_document_stands_alone() -> None:
    assert openapi_document(Settings())["paths"][URL.replace("infant-motor-workup", "{id}")]["post"]
