"""The service over HTTP: what it refuses and how, what it lets pass, and that two patients never meet."""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from infants import BASIS
from werkzeug.serving import make_server
from wire import JUNK, SAMPLES, URL, gist, infant_of, post, refused, sample, walk

from cds_service.app import create_app
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.settings import Settings

MIB_2 = 2 * 1024 * 1024
ANY = settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('http')}/decisions.sqlite3"))
    yield app
    app.extensions["decision_log"].close()


@pytest.fixture(scope="module")
def client(app):
    return app.test_client()


def with_(change):
    """A sample request, changed."""
    change(body := sample("clonus-both-sides"))
    return body


def test_discovery_says_who_we_are_and_asks_in_the_recommended_subset(client):
    answer = client.get("/cds-services")
    (service,) = answer.get_json()["services"]
    assert answer.content_type == "application/json; charset=utf-8"
    assert (service["id"], service["hook"]) == (SERVICE_ID, "patient-view")
    assert min(len(service[name]) for name in ("title", "description", "usageRequirements")) > 10
    assert service["prefetch"].pop("patient") == "Patient/{{context.patientId}}"
    for template in service["prefetch"].values():
        assert re.fullmatch(r"[A-Z]\w+\?patient=\{\{context\.patientId\}\}(&_sort=-date)?&_count=\d+", template)
    again = client.get("/cds-services", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


BYTES = {
    "json.syntax": [
        b"",
        b"{", b"{'a': 1}", b"[1,]", b'{"a": NaN}', b"\xff\xfe", b'"\\ud800"', b"{} {}", b"\xef\xbb\xbf{}", b"1e999",
    ],
    "json.duplicate-key": [
        b'{"hook": "patient-view", "hook": "patient-view"}', b'[{"a": {"b": 1, "b": 1}}]', b'{"a": 1, "\\u0061": 2}',
        b'{"a": ":", "b": {"x": 1, "x": ":"}}', b'{"a": 1, "a": "\\u003a"}', b'{"": 1, "": 2}',
    ],
    "request.not-an-object": [b"[]", b"null", b"1", b'"patient-view"', b"true"],
}  # fmt: skip


@pytest.mark.parametrize(("code", "content"), [(code, content) for code, all_ in BYTES.items() for content in all_])
def test_bytes_that_are_no_plain_json_object_are_refused(client, code, content):
    refused(post(client, content), 400, code)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_may_be_64_levels_deep_and_no_deeper(client, opening, closing):
    def nested(levels):
        body = json.dumps(sample("clonus-both-sides")).encode()
        return body[:-1] + b', "x": ' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"

    assert post(client, nested(64)).status_code == 200
    refused(post(client, nested(65)), 400, "json.too-deep")
    refused(post(client, opening * 100_000 + b"1" + closing * 100_000), 400, "json.too-deep")


AS_OF = "example.infant-motor-cds.as-of"
WRONG = {
    "request.hook": {"hook": ["order-select", "Patient-View", "patient-view ", "CANARY-1"]},
    "request.as-of": {f"extension.{AS_OF}": ["CANARY-1", "2026", "2026-13-01", "22.11.2026", 20261122, ["x"], ""]},
    "request.field": {
        "hook": [None, 7, [], "", " "], "hookInstance": [None, 7, [], "", " ", "CANARY-1" * 40],
        "context": [None, 7, [], "CANARY-1", ""], "prefetch": [[], "CANARY-1", 1], "extension": ["CANARY-1", []],
        "context.userId": [None, 7, {}, "", " ", "CANARY 1", "CANARY-1", "Nurse/CANARY-1", "Patient/"],
        "context.patientId": [None, 7, {}, "", " ", "CANARY 1", "Group/CANARY-1", "CANARY-1\n", "CANARY-1/../x",
                              "Patient/", "Patient/Patient/CANARY-1"],
        "context.encounterId": ["", 7, "Patient/CANARY-1"], "fhirServer": ["ftp://CANARY-1", 1, ""],
        "fhirAuthorization": ["CANARY-1", [], {"access_token": "CANARY-1", "token_type": "Bearer"}],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "path", "value"),
    [(code, path, value) for code, paths in WRONG.items() for path, values in paths.items() for value in values],
)
def test_a_missing_or_wrong_member_is_named_and_its_value_is_not_repeated(client, code, path, value):
    body = sample("clonus-both-sides")
    first, _, rest = path.partition(".")
    holder, name = (body[first], rest) if rest else (body, first)
    holder.pop(name, None)
    holder |= {} if value is None else {name: value}
    answer = post(client, body)
    (expression,) = refused(answer, 400, code)["issue"][0]["expression"]
    assert expression in (path, f"extension['{AS_OF}']", "fhirServer")
    assert b"CANARY" not in answer.data


def someone_else(kind):
    def change(body):
        (entry, *_) = body["prefetch"]["observations"]["entry"]
        match kind:
            case "token":
                body |= {"fhirServer": "https://ehr.example", "fhirAuthorization": {"patient": "CANARY-1"}}
            case "patient":
                body["prefetch"]["patient"]["id"] = "CANARY-1"
            case "no patient id":
                del body["prefetch"]["patient"]["id"]
            case "subject":
                entry["resource"]["subject"]["reference"] = "Patient/CANARY-1"
            case "server":
                body["fhirServer"] = "https://ehr.example/fhir"
                entry["resource"]["subject"]["reference"] = "https://CANARY-1.example/fhir/Patient/infant-n"
            case "included":
                entry["resource"] = {"resourceType": "Patient", "id": "CANARY-1"}

    return change  # fmt: skip


@pytest.mark.parametrize("kind", ["token", "patient", "no patient id", "subject", "server", "included"])
def test_data_of_somebody_else_refuses_the_whole_request(client, kind):
    answer = post(client, with_(someone_else(kind)))
    refused(answer, 400, "patient.mismatch")
    assert b"CANARY" not in answer.data


@pytest.mark.parametrize("prefetch", [
    None, {}, {"patient": None}, {"patient": {"resourceType": "Patient", "id": "infant-n"}}, {"vendor": None},
    {"observations": {"resourceType": "Bundle", "entry": []}}, {"patient": "CANARY-1", "observations": None},
    {"patient": {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": "CANARY-1"}]}},
])  # fmt: skip
def test_without_the_patient_or_any_of_the_chart_the_precondition_fails(client, prefetch):
    answer = post(client, with_(lambda body: body.update(prefetch=prefetch)))
    refused(answer, 412, "data.missing")
    assert b"CANARY" not in answer.data


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_another_method_is_refused_and_told_which_ones_work(client, method):
    answer = client.open(URL, method=method)
    assert answer.status_code == 405
    assert method == "HEAD" or refused(answer, 405, "method")
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(("method", "place", "code"), [
    ("GET", "/cds-services/CANARY-1", "service.unknown"), ("POST", "/cds-services/CANARY-1", "service.unknown"),
    ("GET", "/CANARY-1", "not-found"), ("GET", "/rules/CANARY-1", "not-found"),
])  # fmt: skip
def test_what_does_not_exist_is_not_found(client, method, place, code):
    answer = client.open(place, method=method)
    refused(answer, 404, code)
    assert b"CANARY" not in answer.data


@pytest.mark.parametrize("told", [True, False])
def test_a_body_may_have_two_mebibytes_and_no_more(client, told):
    def send(size):
        content = json.dumps(sample("clonus-both-sides")).encode().ljust(size)
        if told:
            return post(client, content)
        return client.post(URL, input_stream=io.BytesIO(content), content_type="application/json",
                           environ_overrides={"wsgi.input_terminated": True})  # fmt: skip

    assert send(MIB_2).status_code == 200
    refused(send(MIB_2 + 1), 413, "size")
    refused(send(2 * MIB_2), 413, "size")


@pytest.mark.parametrize("how", [
    {"content_type": "text/plain"}, {"content_type": ""}, {"content_type": "application/x-www-form-urlencoded"},
    {"headers": {"Content-Encoding": "gzip"}},
])  # fmt: skip
def test_another_media_type_or_a_content_encoding_is_refused(client, how):
    refused(post(client, sample("clonus-both-sides"), **how), 415, "media-type")


@pytest.mark.parametrize("sent", ["abc-123", "A" * 64, "A" * 65, "a b", "<x>", "ü", "", None])
def test_a_plain_request_id_is_echoed_and_any_other_replaced(client, sent):
    answer = client.get("/nowhere", headers={} if sent is None else {"X-Request-Id": sent})
    got = answer.headers["X-Request-Id"]
    assert got in answer.get_json()["issue"][0]["diagnostics"]
    assert got == sent if sent in ("abc-123", "A" * 64) else str(uuid.UUID(got)) == got


@pytest.mark.parametrize("place", [URL, "/cds-services", "/", "/nowhere", "/metrics"])
def test_every_answer_carries_the_security_headers(client, place):
    headers = client.get(place).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")


def test_a_preflight_is_answered_before_anything_else(client):
    answer = client.options(URL, headers={"Origin": "https://sandbox.example", "Access-Control-Request-Method": "POST"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]


def test_members_and_extensions_that_nobody_knows_are_accepted(client):
    plain = post(client, sample("clonus-both-sides"))
    body = sample("clonus-both-sides")
    for part in [body, body["context"], body["extension"], body["prefetch"]["patient"]]:
        part["com.vendor.x"] = {"deep": [1, None, "x"]}
    body["prefetch"]["vendor"] = {"resourceType": "Basic"}
    assert post(client, body).data == plain.data


def answers_or_refuses(client, content):
    answer = post(client, content)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    assert answer.get_json(force=True)


@given(content=st.binary(max_size=300))
@ANY
def test_no_bytes_make_it_fail(client, content):
    answers_or_refuses(client, content)


@given(name=st.sampled_from(SAMPLES), data=st.data())
@ANY
def test_no_damaged_bytes_of_a_sample_make_it_fail(client, name, data):
    content = bytearray(orjson.dumps(sample(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=3))
    answers_or_refuses(client, bytes(content))


@given(name=st.sampled_from(SAMPLES), data=st.data())
@ANY
def test_no_misplaced_value_in_a_sample_makes_it_fail(client, name, data):
    body = sample(name)
    for _ in range(data.draw(st.integers(1, 4))):
        parts, last = list(walk(body)), sum(1 for _ in walk(body)) - 1
        part = parts[data.draw(st.integers(0, min(4, last)) | st.integers(0, last))]
        if part:
            part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JUNK)
    answers_or_refuses(client, json.dumps(body).encode())


def test_two_patients_asked_about_at_the_same_time_never_mix(app):
    rules = {"one": "clonus-persistent-or-bilateral", "two": "dystonia-structural-workup"}
    others = {"one": "two", "two": "one"}

    def fifty(thread):
        with requests.Session() as session:
            for number in range(thread * 50, thread * 50 + 50):
                me, age, body = infant_of(number)
                answer = session.post(url, json=body, headers={"X-Request-Id": f"call-{number}"}, timeout=30)
                cards = answer.json()["cards"]
                assert answer.headers["X-Request-Id"] == f"call-{number}"
                assert len(cards) >= 2
                assert rules[me] in {rule for rules_of_card in gist(answer.json())["rules"] for rule in rules_of_card}
                assert rules[others[me]] not in answer.text
                for card in cards:
                    assert age in card["summary"]
                    assert card["extension"][BASIS]["evidence"] == [f"Observation/{me}-{number}"]
                drafts = [part for part in walk(cards) if part.get("resourceType") == "ServiceRequest"]
                assert {draft["subject"]["reference"] for draft in drafts} == {f"Patient/{me}"}
                assert f"Patient/{others[me]}" not in answer.text

    server = make_server("127.0.0.1", 0, app, threaded=True)
    url = f"http://127.0.0.1:{server.server_port}{URL}"
    running = threading.Thread(target=server.serve_forever)
    running.start()
    try:
        with ThreadPoolExecutor(32) as pool:
            assert list(pool.map(fifty, range(32))) == [None] * 32
    finally:
        server.shutdown()
        running.join()
        server.server_close()
