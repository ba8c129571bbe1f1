"""What real clients do beside the specification (CLIENTS.md of our sources): each habit is taken as it is meant.

Marks: Epic's CDS Hooks tutorial; Oracle Health's draft of 2021; the source of the CDS Hooks Sandbox; Meld's issue 11;
Inferno's CRD kit; requests of the opioid guideline's test data. More on tokens: test_tokens.py; on feedback:
test_feedback.py; on prefetch: test_prefetch_states.py.
"""

from __future__ import annotations

import copy
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from forge import ec_key, jwk, rsa_key, token
from infants import condition, infant, library, medicine, outcome, procedure
from wire import SAMPLES, URL, Json, evidence, gist, post, refused, report, said, sample

from cds_service.app import create_app
from cds_service.hooks.request import parse_request
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.feedback import FeedbackStore
from cds_service.store.schema_version import upgrade

PUBLIC = "https://cds.example"
KEY, EPIC_KEY = ec_key(), rsa_key()
EPIC = "https://ehr.example/interconnect/api/epic/2019/Security/Open/PublicKeys/530013/530013"
KID = "nJ+Q/1kYzv3hE7b9aT0cWg=="
CLIENTS = [
    {"id": "epic", "name": "Epic", "issuer": "https://ehr.example/oauth2", "jku": EPIC, "algorithms": ["RS384"],
     "audiences": ["typed-in-by-an-analyst"], "jwks": {"keys": [jwk(EPIC_KEY, KID)]}},
    {"id": "oracle", "name": "Oracle", "issuer": "https://cds-hooks.cerner.com", "tenant": "t-1",
     "jwks": {"keys": [jwk(KEY, "k")]}},
    {"id": "meld", "name": "Meld", "issuer": "https://meld.example", "audiences": ["sand_man"],
     "jwks": {"keys": [jwk(KEY, "k")]}},
    {"id": "sandbox", "name": "Sandbox", "issuer": "https://sandbox.cds-hooks.org",
     "jku": "https://sandbox.cds-hooks.org/.well-known/jwks.json", "jwks": {"keys": [jwk(KEY, "k")]}},
]  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The service in production, with these clients registered."""
    folder = tmp_path_factory.mktemp("quirks")
    clients = folder / "clients.json"
    clients.write_text(json.dumps({"clients": CLIENTS}))
    database = f"sqlite:///{folder}/cds.sqlite3"
    upgrade(Database(database))
    made = create_app(
        Settings(profile=Profile.PRODUCTION, public_url=PUBLIC, database_url=database, clients_file=clients), library()
    )
    yield made
    made.extensions["decision_log"].close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The service in the sandbox, for callers without token."""
    folder = tmp_path_factory.mktemp("quirks")
    made = create_app(Settings(database_url=f"sqlite:///{folder}/cds.sqlite3"), library())
    yield made.test_client()
    made.extensions["decision_log"].close()


def plain() -> Json:
    return sample("clonus-both-sides")


def changed(**members: Any) -> Json:
    """A sample of two cards with members of the request changed."""
    return plain() | members


def with_context(**members: Any) -> Json:
    body = plain()
    body["context"] |= members
    return body


def same_cards(answer: Json, expected: Json | None = None) -> None:
    """The decisions are those on the plain request, and it has cards."""
    whole = said(plain()) if expected is None else expected
    assert whole["cards"]
    assert (gist(answer), evidence(answer)) == (gist(whole), evidence(whole))


