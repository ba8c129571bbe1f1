"""Made-up infants: the same again from the same seed, valid FHIR, every story, encoding and near miss there."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_service.cli import main
from cds_service.errors import ContentError
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.encodings import FORMS, ONSETS, TIMES
from cds_service.population.synthetic.movement_histories import FACTS
from cds_service.population.synthetic.near_misses import KINDS
from cds_service.population.synthetic.results import FORMS as LAB_FORMS
from cds_service.population.synthetic.results import PLACES
from cds_service.population.synthetic.synthetic_infants import infants
from cds_service.population.synthetic.work_and_medicines import DONE, MEDICINES, ORDERED
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards, read_pack

DAY = date(2026, 11, 22)
READING = load_library().reading
CONTENT = load_content(packaged_cards(), READING)
POPULATION = list(infants(CONTENT, 1500, 5, DAY))


def planted(key: str) -> list[dict[str, Any]]:
    return [item for chart in POPULATION for item in chart.planted if key in item]


# The same again


def synthesize(folder: Path, *arguments: str, hash_seed: str = "0") -> dict[str, bytes]:
    """The files that the command writes, in a process with its own order of sets."""
    command = [sys.executable, "-m", "cds_service.cli", "synthesize", "--out", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    arguments = ("--patients", "60", "--seed", "9", "--as-of", DAY.isoformat())
    first = synthesize(tmp_path / "a", *arguments, hash_seed="1")
    assert first == synthesize(tmp_path / "b", *arguments, hash_seed="2")
    assert {"Patient.ndjson", "Observation.ndjson", "Condition.ndjson", "truth.ndjson"} <= set(first)


def test_more_infants_are_the_same_infants_and_more() -> None:
    few = [chart.resources for chart in infants(CONTENT, 40, 5, DAY)]
    assert few == [chart.resources for chart in POPULATION[:40]]


def test_another_seed_gives_other_infants() -> None:
    other = [chart.story for chart in infants(CONTENT, 40, 6, DAY)]
    assert other != [chart.story for chart in POPULATION[:40]]


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    refused = CliRunner().invoke(main, ["synthesize", "--patients", "2", "--out", str(tmp_path)])
    assert refused.exit_code == 1
    assert "not an empty folder" in refused.output
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_each_resource_of_a_file_is_of_its_type_and_about_a_patient_of_the_population(tmp_path: Path) -> None:
    files = synthesize(tmp_path / "a", "--patients", "40", "--as-of", DAY.isoformat())
    patients = {json.loads(line)["id"] for line in files["Patient.ndjson"].splitlines()}
    assert len(patients) == 40
    for name, text in files.items():
        for line in map(json.loads, text.splitlines()):
            if name == "truth.ndjson":
                assert line["patient"] in patients
            else:
                assert line["resourceType"] == name.removesuffix(".ndjson")


# Valid FHIR R4


def test_every_resource_of_two_hundred_infants_is_valid() -> None:
    kinds = Counter()
    for chart in POPULATION[:200]:
        for resource in chart.resources:
            kind = resource["resourceType"]
            model = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
            model.model_validate({key: value for key, value in resource.items() if key != "resourceType"})
            kinds[kind] += 1
    assert len(kinds) >= 13
    assert sum(kinds.values()) > 8_000


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    names = [f"{r['resourceType']}/{r['id']}" for chart in POPULATION for r in chart.resources]
    known = set(names)
    assert len(names) == len(known)
    assert {item["resource"] for chart in POPULATION for item in chart.planted} <= known


# Everything there


def test_every_story_and_companion_is_told() -> None:
    stories = {story["story"] for story in CONTENT.data["stories"]}
    assert len(stories) >= 25
    assert {chart.story for chart in POPULATION} == stories | set(CONTENT.data["companions"])


def test_every_encoding_of_a_finding_is_used() -> None:
    present = [item for item in planted("finding") if item["status"] == "present"]
    assert {item["encoding"] for item in present} == {*FORMS, "condition", "birth-procedure"}
    assert {item["time"] for item in present} == {*TIMES, *ONSETS}
    styles = {item["coding"].removesuffix("+local") for item in present}
    assert {"project", "icd-dotted", "icd-undotted", "sct", "human-phenotype-ontology.org"} <= styles
    assert any(item["coding"].endswith("+local") for item in present)
    assert {name for item in present for name in item.get("natively", ())} == {"duration", "laterality", "severity"}
    assert {name for item in present for name in item.get("shows", ())} == {
        "frequency", "laterality", "course", "event-count",
    }  # fmt: skip
    assert {item["verification"] for item in present if item["encoding"] == "condition"} == {
        "confirmed", "unconfirmed", "provisional", "differential", "none",
    }  # fmt: skip


def test_every_value_of_every_qualifier_is_said() -> None:
    said = {(name, value) for item in planted("finding") for name, value in item.get("qualifiers", {}).items()}
    assert {(name, value) for name, values in READING.coded_qualifiers.items() for value in values} <= said
    assert {"beats", "duration", "event-count", "vigorous"} <= {name for name, _ in said}


def test_every_near_miss_is_there() -> None:
    assert set(KINDS) == set(CONTENT.data["near_misses"]["kinds"])
    found = {item["status"].removeprefix("decoy:") for chart in POPULATION for item in chart.planted}
    expected = set(KINDS) - {"refuted", "lab-just-outside"} | set(CONTENT.data["companions"])
    assert expected <= found
    assert {item["encoding"] for item in planted("finding") if item["status"] == "absent"} >= {
        "condition-refuted", "observation-boolean", "observation-answer", "component-boolean", "component-answer",
    }  # fmt: skip
    assert any(item.get("near") == "just-outside" for item in planted("lab"))


def test_every_way_of_results_work_and_medicines_is_used() -> None:
    results = [item for item in planted("lab") if item["status"] == "present"]
    assert {item["encoding"] for item in results} == set(LAB_FORMS)
    assert {item["place"] for item in results} == set(PLACES)
    units = {way["unit"] for ways in CONTENT.data["labs"].values() for way in ways}
    assert {item["unit"] for item in results} == units
    work = {item["encoding"] for item in planted("work") if item["status"] == "present"}
    assert work >= {*DONE, *ORDERED, "result", "component", "panel-member"}
    assert {item["encoding"] for item in planted("medication") if item["status"] == "present"} == set(MEDICINES)
    assert {item["encoding"] for item in planted("gestation")} == {"gestation-wk", "gestation-d"}


# The content file


def test_the_content_is_no_part_of_the_packs_hash() -> None:
    assert not any("synthetic" in name for name in read_pack(packaged_cards()).texts)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("finding: ankle_clonus", "finding: ankle_klonus", "the pack does not know 'ankle_klonus'"),
        ("provoked-by: startle", "provoked-by: thunder", "the pack does not know 'thunder'"),
        ("lab: glucose", "lab: glukose", "the pack does not know 'glukose'"),
        ("code: 2345-7", "code: 2345-8", "not one of this analyte"),
        ("R10.83", "R25.1", "a rule reads the code R25.1"),
        ("share: 30", "share: -30", "less than the minimum"),
    ],
)
def test_a_mistake_in_the_content_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    cards = Path(str(packaged_cards()))
    (tmp_path / "schema").symlink_to(cards / "schema")
    text = (cards / "synthetic.yaml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "synthetic.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ContentError) as refused:
        load_content(tmp_path, READING)
    told = [mistake for mistake in refused.value.mistakes if said in mistake.message]
    assert told, str(refused.value)
    assert told[0].line > 1


def test_each_kind_of_fact_is_told_in_some_story() -> None:
    kinds = {
        kind for story in CONTENT.data["stories"] for fact in story.get("facts", ()) for kind in FACTS if kind in fact
    }
    assert kinds == set(FACTS)


def test_the_page_names_every_encoding_and_near_miss() -> None:
    page = (Path(__file__).parents[1] / "docs" / "synthetic.md").read_text(encoding="utf-8")
    names = {*FORMS, *TIMES, *ONSETS, *KINDS, *LAB_FORMS, *DONE, *ORDERED, *MEDICINES, *CONTENT.data["companions"]}
    assert {name for name in names if f"`{name}`" not in page} == set()
