"""Guards that a mutation run found untold: each test fails when its guard is taken away."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from forge import ec_key, jwk, token
from hypothesis import given, settings
from hypothesis import strategies as st
from infants import (
    BASIS,
    NEWBORN,
    codeable,
    condition,
    infant,
    lab,
    observation,
    outcome,
    qualifier_extension,
    report,
    workups,
)
from markdown_it import MarkdownIt

from cds_service.app import create_app
from cds_service.errors import DataMissing
from cds_service.hooks.wording import LONGEST, markdown_text
from cds_service.record.truth import UNKNOWN
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web import logs

TREMOR = observation("tremor")
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.mark.parametrize("element", [{"implicitRules": "urn:other"}, {"modifierExtension": [{"url": "urn:x"}]}])
def test_a_seizure_whose_meaning_is_changed_is_unknown(element: dict[str, Any]) -> None:
    answer = infant(TREMOR, observation("seizure", **element))
    assert answer.record.finding("seizure").unknown
    assert outcome(answer, "R10") == "data-required"
    assert workups(answer) == {}


@pytest.mark.parametrize(
    ("unreadable", "key"),
    [
        (observation("seizure", code="not an object"), "observations"),
        (observation("tremor", component=[{"code": 7}]), "observations"),
        (condition("seizure", code=[]), "conditions"),
    ],
)
def test_a_resource_whose_code_cannot_be_read_may_be_any_finding(unreadable: dict[str, Any], key: str) -> None:
    answer = infant(TREMOR, unreadable)
    assert outcome(answer, "R10") == "data-required"
    missing = {item["rule"]: item["missing"] for item in report(answer)["notEvaluated"]}
    assert key in missing["seizure-first-workup"]
    assert "reassurance" not in workups(answer)


def test_a_negative_glucose_is_no_measurement() -> None:
    answer = infant(TREMOR, lab("lab_glucose", -1, "mg/dL"))
    assert answer.record.lab("glucose").low is UNKNOWN
    assert workups(answer) == {}


def test_a_finding_that_cannot_be_dated_may_be_the_newest() -> None:
    """A low glucose of yesterday is near an undated tremor perhaps, near one of three weeks ago certainly not."""
    old = observation("tremor", "2026-11-01")
    assert outcome(infant(old, lab("lab_glucose", 30, "mg/dL")), "R29") == "not-applicable"
    answer = infant(old, observation("tremor", None), lab("lab_glucose", 30, "mg/dL"))
    assert outcome(answer, "R29") == "data-required"
    assert "reassurance" not in workups(answer)


def test_a_doubtful_newest_finding_is_doubtful_in_any_century() -> None:
    answer = infant(
        observation("tremor", None),
        lab("lab_glucose", 30, "mg/dL", "1960-06-01"),
        birth="1960-03-01",
        as_of="1960-06-02",
    )
    assert outcome(answer, "R29") == "data-required"


@given(st.text(max_size=200))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_text_of_a_record_stays_text_in_markdown(text: str) -> None:
    written = markdown_text(text)
    assert "\n" not in written
    tokens = READER.parse(f"Not known: {written}.")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children or ()} <= {"text", "text_special"}
    assert len(written) <= LONGEST * 5


@pytest.mark.parametrize(
    "text", ["*bold*", "[x](javascript:1)", "<b>", "# STOP", "`code`", "~~no~~", "\u202egnp", "a\nb"]
)
def test_markup_in_a_record_is_shown_not_obeyed(text: str) -> None:
    inline = READER.parse(f"x {markdown_text(text)}")[1]
    shown = "".join(child.content for child in inline.children or ())
    assert shown == "x " + " ".join(text.replace("\u202e", " ").split())


def test_findings_under_a_history_code_are_history() -> None:
    part = {"code": codeable("seizure")}
    history = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z86.69"}]}
    answer = infant(TREMOR, observation(history, component=[part]))
    assert not answer.record.written & {"seizure"}
    assert workups(answer) == {"reassurance": "info"}


def test_production_takes_no_as_of_date(tmp_path: Path) -> None:
    url, key, clients = f"sqlite:///{tmp_path}/x.sqlite3", ec_key(), tmp_path / "clients.json"
    upgrade(Database(url))
    ehr = {"id": "ehr", "name": "EHR", "issuer": "https://ehr.example", "jwks": {"keys": [jwk(key, "ec")]}}
    clients.write_text(json.dumps({"clients": [ehr]}))
    production = Settings(
        profile=Profile.PRODUCTION, database_url=url, clients_file=clients, public_url="https://cds.example"
    )
    client = create_app(production).test_client()
    sample = (Path(__file__).parents[1] / "fixtures" / "jittery-newborn.json").read_bytes()
    answer = client.post(
        "/cds-services/infant-motor-workup", data=sample, content_type="application/json",
        headers={"Authorization": f"Bearer {token(key)}"},
    )  # fmt: skip
    assert (answer.status_code, answer.json["issue"][0]["details"]["coding"][0]["code"]) == (400, "request.as-of")


def test_a_log_line_keeps_only_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(logs, "logger", structlog.wrap_logger(
        structlog.PrintLogger(written), processors=[logs.only_allowed, structlog.processors.JSONRenderer()],
    ))  # fmt: skip
    logs.logger.info("answered", status=200, patient="p1", body={"name": "Sample"})
    assert json.loads(written.getvalue()) == {"event": "answered", "status": 200}


def test_the_glucose_that_a_reassurance_wanted_recorded_is_among_its_evidence() -> None:
    glucose = lab("lab_glucose", 70, "mg/dL")
    jittery = observation("jitteriness")
    answer = infant(jittery, glucose, birth=NEWBORN)
    (basis,) = (card["extension"][BASIS] for card in answer.body["cards"])
    assert basis["workups"] == [{"id": "reassurance", "urgency": "info"}]
    assert {f"Observation/{jittery['id']}", f"Observation/{glucose['id']}"} <= set(basis["evidence"])


@pytest.mark.parametrize(
    ("tremor", "name"),
    [
        (observation("tremor", None, ("CANARY-1", "severe")), "a qualifier that is not known"),
        (condition("tremor", None, ("CANARY-1", "severe")), "a qualifier that is not known"),
        (condition("tremor", extension=[qualifier_extension("severity", "CANARY-1")]), "'severity'"),
    ],
)
def test_an_unknown_qualifier_is_told_without_its_words(tremor: dict[str, Any], name: str) -> None:
    answer = infant(tremor)
    (ignored,) = report(answer)["ignored"]
    assert name in ignored["reason"]
    assert "CANARY" not in json.dumps(answer.body)


def test_a_refusal_names_the_key_of_which_an_entry_could_not_be_read() -> None:
    with pytest.raises(DataMissing) as refused:
        infant(observation("seizure", code=7), without=("conditions",))
    assert "prefetch.conditions: absent" in str(refused.value)
    assert "prefetch.observations: an entry could not be read" in str(refused.value)


def test_a_refusal_names_the_patient_that_did_not_come_among_other_lacks() -> None:
    with pytest.raises(DataMissing) as refused:
        infant(TREMOR, prefetch={"patient": None}, without=("conditions",))
    assert "prefetch.conditions: absent" in str(refused.value)
    assert "prefetch.patient: no Patient in it" in str(refused.value)