def call(app: Flask, key: Any, path: str = URL, header: Json | None = None, **claims: Any) -> int:
    """The status of a call with this token."""
    now = int(time.time())
    made = {"iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), "aud": PUBLIC + path, **claims}
    bearer = {"Authorization": f"Bearer {token(key, made, **(header or {'kid': 'k'}))}"}
    body = plain()
    del body["extension"]
    return app.test_client().post(path, json=body, headers=bearer).status_code


# The request


@pytest.mark.parametrize("action", [1, 5, 60])
def test_epic_extensions_of_the_request_do_not_change_the_cards(action: int) -> None:
    body = plain()
    body["extension"] |= {
        "com.epic.cdshooks.request.bpa-trigger-action": action,
        "com.epic.cdshooks.request.cds-hooks-specification-version": "1.0",
        "com.epic.cdshooks.request.fhir-version": "R4", "com.epic.cdshooks.request.criteria-id": "1234",
    }  # fmt: skip
    same_cards(said(body))


@pytest.mark.parametrize("identity", ["eq081-VQEgP8drUUqCWzHfw3", "e.Ab-9" * 12, "x" * 200])
def test_epic_ids_may_be_long_and_mixed(identity: str) -> None:
    text = json.dumps(plain()).replace(f'"{plain()["context"]["patientId"]}"', f'"{identity}"')
    body = json.loads(text.replace(f"Patient/{plain()['context']['patientId']}", f"Patient/{identity}"))
    body["context"]["encounterId"] = identity
    same_cards(said(body))


def test_epic_ids_of_resources_longer_than_64_are_evidence_as_they_are() -> None:
    long = "e.Zq-" * 20
    body = json.loads(json.dumps(plain()).replace('"id": "clonus"', f'"id": "{long}"'))
    assert evidence(said(plain())) == [{"Observation/clonus"}] * 2
    assert evidence(said(body)) == [{f"Observation/{long}"}] * 2


@pytest.mark.parametrize("user", ["PractitionerRole/e9f.3-x", "Practitioner/eM5CWtq15N0WJeuCet5bJlQ3"])
def test_epic_users_are_practitioners_or_their_roles(user: str) -> None:
    same_cards(said(with_context(userId=user)))


@pytest.mark.parametrize("scope", [
    "user/Observation.read", "patient/*.rs", "FHIR.Observation.Read(R4) FHIR.Patient.Read(R4)",
    ["Observation.Read (R4)", "Patient.Read (R4)"], "", None,
])  # fmt: skip
def test_epic_scopes_that_are_not_smart_scopes_decide_nothing(scope: Any) -> None:
    access = {"access_token": "t", "token_type": "Bearer", "expires_in": 300, "scope": scope, "subject": "cds"}
    body = changed(fhirServer="https://ehr.example/fhir", fhirAuthorization=access)
    same_cards(said(body))
    assert parse_request(json.dumps(body).encode()).token is not None


@pytest.mark.parametrize("server", [{}, {"fhirServer": "https://ehr.example/fhir"}])
def test_epic_a_call_stripped_of_its_data_is_told_the_likely_cause(sandbox: FlaskClient, server: Json) -> None:
    body = plain()
    del body["prefetch"]
    answer = refused(post(sandbox, body | server), 412, "data.missing")
    assert "not exactly the one registered" in answer["issue"][0]["details"]["text"]


@pytest.mark.parametrize("prefix", ["", "Patient/"])
@pytest.mark.parametrize("member", ["context", "fhirAuthorization"])
def test_opioid_patient_prefix_before_the_id_says_the_same(member: str, prefix: str) -> None:
    body = plain()
    written = f"{prefix}{body['context']['patientId']}"
    if member == "context":
        body["context"]["patientId"] = written
    else:
        body |= {"fhirServer": "https://ehr.example/fhir", "fhirAuthorization": {"patient": written}}
    same_cards(said(body))
    assert parse_request(json.dumps(body).encode()).patient_id == plain()["context"]["patientId"]


def test_opioid_encounter_prefix_before_the_id_says_the_same() -> None:
    parsed = parse_request(json.dumps(with_context(encounterId="Encounter/e-1")).encode())
    assert parsed.encounter_id == "e-1"


def test_opioid_patient_prefix_does_not_let_another_patient_in(sandbox: FlaskClient) -> None:
    refused(post(sandbox, with_context(patientId="Patient/somebody-else")), 400, "patient.mismatch")


def test_sandbox_access_without_the_patient_it_is_for_is_accepted() -> None:
    access = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "scope": "launch", "subject": "x"}
    same_cards(said(changed(fhirServer="https://ehr.example/fhir", fhirAuthorization=access)))


