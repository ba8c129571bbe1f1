"""CDS Hooks, "Prefetch Template" and "FHIR Resource Access", over HTTP and a FHIR server (tests/conformance.yaml)."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import Behaviour, FaultyServer, answer_of, hangs, http, says, serves
from forge import jwk
from infants import Json, bundle, condition, observation
from infants import request as infant_request
from services import EC, MAIN, Production, bearer, kept, opened
from wire import post, refused

REPORT = "example.infant-motor-cds.evaluation"
TOKEN = "canary-token-1f"  # noqa: S105
SPEAKS = infant_request(condition("seizure", "2026-11-20"), observation("tremor", "2026-11-20"))
QUIET = infant_request(observation("tremor", "2026-11-20"))
QUERY = re.compile(r"[A-Z][A-Za-z]+\?patient=\{\{context\.patientId\}\}(&_sort=-date)?&_count=\d+")


def outcome_of(severity: str) -> Json:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "processing"}]}


def with_entry(severity: str) -> Json:
    return {**bundle(), "entry": [{"resource": outcome_of(severity), "search": {"mode": "outcome"}}]}


def with_key(key: str, value: Any, request: Json = QUIET) -> Json:
    return {**request, "prefetch": {**request["prefetch"], key: value}}


def without(*keys: str, request: Json = SPEAKS) -> Json:
    return {**request, "prefetch": {key: value for key, value in request["prefetch"].items() if key not in keys}}


def topics(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]


def report(answer: Any) -> Json:
    found: Json = answer.get_json()["extension"][REPORT]
    return found


def templates(discovered: Json) -> list[str]:
    return list(discovered["prefetch"].values())


def test_PF_1_PF_7_reads_and_searches_of_the_recommended_kind_only(discovered: Json) -> None:
    read, *searches = sorted(templates(discovered), key=lambda template: "?" in template)
    assert read == "Patient/{{context.patientId}}"
    assert len(searches) >= 5
    assert all(QUERY.fullmatch(search) for search in searches)
    assert not [search for search in searches if re.search(r"_include|_revinclude|_has|:not|_maxresults|sort:", search)]


def test_PF_2_PF_3_PF_4_one_token_a_root_field_of_the_context(discovered: Json) -> None:
    for template in templates(discovered):
        assert re.findall(r"\{\{(.*?)\}\}", template) == ["context.patientId"]
        assert template.count("{") == template.count("}") == 2


def test_PF_5_PF_6_no_token_is_an_expression_or_names_another_key(discovered: Json) -> None:
    inside = [token for template in templates(discovered) for token in re.findall(r"\{\{(.*?)\}\}", template)]
    assert inside and not [token for token in inside if re.search(r"[%()|+ ]", token)]


@pytest.fixture
def fhir(tmp_path: Path) -> Iterator[Callable[[Behaviour], tuple[FaultyServer, Any]]]:
    """Starts a FHIR server that behaves so, and a sandbox that may ask it."""
    running: list[Any] = []

    def start(behave: Behaviour, **more: Any) -> tuple[FaultyServer, Any]:
        server = FaultyServer(behave).__enter__()
        app = opened(tmp_path, sandbox_fhir_bases=server.base, fhir_seconds=0.7, **more)
        running.extend([server, app])
        return server, app.test_client()

    yield start
    for item in running:
        if isinstance(item, FaultyServer):
            item.__exit__(None, None, None)
        else:
            item.extensions["decision_log"].close()


def granted(request: Json, base: str, **changes: Any) -> Json:
    """The request with a server and an access token for it."""
    token = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300, "scope": "user/*.read", "subject": "us"}
    token = {name: value for name, value in {**token, **changes}.items() if value is not None}
    return {**copy.deepcopy(request), "fhirServer": base, "fhirAuthorization": token}


def test_PF_8_our_own_calls_send_the_same_queries(fhir: Any, discovered: Json) -> None:
    server, client = fhir(serves(SPEAKS))
    body = {**granted(SPEAKS, server.base), "prefetch": {}}
    assert topics(post(client, body)) == topics(post(client, SPEAKS))
    expected = {template.replace("{{context.patientId}}", "p1") for template in templates(discovered)}
    assert {asked.target.removeprefix("/fhir/") for asked in server.asked} == expected
    assert len(server.asked) == len(expected)
    assert "required" in discovered["usageRequirements"]


def test_PF_9_PF_11_any_optional_key_may_be_left_out_and_is_named(sandbox: Any, discovered: Json) -> None:
    for key in discovered["prefetch"].keys() - {"patient", "conditions"}:
        answer = post(sandbox, without(key))
        assert topics(answer)
        assert report(answer)["inputs"][key] == "absent"


def test_PF_10_PF_18_prefetched_and_fetched_are_answered_alike(fhir: Any) -> None:
    server, client = fhir(serves(SPEAKS))
    prefetched = post(client, granted(SPEAKS, server.base)).get_json()
    assert server.asked == []
    fetched = post(client, granted(without(*SPEAKS["prefetch"]), server.base)).get_json()
    mixed = post(client, granted(without("observations", "procedures"), server.base)).get_json()
    assert prefetched["cards"] and prefetched["cards"] == fetched["cards"] == mixed["cards"]


@pytest.mark.parametrize(("value", "state"), [(None, "null"), (bundle(), "empty"), (bundle(total=0), "empty")])
def test_PF_12_null_and_an_empty_bundle_are_known_to_be_empty(fhir: Any, value: Any, state: str) -> None:
    server, client = fhir(serves(SPEAKS))
    answer = post(client, granted(with_key("conditions", value), server.base))
    assert topics(answer) == ["reassurance"]
    assert report(answer)["inputs"]["conditions"] == state
    assert server.asked == []


def test_PF_12_null_for_the_patient_is_412(sandbox: Any) -> None:
    refused(post(sandbox, with_key("patient", None)), 412, "data.missing")


@pytest.mark.parametrize("value", [outcome_of("error"), with_entry("error"), with_entry("fatal")])
def test_PF_13_PF_14_a_failed_query_is_unknown_and_not_asked_again(fhir: Any, value: Json) -> None:
    server, client = fhir(serves(SPEAKS))
    answer = post(client, granted(with_key("conditions", value), server.base))
    assert topics(answer) == []  # what may stand in the conditions is unknown: no reassurance
    assert report(answer)["inputs"]["conditions"] == "failed"
    assert server.asked == []


@pytest.mark.parametrize("value", [outcome_of("warning"), with_entry("warning"), with_entry("information")])
def test_PF_14_a_harmless_outcome_is_no_failure(sandbox: Any, value: Json) -> None:
    answer = post(sandbox, with_key("conditions", value))
    assert (topics(answer), report(answer)["inputs"]["conditions"]) == (["reassurance"], "no-results")


@pytest.mark.parametrize("value", [{"resourceType": "Questionnaire"}, "x", [], 5])
def test_PF_14_something_else_is_a_failure(sandbox: Any, value: Any) -> None:
    answer = post(sandbox, with_key("conditions", value))
    assert (topics(answer), report(answer)["inputs"]["conditions"]) == ([], "malformed")


def pages(first_link: str) -> Behaviour:
    """Conditions on two pages; the seizure is on the second."""
    second = bundle(condition("seizure", "2026-11-20"))

    def behave(_: FaultyServer, connection: Any, asked: Any) -> None:
        found = second if "page=2" in asked.target else answer_of(QUIET, asked.target)
        connection.sendall(http(json.dumps(found).encode()))

    return behave


def test_PF_15_the_next_page_is_read_on_the_same_server(fhir: Any) -> None:
    server, client = fhir(pages("x"))
    first = bundle(link=[{"relation": "next", "url": f"{server.base}/Condition?page=2"}])
    answer = post(client, granted(with_key("conditions", first), server.base))
    assert topics(answer)[0] == "emergency"
    assert [asked.target for asked in server.asked] == ["/fhir/Condition?page=2"]


def test_PF_15_FHIR_13_a_page_elsewhere_is_not_read_and_nothing_is_concluded(fhir: Any) -> None:
    server, client = fhir(pages("x"))
    with FaultyServer(pages("x")) as other:
        first = bundle(link=[{"relation": "next", "url": f"{other.base}/Condition?page=2"}])
        answer = post(client, granted(with_key("conditions", first), server.base))
    assert (other.asked, server.asked) == ([], [])
    assert (topics(answer), report(answer)["inputs"]["conditions"]) == ([], "incomplete")


def test_PF_16_only_what_is_missing_is_fetched(fhir: Any) -> None:
    server, client = fhir(serves(SPEAKS))
    assert topics(post(client, granted(without("conditions"), server.base)))[0] == "emergency"
    assert [asked.target.split("?")[0] for asked in server.asked] == ["/fhir/Condition"]


def test_PF_17_STATUS_412_required_data_that_cannot_be_had(fhir: Any) -> None:
    server, client = fhir(says(b"{}", "500 Internal Server Error"))
    body = refused(post(client, granted(without("patient"), server.base)), 412, "data.missing")
    assert "prefetch.patient" in body["issue"][0]["details"]["text"]
    refused(post(client, without("patient")), 412, "data.missing")
    refused(post(client, without("observations", "conditions")), 412, "data.missing")


@pytest.mark.parametrize("changes", [{"access_token": None}, {"access_token": ""}, {"access_token": "a b"}])
def test_FHIR_1_without_a_usable_token_nothing_is_asked(fhir: Any, changes: Json, tmp_path: Path) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        service = registered(tmp_path, server.base)
        answer = service.call(bearer(), body=undated(granted(without("procedures"), server.base, **changes)))
        assert topics(answer)[0] == "emergency"
        assert "no usable access token" in report(answer)["notFetched"]["procedures"]
        assert server.asked == []
        service.app.extensions["decision_log"].close()


@pytest.mark.parametrize("changes", [{"token_type": "MAC"}, {"expires_in": 0}, {"expires_in": -1}])
def test_FHIR_2_FHIR_3_a_token_of_another_type_or_expired_is_not_used(tmp_path: Path, changes: Json) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        service = registered(tmp_path, server.base)
        answer = service.call(bearer(), body=undated(granted(without("procedures"), server.base, **changes)))
        assert topics(answer)[0] == "emergency"
        assert server.asked == []
        service.app.extensions["decision_log"].close()


@pytest.mark.parametrize(
    "scope", ["user/Observation.read", "user/Observation.rs", "PATIENT.READ OBSERVATION.SEARCH", None]
)
def test_FHIR_4_scopes_of_any_kind(fhir: Any, scope: str | None) -> None:
    server, client = fhir(serves(SPEAKS))
    assert topics(post(client, granted(without("conditions"), server.base, scope=scope)))[0] == "emergency"
    assert len(server.asked) == 1


def test_FHIR_6_the_token_is_for_the_patient_of_the_context(fhir: Any) -> None:
    server, client = fhir(serves(SPEAKS))
    assert topics(post(client, granted(without("conditions"), server.base, patient="p1")))[0] == "emergency"
    before = len(server.asked)
    refused(post(client, granted(without("conditions"), server.base, patient="p2")), 400, "patient.mismatch")
    assert len(server.asked) == before


def test_FHIR_7_nothing_is_asked_when_nothing_was_named(fhir: Any) -> None:
    server, client = fhir(serves(SPEAKS))
    refused(post(client, without("patient")), 412, "data.missing")
    assert server.asked == []


def test_FHIR_8_the_token_goes_with_every_call(fhir: Any) -> None:
    server, client = fhir(serves(SPEAKS))
    post(client, granted(without(*SPEAKS["prefetch"]), server.base))
    assert len(server.asked) > 5
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {TOKEN}"}


def test_FHIR_9_FHIR_10_the_token_is_neither_kept_nor_told(tmp_path: Path, log_lines: Any) -> None:
    with FaultyServer(says(b"{}", "500 Internal Server Error")) as server:
        app = opened(tmp_path, sandbox_fhir_bases=server.base, keep_inputs=True, inputs_key="A" * 43 + "=")
        answers = [post(app.test_client(), granted(without(key), server.base)) for key in ("patient", "procedures")]
    assert [answer.status_code for answer in answers] == [412, 200]
    assert server.asked and kept(app)
    assert '"event": "answered"' in log_lines.getvalue()
    assert TOKEN not in log_lines.getvalue()
    assert not [answer for answer in answers if TOKEN in answer.text]
    assert not [file for file in tmp_path.iterdir() if TOKEN.encode() in file.read_bytes()]


def test_FHIR_9_the_next_call_without_token_has_none(tmp_path: Path) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        service = registered(tmp_path, server.base)
        for changes in ({}, {"access_token": None}):
            service.call(bearer(), body=undated(granted(without("conditions"), server.base, **changes)))
        assert len(server.asked) == 1
        service.app.extensions["decision_log"].close()


def registered(folder: Path, base: str, **more: Any) -> Production:
    """Production with a client that has a FHIR server on this machine."""
    client = {
        "id": "ward", "name": "Ward", "issuer": MAIN["issuer"], "jwks": {"keys": [jwk(EC, "ec")]},
        "fhir_bases": [base], "networks": ["127.0.0.0/8"], **more,
    }  # fmt: skip
    return Production(folder, [client])


def undated(request: Json) -> Json:
    """The request as production takes it: for the clock's day. A seizure is an emergency on any day after."""
    return {name: value for name, value in request.items() if name != "extension"}


