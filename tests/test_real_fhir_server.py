"""A real R4 server as ``fhirServer``: what the service fetches there gives the cards that prefetch gives."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from infants import library
from medplum import ACCESS, Medplum, running_medplum
from wire import REFUSED, SAMPLES, Json, post, refused, report, sample

from cds_service.app import create_app
from cds_service.hooks.discovery import prefetch_templates
from cds_service.settings import Settings

WRITTEN = [name for name in SAMPLES if name not in REFUSED]


@pytest.fixture(scope="module")
def medplum() -> Iterator[Medplum]:
    with running_medplum() as server:
        yield server


@pytest.fixture(scope="module")
def service(medplum: Medplum, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    database = f"sqlite:///{tmp_path_factory.mktemp('fetching')}/cds.sqlite3"
    settings = Settings(database_url=database, sandbox_fhir_bases=medplum.base)
    app = create_app(settings, library(), lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    yield app.test_client()
    app.extensions["decision_log"].close()


def of_its_own(name: str) -> Json:
    """A sample whose patient and resources no other sample has."""
    request = sample(name)
    patient = request["context"]["patientId"]

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(part) for part in value]
        if not isinstance(value, dict):
            return f"Patient/{name}" if value == f"Patient/{patient}" else value
        changed = {key: renamed(part) for key, part in value.items()}
        if value.get("resourceType") == "Patient":
            changed["id"] = name
        elif "resourceType" in value and "id" in value:
            changed["id"] = f"{name}.{value['id']}"[-64:]
        return changed

    request["prefetch"] = {key: renamed(value) for key, value in request["prefetch"].items()}
    request["context"]["patientId"] = name
    for key in ("fhirServer", "fhirAuthorization"):
        request.pop(key, None)
    return request


def without_prefetch(request: Json, server: str, token: str = ACCESS) -> Json:
    whole = copy.deepcopy(request)
    del whole["prefetch"]
    whole["fhirServer"] = server
    whole["fhirAuthorization"] = {
        "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": "user/*.rs", "subject": "cds",
    }  # fmt: skip
    return whole


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_real_server_is_asked_for_gives_the_cards_of_prefetch(
    medplum: Medplum, service: FlaskClient, name: str
) -> None:
    request = of_its_own(name)
    medplum.take(request)
    asked_before = len(medplum.asked())
    # A server answers every query; what a sample leaves out on purpose is known there to be empty.
    whole = request | {"prefetch": dict.fromkeys(prefetch_templates(library()), None) | request["prefetch"]}
    prefetched = post(service, whole)
    assert len(medplum.asked()) == asked_before
    fetched = post(service, without_prefetch(request, medplum.base))
    assert (fetched.status_code, prefetched.status_code) == (200, 200), fetched.text
    assert "notFetched" not in report(fetched.get_json())
    assert fetched.get_json()["cards"] == prefetched.get_json()["cards"]
    assert report(fetched.get_json()).get("notEvaluated") == report(prefetched.get_json()).get("notEvaluated")


def test_each_query_of_discovery_is_asked_once_and_as_it_is_published(medplum: Medplum, service: FlaskClient) -> None:
    request = of_its_own("clonus-both-sides")
    medplum.take(request)
    asked_before = len(medplum.asked())
    assert post(service, without_prefetch(request, medplum.base)).status_code == 200
    expected = [
        f"GET /fhir/R4/{query.replace('{{context.patientId}}', 'clonus-both-sides')}"
        for query in service.get("/cds-services").get_json()["services"][0]["prefetch"].values()
    ]
    assert sorted(medplum.asked()[asked_before:]) == sorted(expected)


def test_a_token_that_the_server_refuses_is_412_and_its_text_is_not_repeated(
    medplum: Medplum, service: FlaskClient
) -> None:
    request = of_its_own("clonus-both-sides")
    medplum.take(request)
    asked_before = len(medplum.asked())
    answer = post(service, without_prefetch(request, medplum.base, token="canary-token"))  # noqa: S106
    refused(answer, 412, "data.missing")
    assert len(medplum.asked()) == asked_before
    assert "canary" not in answer.text


def test_a_patient_whom_the_server_does_not_have_is_412(medplum: Medplum, service: FlaskClient) -> None:
    request = of_its_own("clonus-both-sides")
    request["context"]["patientId"] = "nobody"
    refused(post(service, without_prefetch(request, medplum.base)), 412, "data.missing")
