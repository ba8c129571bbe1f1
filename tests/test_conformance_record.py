"""Every requirement has a test or a reason, and what is recorded of the last run is of these tests."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from conformance_run import PAGE, RECORD, ids_of, listed, named_tests, page_of, record_of

from cds_service.cli import main
from cds_service.commands.conformance import result_of

LISTED = {name: told for section in listed()["sections"] for name, told in section["requirements"].items()}
WRITE = "write it again: python -m pytest -n 2 --conformance tests"


def test_a_name_carries_one_id_or_several() -> None:
    assert ids_of("test_CARD_2_summary") == ["CARD-2"]
    assert ids_of("test_FB_6_FB_11_reasons") == ["FB-6", "FB-11"]
    assert ids_of("test_RS384_is_none") == []


@pytest.mark.parametrize("requirement", LISTED)
def test_a_requirement_has_a_test_or_a_reason(requirement: str) -> None:
    told = LISTED[requirement]
    assert told["who"] in ("S", "C") and told["level"] and told["what"]
    assert (requirement in named_tests()) is not bool(told.get("not_applicable"))


def test_no_test_carries_an_id_that_is_not_listed() -> None:
    assert set(named_tests()) <= set(LISTED)


def test_the_groups_are_numbered_without_a_gap() -> None:
    """A line that is lost from the list is noticed."""
    last = {"JSON": 7, "DISC": 16, "REQ": 11, "CTX": 8, "PF": 18, "FHIR": 14, "RESP": 6, "CARD": 14, "SRC": 5, "SUG": 5,
            "ACT": 7, "LINK": 9, "SYS": 4, "FB": 13, "SEC": 7, "JWT": 19, "CORS": 2, "EXT": 3}  # fmt: skip
    numbered = {f"{group}-{number}" for group, most in last.items() for number in range(1, most + 1)}
    assert {name for name in LISTED if not name.startswith("STATUS")} == numbered


def test_what_3_0_has_settled_is_all_listed() -> None:
    named = [name for items in listed()["settled_3_0"].values() for ids in items.values() for name in ids]
    assert len(named) >= 17 and set(named) <= set(LISTED)


def test_the_record_is_of_these_tests_and_all_have_passed() -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    lines = [line for section in recorded["sections"] for line in section["requirements"]]
    assert {result_of(line) for line in lines} == {"passed", "not applicable"}, WRITE
    results = {test["test"]: test["result"] for line in lines for test in line.get("tests", ())}
    assert recorded == record_of(results, recorded["run"]), WRITE
    assert PAGE.read_text(encoding="utf-8") == page_of(recorded), WRITE


def test_the_command_shows_the_record() -> None:
    done = CliRunner().invoke(main, ["conformance"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for requirement in LISTED:
        assert re.search(rf"\b{requirement}\b", done.output)
    few = CliRunner().invoke(main, ["conformance", "CARD", "--level", "SHALL", "--json"])
    shown = [json.loads(line) for line in few.output.splitlines()]
    assert {line["id"] for line in shown} == {
        name for name, told in LISTED.items() if name.startswith("CARD-") and told["level"] == "SHALL"
    }
    assert {line["result"] for line in shown} == {"passed"}
    assert CliRunner().invoke(main, ["conformance", "NOTHING"]).exit_code == 1