def test_FHIR_13_only_a_registered_server_is_asked(tmp_path: Path) -> None:
    with FaultyServer(serves(SPEAKS)) as own, FaultyServer(serves(SPEAKS)) as foreign:
        service = registered(tmp_path, own.base)
        answer = service.call(bearer(), body=undated(granted(without("procedures"), foreign.base)))
        assert "not a base registered" in report(answer)["notFetched"]["procedures"]
        assert (own.asked, foreign.asked) == ([], [])
        service.app.extensions["decision_log"].close()


def test_FHIR_13_no_redirect_is_followed(fhir: Any) -> None:
    with FaultyServer(serves(SPEAKS)) as other:
        server, client = fhir(says(b"", "302 Found", Location=f"{other.base}/Condition"))
        answer = post(client, granted(without("conditions"), server.base))
    assert (len(server.asked), other.asked) == (1, [])
    assert report(answer)["inputs"]["conditions"] == "failed"


def test_FHIR_13_STATUS_504_a_server_that_hangs_is_412_in_time(fhir: Any) -> None:
    server, client = fhir(hangs)
    refused(post(client, granted(without("patient"), server.base)), 412, "data.missing")


@pytest.mark.parametrize(("allowed", "asked"), [(False, 0), (True, 1)])
def test_FHIR_14_without_an_authorization_only_where_registered_so(tmp_path: Path, allowed: bool, asked: int) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        service = registered(tmp_path, server.base, fhir_without_token=allowed)
        service.call(bearer(), body=undated({**without("conditions"), "fhirServer": server.base}))
        assert len(server.asked) == asked
        assert all("authorization" not in request.headers for request in server.asked)
        service.app.extensions["decision_log"].close()
