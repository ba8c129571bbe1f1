"""An audit month by month, and one of only those patients of whom anything is new."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from cds_service.cli import main
from cds_service.hooks.respond import respond
from cds_service.population.changed_since import changed_since
from cds_service.population.encounters import as_it_was, known_at
from cds_service.population.infant_request import Exported, read_chart_lines, request_of
from cds_service.population.monthly import months
from cds_service.population.partition import READ_TYPES
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.record.sources import SOURCES
from cds_service.record.times import iso, parse_as_of, parse_span
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
LIBRARY = load_library()


def audit(folder: Path, out: Path, *more: str) -> Result:
    arguments = ["--out", str(out), "--as-of", DAY.isoformat(), "--workers", "1", "--exact", "--no-parquet"]
    return CliRunner().invoke(main, ["audit", str(folder), *arguments, *more])


def at(text: str) -> int:
    found = parse_as_of(text)
    assert found is not None
    return found


def born(day: str | None) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": "p"} | ({"birthDate": day} if day else {})


def seen(day: str) -> dict[str, Any]:
    about = {"reference": "Patient/p"}
    return {"resourceType": "Encounter", "id": day, "status": "finished", "subject": about, "period": {"start": day}}


# Months


@pytest.mark.parametrize(
    ("birth", "recorded", "asked"),
    [
        ("2026-01-31", ["2026-02-10", "2026-05-02"], ["2026-02-28", "2026-03-30", "2026-04-30", "2026-05-02"]),
        ("2026-01-10", ["2026-04-15", "2026-06-09"], ["2026-05-09", "2026-06-09"]),
        ("2026-01-10", ["1900-01-01", "2026-02-12"], ["2026-02-09", "2026-02-12"]),
        ("2026-01-10", ["2026-02-12"], ["2026-02-12"]),
        ("2026-10-10", ["2026-10-12", "2027-06-01"], ["2026-10-12"]),
        ("2026-10-10", ["2027-06-01"], []),
        ("2026-01", ["2026-02-12", "2026-06-01"], ["2026-06-01"]),
        (None, ["2026-02-12", "2026-06-01"], ["2026-06-01"]),
        ("2026-01-10", [], []),
    ],
)
def test_the_months_of_a_life_within_the_export(birth: str | None, recorded: list[str], asked: list[str]) -> None:
    found = months([born(birth), *map(seen, recorded)], at("2026-11-22"))
    assert [iso(moment) for moment in found] == [f"{day}T23:59:59Z" for day in asked]


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forty") / "in"
    write_population(infants(load_content(packaged_cards(), LIBRARY.reading), 40, 3, DAY), folder)
    (folder / "truth.ndjson").unlink()
    return folder


def charts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.iterdir()):
        for line in path.read_bytes().splitlines():
            item = json.loads(line)
            if item["resourceType"] in READ_TYPES:
                about = item.get("subject", item.get("patient"))
                found.setdefault(item["id"] if about is None else about["reference"].split("/")[1], []).append(item)
    return found


def known_by(item: dict[str, Any], moment: int) -> bool | None:
    span = known_at(item)
    if item["resourceType"] == "Patient" or (span is not None and span.hi <= moment):
        return True
    return None if span is None or span.lo <= moment else False


def rows_of(path: Path) -> dict[str, Any]:
    return {row["patient"]: row for row in map(json.loads, path.read_bytes().splitlines())}


def test_each_month_is_answered_as_the_hook_would_have_with_what_was_known(forty: Path, tmp_path: Path) -> None:
    done = audit(forty, tmp_path / "out", "--at", "monthly", "--exported", "all")
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "replay.json").read_bytes())
    rows = rows_of(tmp_path / "out" / "replay.ndjson")
    asked: Counter[str] = Counter()
    firsts = 0
    for patient, resources in charts(forty).items():
        first, number = None, months(resources, at(DAY.isoformat()))
        asked["all"] += len(number)
        for moment in number:
            chart = read_chart_lines(patient, [(b"0:1", orjson.dumps(item)) for item in resources])
            here = [as_it_was(item, moment) for item in chart.resources if known_by(item, moment)]
            doubt = {item["resourceType"] for item in resources if known_by(item, moment) is None}
            request = request_of(chart, here, {}, Exported(frozenset(SOURCES), frozenset()), doubt)
            response = respond(request, LIBRARY, moment, "http://127.0.0.1:8080")
            if response.record.facts.deceased:
                continue
            if response.body["cards"] and first is None:
                first = iso(moment)
        assert (rows[patient]["firstCard"] if patient in rows else None) == first, patient
        firsts += first is not None
    assert told["months"] == asked["all"] > 80
    assert firsts == len(rows) > 10
    assert sum(told["firstCard"].values()) == 40


# Only what is new


@pytest.mark.parametrize(
    ("resource", "is_new"),
    [
        (seen("2026-03-01"), False),
        (seen("2026-03-02"), True),
        (seen("2026-03"), True),  # may have been
        (seen("2026-03-01") | {"meta": {"lastUpdated": "2026-03-02T00:00:00Z"}}, True),
        (seen("2026-02-01") | {"meta": {"lastUpdated": "2026-03-01T23:59:59Z"}}, False),
        ({"resourceType": "Condition", "subject": {"reference": "Patient/p"}}, True),
        (born("2026-01-01"), False),
        (born("2026-01-01") | {"meta": {"lastUpdated": "2026-04-01T00:00:00Z"}}, True),
        (born("2026-01-01") | {"meta": "odd"}, False),
    ],
)
def test_what_is_new_or_may_be(resource: dict[str, Any], is_new: bool) -> None:
    since = parse_span("2026-03-02")
    assert since is not None
    chart = read_chart_lines("p", [(b"0:1", orjson.dumps(resource)), (b"0:2", orjson.dumps(seen("2025-12-01")))])
    assert changed_since(chart, since.lo) is is_new


def test_a_line_that_could_not_be_read_may_be_new() -> None:
    chart = read_chart_lines("p", [(b"0:1", b"!Observation"), (b"0:2", orjson.dumps(seen("2025-12-01")))])
    assert changed_since(chart, at("2026-03-02"))


def test_an_audit_since_a_day_asks_about_nobody_else_and_accounts_for_all(forty: Path, tmp_path: Path) -> None:
    assert audit(forty, tmp_path / "all", "--exported", "all").exit_code == 0
    done = audit(forty, tmp_path / "new", "--exported", "all", "--since", "2026-11-01")
    assert done.exit_code == 0, done.output
    every = rows_of(tmp_path / "all" / "evaluations.ndjson")
    since = rows_of(tmp_path / "new" / "evaluations.ndjson")
    begins = parse_span("2026-11-01")
    assert begins is not None
    wanted = set()
    for patient, resources in charts(forty).items():
        chart = read_chart_lines(patient, [(b"0:1", orjson.dumps(item)) for item in resources])
        if changed_since(chart, begins.lo):
            wanted.add(patient)
    assert 0 < len(wanted) < 40
    assert since == {patient: every[patient] for patient in wanted}
    told, before = (json.loads((tmp_path / name / "summary.json").read_bytes()) for name in ("new", "all"))
    assert told["patients"]["all"] == len(wanted)
    assert told["patients"]["notChangedSince"] == 40 - len(wanted) and "notChangedSince" not in before["patients"]
    assert told["input"]["resources"] == before["input"]["resources"]
    assert told["run"]["since"] == "2026-11-01T00:00:00Z" and told["run"]["id"] != before["run"]["id"]


@pytest.mark.parametrize("written", ["2026", "2026-11", "yesterday", "2026-13-01"])
def test_since_what_is_no_day_is_refused(forty: Path, tmp_path: Path, written: str) -> None:
    refused = audit(forty, tmp_path / "out", "--since", written)
    assert refused.exit_code == 1 and "give a date" in refused.output
    assert not (tmp_path / "out").exists()