def test_redox_and_others_name_a_hook_instance_that_is_no_uuid() -> None:
    same_cards(said(changed(hookInstance="2026-11-22/17")))


# Prefetch


EMPTY = {
    "resourceType": "Bundle", "type": "searchset", "total": 0,
    "entry": [{
        "fullUrl": "urn:uuid:0", "search": {"mode": "outcome"},
        "resource": {"resourceType": "OperationOutcome", "issue": [{
            "severity": "warning", "code": "processing",
            "details": {"coding": [{"system": "urn:oid:1.2.840.114350.1.13.0.1.7.2.657369", "code": "4101"}],
                        "text": "Resource request returns no results."}}]}}],
}  # fmt: skip
NEWBORN = "jittery-newborn"


EMPTY_KEYS = [
    key
    for key, value in sample(NEWBORN)["prefetch"].items()
    if value["resourceType"] == "Bundle" and not value.get("entry")
]


def test_epic_harmless_outcome_entry_is_an_empty_answer() -> None:
    body = sample(NEWBORN)
    body["prefetch"] |= dict.fromkeys(EMPTY_KEYS, EMPTY)
    same_cards(said(body), said(sample(NEWBORN)))
    assert {report(said(body))["inputs"][key] for key in EMPTY_KEYS} == {"no-results"}


def test_epic_harmless_outcome_entry_beside_results_does_not_hide_them() -> None:
    body = plain()
    body["prefetch"]["observations"]["entry"] += EMPTY["entry"]  # type: ignore[operator]
    same_cards(said(body))


def test_an_outcome_entry_that_is_an_error_is_not_harmless() -> None:
    """The one that must not be taken for Epic's: there nothing is known, and nothing is reassured."""
    failed = copy.deepcopy(EMPTY)
    failed["entry"][0]["resource"]["issue"][0]["severity"] = "error"  # type: ignore[index]
    body = sample(NEWBORN)
    body["prefetch"]["conditions"] = failed
    assert said(sample(NEWBORN))["cards"] and not said(body)["cards"]


def test_epic_references_may_be_absolute() -> None:
    base = "https://ehr.example/interconnect/api/FHIR/R4"
    patient = plain()["context"]["patientId"]
    text = json.dumps(plain()).replace(f'"Patient/{patient}"', f'"{base}/Patient/{patient}"')
    assert text.count(base) > 2
    same_cards(said(json.loads(text) | {"fhirServer": f"{base}/"}))


def test_epic_vendor_codings_beside_the_standard_one_change_nothing() -> None:
    body = plain()
    for entry in body["prefetch"]["observations"]["entry"] + body["prefetch"]["conditions"].get("entry", []):
        own = {"system": "urn:oid:1.2.840.114350.1.13.0.1.7.2.727688", "code": "128188000", "display": "VENDOR"}
        entry["resource"]["code"]["coding"].insert(0, own)
    same_cards(said(body))


SPASMS = condition("infantile_spasms", "2026-11-10"), procedure("eeg", "2026-11-12")


def treated(**elements: Any) -> str:
    """What becomes of the rule that asks for an EEG in spasms unless they are being treated."""
    given = medicine("MedicationRequest", elements.pop("medicine", "med_vigabatrin"), authoredOn="2026-11-21")
    return outcome(infant(*SPASMS, given | elements), "R01")


@pytest.mark.parametrize(
    "shape", [{"coding": [{"code": "inpatient"}]}, [{"coding": [{"code": "inpatient"}]}], "inpatient"]
)
def test_epic_category_that_is_an_object_does_not_cost_the_medicine(shape: Any) -> None:
    assert treated(category=shape) == "excluded"
    assert outcome(infant(*SPASMS), "R01") == "recommended"


