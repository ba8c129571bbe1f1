"""CDS Hooks, "Discovery", over HTTP (tests/conformance.yaml)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from infants import library
from services import PUBLIC, Json, Production, bearer, dated, opened
from wire import post, refused

DISCOVERY = "/cds-services"


def test_DISC_1_it_is_where_it_belongs_and_nowhere_else(sandbox: Any) -> None:
    assert sandbox.get(DISCOVERY).status_code == 200
    refused(sandbox.get("/.well-known/cds-services"), 404, "not-found")
    refused(sandbox.post(DISCOVERY, json={}), 405, "method")


def test_DISC_2_an_object_with_services(sandbox: Any) -> None:
    body = sandbox.get(DISCOVERY).get_json()
    assert body.keys() == {"services"}
    assert isinstance(body["services"], list) and body["services"]


def test_DISC_4_DISC_5_DISC_7_hook_description_and_title(discovered: Json) -> None:
    assert discovered["hook"] == "patient-view"
    assert all(isinstance(discovered[name], str) and len(discovered[name]) > 20 for name in ("description", "title"))


def test_DISC_6_the_id_is_the_path_that_is_called(sandbox: Any, discovered: Json) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", discovered["id"])
    answer = sandbox.post(f"{DISCOVERY}/{discovered['id']}", json=dated())
    assert answer.status_code == 200 and answer.get_json()["cards"]
    refused(sandbox.post(f"{DISCOVERY}/{discovered['id']}x", json=dated()), 404, "service.unknown")


def test_DISC_8_the_keys_are_those_that_are_read(sandbox: Any, discovered: Json) -> None:
    body = dated()
    inputs = post(sandbox, body).get_json()["extension"]["example.infant-motor-cds.evaluation"]["inputs"]
    assert inputs.keys() == discovered["prefetch"].keys()
    assert {"patient", "observations", "conditions"} <= inputs.keys()
    body["prefetch"] = {f"x{key}": value for key, value in body["prefetch"].items()}
    refused(post(sandbox, body), 412, "data.missing")


def test_DISC_9_requirements_are_told_in_words(discovered: Json) -> None:
    assert re.search(r"\bpatient is required", discovered["usageRequirements"])
    assert "412" in discovered["usageRequirements"]


def test_DISC_10_DISC_11_versions_are_sent_only_where_the_setting_says_so(tmp_path: Path, discovered: Json) -> None:
    assert not {"version", "hookVersion"} & discovered.keys()
    app = opened(tmp_path, discovery_version="3.0.0", hook_version="1.0")
    (service,) = app.test_client().get(DISCOVERY).get_json()["services"]
    assert (service.pop("version"), service.pop("hookVersion")) == ("3.0.0", "1.0")
    assert service == discovered
    app.extensions["decision_log"].close()


def test_DISC_13_a_bad_token_is_refused_though_discovery_is_open(production: Production) -> None:
    client = production.client
    assert client.get(DISCOVERY).status_code == 200
    answer = client.get(DISCOVERY, headers={"Authorization": bearer()})
    assert (answer.status_code, answer.data) == (401, b"")


def test_DISC_14_DISC_15_it_can_be_closed(tmp_path: Path) -> None:
    service = Production(tmp_path, discovery_needs_token=True)
    assert service.client.get(DISCOVERY).status_code == 401
    good = bearer(aud=PUBLIC + DISCOVERY)
    assert service.client.get(DISCOVERY, headers={"Authorization": good}).status_code == 200
    service.app.extensions["decision_log"].close()


def test_DISC_15_it_has_an_etag_and_is_made_of_what_is_executed(sandbox: Any, discovered: Json) -> None:
    answer = sandbox.get(DISCOVERY)
    assert answer.headers["ETag"].strip('"') == library().hash
    again = sandbox.get(DISCOVERY, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    asked = {template.split("?")[0].split("/")[0] for template in discovered["prefetch"].values()}
    assert asked - {"Patient"} == set(library().sources)


def test_DISC_16_people_can_read_what_it_does(sandbox: Any) -> None:
    assert sandbox.get("/").status_code == sandbox.get("/api").status_code == 200
    rules = sandbox.get("/rules").text
    for rule in library().rules:
        assert f'href="/rules/{rule.id}"' in rules
