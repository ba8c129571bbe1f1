"""How a resource is named in an answer: by a FHIR id or by its type alone; what refers to it finds it all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from infants import Json, bundle, condition, infant, lab, medicine, observation, report, resource

from cds_service.record.duplicates import reference_of

TELLING = "Anna Smith MRN 4711"


@pytest.mark.parametrize("name", ["a", "7.3-B", "x" * 64, "x" * 256])
def test_a_resource_is_named_by_its_id(name: str) -> None:
    assert reference_of({"resourceType": "Condition", "id": name}) == f"Condition/{name}"


@pytest.mark.parametrize("name", [TELLING, "a_b", "a/b", "a\n", "é", "", " ", 7, None, "x" * 257])
def test_a_resource_whose_id_is_no_fhir_id_is_named_by_its_type(name: Any) -> None:
    assert reference_of({"resourceType": "Condition", "id": name}) == "Condition"


def test_no_such_id_is_told_by_the_hook() -> None:
    response = infant(
        condition("infantile_spasms", "2026-11-10", id=f"{TELLING} a"),
        observation("tremor", "2026-11-21", id=f"{TELLING} b", valueString="unclear"),
        observation("tremor", id=f"{TELLING} c", effectiveDateTime=3),
        observation({"text": "a jerk, perhaps"}, id=f"{TELLING} d"),
        medicine("MedicationRequest", None, id=f"{TELLING} e"),
    )
    told = report(response)
    assert {item["resource"] for item in told["unreadable"]} == {"Observation"}
    assert {item["resource"] for item in told["uncoded"]} == {"Observation"}
    assert any(item.reference == "Condition" for e in response.evaluations for item in e.evidence)
    assert response.body["cards"]
    assert "Smith" not in json.dumps(response.body) and "Smith" not in repr(response.evaluations)


def spoiled(specimens: Json, about: str) -> bool:
    """Whether a potassium is withheld because its specimen was hemolyzed."""
    low = lab("lab_potassium", 3.0, "mmol/L", flagged="L", specimen={"reference": about})
    answer = infant(observation("tremor"), low, prefetch={"specimens": specimens}).record.lab("potassium")
    return "hemolyzed" in " ".join(answer.missing)


HEMOLYZED = {"note": [{"text": "hemolyzed"}]}


def test_a_specimen_is_found_by_an_id_that_is_no_fhir_id() -> None:
    sent = bundle(resource("Specimen", id="blood_1", **HEMOLYZED), resource("Specimen", id="blood_2"))
    assert spoiled(sent, "Specimen/blood_1")
    assert not spoiled(sent, "Specimen/blood_2")


@pytest.mark.parametrize("turned", [False, True])
def test_a_specimen_without_id_is_found_by_the_url_under_which_it_was_sent(turned: bool) -> None:
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": resource("Specimen", id=None, **HEMOLYZED)},
        {"fullUrl": "urn:uuid:2", "resource": resource("Specimen", id=None, note=[{"text": "a good one"}])},
    ]
    sent = bundle(entry=entries[::-1] if turned else entries)
    assert spoiled(sent, "urn:uuid:1")
    assert not spoiled(sent, "urn:uuid:2")