def test_epic_a_medicine_that_is_only_a_reference_with_a_name_is_unknown_not_absent() -> None:
    reference = {"reference": "Medication/eX", "display": "vigabatrin 500 mg"}
    assert treated(medicine=None, medicationReference=reference) == "data-required"


def test_sandbox_keys_that_failed_are_left_out_and_the_others_speak() -> None:
    body = plain()
    for key in ("medicationRequests", "specimens", "encounters"):
        body["prefetch"].pop(key, None)
    same_cards(said(body))
    assert report(said(body))["inputs"]["encounters"] == "absent"


def test_opioid_null_for_a_search_is_an_empty_answer() -> None:
    body = sample(NEWBORN)
    body["prefetch"] |= dict.fromkeys(EMPTY_KEYS)
    same_cards(said(body), said(sample(NEWBORN)))
    assert {report(said(body))["inputs"][key] for key in EMPTY_KEYS} == {"null"}


# Tokens


def test_epic_token_with_nbf_in_the_past_sub_and_its_kid_and_jku_is_good_for_900_seconds(app: Flask) -> None:
    now = int(time.time())
    header = {"alg": "RS384", "kid": KID, "jku": EPIC, "typ": "JWT"}
    claims = {
        "iss": "https://ehr.example/oauth2",
        "sub": "https://ehr.example/oauth2",
        "nbf": now - 300,
        "exp": now + 900,
    }
    assert call(app, EPIC_KEY, header=header, **claims) == 200
    assert call(app, EPIC_KEY, header=header, **claims | {"nbf": now + 300}) == 401


def test_epic_audience_alias_is_good_for_feedback_too_and_only_for_its_client(app: Flask) -> None:
    header = {"alg": "RS384", "kid": KID}
    named = {"iss": "https://ehr.example/oauth2", "aud": "typed-in-by-an-analyst"}
    assert call(app, EPIC_KEY, header=header, **named) == 200
    assert call(app, KEY, iss="https://meld.example", aud="typed-in-by-an-analyst") == 401


def test_meld_audience_alias_sand_man(app: Flask) -> None:
    assert call(app, KEY, iss="https://meld.example", aud="sand_man") == 200


def test_oracle_one_issuer_for_all_tenants_is_told_apart_by_tenant(app: Flask) -> None:
    assert call(app, KEY, iss="https://cds-hooks.cerner.com", tenant="t-1") == 200
    assert call(app, KEY, iss="https://cds-hooks.cerner.com", tenant="t-2") == 401


def test_inferno_token_id_of_64_hexadecimal_digits(app: Flask) -> None:
    assert call(app, KEY, iss="https://meld.example", jti=uuid.uuid4().hex * 2) == 200


def test_sandbox_sends_a_token_for_discovery_with_its_url_as_audience(app: Flask) -> None:
    now = int(time.time())
    made = {"iss": "https://sandbox.cds-hooks.org", "iat": now, "exp": now + 300}
    for audience, status in ((f"{PUBLIC}/cds-services", 200), (PUBLIC + URL, 401)):
        claims = {**made, "jti": str(uuid.uuid4()), "aud": audience}
        head = {"kid": "k", "jku": "https://sandbox.cds-hooks.org/.well-known/jwks.json"}
        bearer = {"Authorization": f"Bearer {token(KEY, claims, **head)}"}
        assert app.test_client().get("/cds-services", headers=bearer).status_code == status


