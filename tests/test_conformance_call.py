"""CDS Hooks, "Calling a CDS Service", and the context of patient-view, over HTTP (tests/conformance.yaml)."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from services import Production, bearer, dated, undated
from wire import URL, post, refused

REPORT = "example.infant-motor-cds.evaluation"


def in_context(**changes: Any) -> Any:
    """A request with these members of its context changed; None takes one away."""
    body = dated()
    context = {**body["context"], **changes}
    return {**body, "context": {name: value for name, value in context.items() if value is not None}}


def without(*names: str) -> Any:
    return {name: value for name, value in dated().items() if name not in names}


def wrong(answer: Any, expression: str, code: str = "request.field") -> None:
    assert refused(answer, 400, code)["issue"][0]["expression"] == [expression]


def test_REQ_1_a_call_is_a_post_of_json(sandbox: Any) -> None:
    assert post(sandbox, dated()).get_json()["cards"]
    assert sandbox.get(URL).status_code == 405


def test_REQ_2_hook_is_ours_or_refused(sandbox: Any) -> None:
    wrong(post(sandbox, dated(hook="order-sign")), "hook", "request.hook")
    wrong(post(sandbox, without("hook")), "hook")


def test_REQ_3_hookInstance_is_wanted_and_makes_the_uuids(sandbox: Any) -> None:
    wrong(post(sandbox, without("hookInstance")), "hookInstance")
    one, other = (
        {card["uuid"] for card in post(sandbox, dated(hookInstance=str(uuid.UUID(int=n)))).get_json()["cards"]}
        for n in (1, 2)
    )
    assert one and not one & other


def test_REQ_4_REQ_5_an_authorization_needs_the_server(sandbox: Any) -> None:
    granted = {"access_token": "x", "token_type": "Bearer", "expires_in": 300, "scope": "user/*.rs", "subject": "us"}
    wrong(post(sandbox, dated(fhirAuthorization=granted)), "fhirServer")
    wrong(post(sandbox, dated(fhirAuthorization="x", fhirServer="https://ehr.example")), "fhirAuthorization")
    wrong(post(sandbox, dated(fhirServer="ehr.example")), "fhirServer")
    whole = dated(fhirAuthorization=granted, fhirServer="https://ehr.example/fhir")
    assert post(sandbox, whole).get_json()["cards"] == post(sandbox, dated()).get_json()["cards"]


def test_REQ_6_context_is_wanted(sandbox: Any) -> None:
    wrong(post(sandbox, without("context")), "context")
    wrong(post(sandbox, dated(context=[])), "context")


def test_REQ_7_prefetch_is_an_object_or_nothing(sandbox: Any) -> None:
    wrong(post(sandbox, dated(prefetch=[])), "prefetch")
    refused(post(sandbox, without("prefetch")), 412, "data.missing")


def test_REQ_8_an_extension_is_let_pass(sandbox: Any) -> None:
    own = dated()["extension"]
    answer = post(sandbox, dated(extension={**own, "com.epic.cdshooks.request.epic-version": "11"}))
    assert answer.data == post(sandbox, dated()).data
    wrong(post(sandbox, dated(extension=[])), "extension")


def test_REQ_9_it_answers_within_half_a_second(sandbox: Any) -> None:
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        assert post(sandbox, dated()).status_code == 200
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[18] < 0.5  # the 95th percentile; it is a few milliseconds


@pytest.mark.parametrize(("how", "status", "code"), [
    ({"body": b"{"}, 400, "json.syntax"), ({"body": b"[]"}, 400, "request.not-an-object"),
    ({"path": "/cds-services/other"}, 404, "service.unknown"), ({"method": "PUT"}, 405, "method"),
    ({"method": "DELETE"}, 405, "method"), ({"media": "text/plain"}, 415, "media-type"),
])  # fmt: skip
def test_REQ_10_each_bad_request_has_its_status(sandbox: Any, how: Any, status: int, code: str) -> None:
    answer = sandbox.open(
        how.get("path", URL), method=how.get("method", "POST"), data=how.get("body", b"{}"),
        content_type=how.get("media", "application/json"),
    )  # fmt: skip
    refused(answer, status, code)


def test_REQ_11_the_same_instance_again_gets_the_same_cards(sandbox: Any) -> None:
    first, again = post(sandbox, dated()), post(sandbox, dated())
    assert first.get_json()["cards"] and first.data == again.data


def test_REQ_11_it_is_no_replay_of_a_token(production: Production) -> None:
    first, again = production.call(bearer()), production.call(bearer())
    assert (first.status_code, again.status_code) == (200, 200)


@pytest.mark.parametrize("user", ["Practitioner/a", "PractitionerRole/a-1.b", "Patient/p1", "RelatedPerson/r"])
def test_CTX_1_users_of_four_types(sandbox: Any, user: str) -> None:
    assert post(sandbox, in_context(userId=user)).status_code == 200


@pytest.mark.parametrize("user", [None, "", "a", "Nurse/a", "Practitioner/", "Practitioner/a b", 5])
def test_CTX_1_CTX_6_any_other_user_is_refused(sandbox: Any, user: Any) -> None:
    wrong(post(sandbox, in_context(userId=user)), "context.userId")


@pytest.mark.parametrize("patient", [None, "", " ", "Group/p1", "Patient/", "../x", "a b", "a?b", "a\n", "x" * 257, 5])
def test_CTX_2_CTX_6_a_patientId_is_a_bare_id(sandbox: Any, patient: Any) -> None:
    wrong(post(sandbox, in_context(patientId=patient)), "context.patientId")


def test_CTX_3_an_encounter_goes_into_the_orders_and_nothing_depends_on_it(sandbox: Any) -> None:
    def orders(body: Any) -> list[Any]:
        cards = post(sandbox, body).get_json()["cards"]
        return [
            action["resource"] for card in cards for item in card.get("suggestions", ()) for action in item["actions"]
        ]

    with_, bare = orders(in_context(encounterId="e-1")), orders(in_context(encounterId=None))
    assert [order.pop("encounter") for order in with_] == [{"reference": "Encounter/e-1"}] * len(bare)
    assert with_ == bare and bare
    wrong(post(sandbox, in_context(encounterId="Episode/e-1")), "context.encounterId")


def test_CTX_4_every_call_stands_alone(sandbox: Any) -> None:
    asked = [dated(hookInstance=str(uuid.UUID(int=number))) for number in range(5)]
    told = [[card["summary"] for card in post(sandbox, body).get_json()["cards"]] for body in asked]
    assert told[0] and told == [told[0]] * 5


def test_CTX_6_a_long_id_is_taken_and_noted_without_the_id(sandbox: Any, log_lines: Any) -> None:
    long = "CANARY-" + "x" * 60
    refused(post(sandbox, in_context(patientId=long)), 400, "patient.mismatch")  # the chart is of another id
    assert "CANARY" not in log_lines.getvalue()
    assert log_lines.getvalue().count('"event": "long-id"') == 1
    post(sandbox, dated())
    assert log_lines.getvalue().count('"event": "long-id"') == 1


def mismatches(client: Any) -> float:
    found = [
        line
        for line in client.get("/metrics").text.splitlines()
        if 'code="patient.mismatch"' in line and 'status="400"' in line
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.mark.parametrize("change", [
    {"prefetch": {**dated()["prefetch"], "patient": {"resourceType": "Patient", "id": "other"}}},
    {"fhirServer": "https://ehr.example", "fhirAuthorization": {"access_token": "x", "patient": "other"}},
])  # fmt: skip
def test_CTX_7_another_patient_refuses_all_and_is_counted(sandbox: Any, change: Any) -> None:
    before = mismatches(sandbox)
    refused(post(sandbox, dated(**change)), 400, "patient.mismatch")
    assert mismatches(sandbox) == before + 1


def test_CTX_8_the_family_gets_no_clinician_s_card(sandbox: Any) -> None:
    for user in ("Patient/p1", "RelatedPerson/r"):
        body = post(sandbox, in_context(userId=user)).get_json()
        assert body["cards"] == []
        assert "clinicians" in body["extension"][REPORT]["notShown"]
    assert post(sandbox, in_context(userId="PractitionerRole/x")).get_json()["cards"]


def test_REQ_6_production_takes_the_same(production: Production) -> None:
    answer = production.call(bearer(), body={**undated(), "context": None})
    wrong(answer, "context")