def test_sandbox_is_a_browser_and_may_send_its_headers_from_its_origin(sandbox: FlaskClient) -> None:
    asked = {"Origin": "https://sandbox.cds-hooks.org", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    answer = sandbox.options(URL, headers=asked)
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert answer.status_code < 300 and answer.headers["Access-Control-Allow-Origin"] in ("*", asked["Origin"])
    assert "authorization" in allowed and "content-type" in allowed


# Cards


CARDS = [(name, card) for name in SAMPLES for card in said(sample(name))["cards"]]


def test_sandbox_takes_a_discovery_without_services_for_a_failure(sandbox: FlaskClient) -> None:
    (service,) = sandbox.get("/cds-services").get_json()["services"]
    tokens = set(re.findall(r"{{(.*?)}}", json.dumps(service["prefetch"])))
    assert tokens == {"context.patientId"}


def test_epic_topic_is_alphanumeric_and_of_few_values_that_never_change() -> None:
    codes = {card["source"]["topic"]["code"] for _, card in CARDS}
    assert all(re.fullmatch(r"[A-Za-z0-9]{1,100}", code) for code in codes)
    assert codes <= {family.id for family in library().families}


def test_epic_selection_is_any_with_one_action_per_suggestion_that_says_all_in_its_description() -> None:
    suggestions = [(card, item) for _, card in CARDS for item in card.get("suggestions", [])]
    assert suggestions
    for card, item in suggestions:
        assert card["selectionBehavior"] == "any"
        (action,) = item["actions"]
        assert action["type"] == "create"
        assert item["label"].removeprefix("Order: ").lower() in action["description"].lower()


def test_oracle_removes_links_and_may_ignore_suggestions_and_the_card_still_says_what_to_consider() -> None:
    for name, card in CARDS:
        assert "**Suggested:**" in card["detail"], name
        assert not re.search(r"https?:|]\(", card["detail"]), name
        assert all(link["type"] == "absolute" and "appContext" not in link for link in card["links"])


def test_sandbox_reads_raw_html_and_sorts_by_indicators_it_knows() -> None:
    for name, card in CARDS:
        assert card["indicator"] in ("info", "warning", "critical")
        assert not re.search(r"<[a-zA-Z/!]", card["detail"]), name


# Feedback


def test_sandbox_override_reason_without_display_is_kept(sandbox: FlaskClient) -> None:
    card = str(uuid.uuid4())
    reason = {"reason": {"code": "patient-ineligible", "system": "http://x.example"}}
    entry = {
        "card": card,
        "outcome": "overridden",
        "overrideReason": reason,
        "outcomeTimestamp": "2026-11-22T10:00:00.123Z",
    }
    answer = sandbox.post(f"{URL}/feedback", json={"feedback": [entry]})
    assert (answer.status_code, answer.get_json()["accepted"]) == (200, 1)
    rows = {row["card_uuid"]: row for row in FeedbackStore(sandbox.application.extensions["database"]).joined()}
    assert (rows[card]["reason_code"], rows[card]["reason_display"]) == ("patient-ineligible", None)


def test_epic_batch_with_overrideReasons_and_a_card_that_is_no_uuid_is_kept(sandbox: FlaskClient) -> None:
    entry = {"card": "123456", "outcome": "overridden", "outcomeTimestamp": "2026-11-22T10:00:00Z",
             "overrideReasons": {"extension": {"com.epic.cdshooks.feedback.overrideReason.title": "Not now"},
                                 "userComment": "later"}}  # fmt: skip
    accepted = {"card": "123457", "outcome": "accepted", "outcomeTimestamp": "2026-11-22T10:00:00Z",
                "acceptedSuggestions": [{"id": "7"}]}  # fmt: skip
    answer = sandbox.post(f"{URL}/feedback", json={"feedback": [entry, accepted]})
    assert answer.get_json() == {"accepted": 2, "rejected": 0}
    rows = {row["card_uuid"]: row for row in FeedbackStore(sandbox.application.extensions["database"]).joined()}
    assert (rows["123456"]["reason_extension"], rows["123456"]["comment"]) == ('{"title":"Not now"}', "later")
    assert rows["123457"]["suggestions"] == ["7"]
