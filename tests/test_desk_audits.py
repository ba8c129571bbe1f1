"""The desk's pages of audits: every number leads to just as many infants; who may see what; damaged outputs; no id."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import date
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from infants import library
from people import Person, desk_in_production

from cds_service.cli import main
from cds_service.population.attrition import STAGES
from cds_service.population.disclosure import HIDDEN, Disclosure
from cds_service.population.finished import BrokenOutput, Output, checked, listed, suppressed
from cds_service.population.infants_found import Wanted, find
from cds_service.population.report import waterfall
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.pack import packaged_cards
from cds_service.store.database import Database
from cds_service.store.desk_log import entries
from cds_service.web.desk.audits.tables import difference_tables
from cds_service.web.desk.roles import Role

DAY = date(2026, 11, 22)
KEY = "B" * 43 + "="
HOSTILE = "<script>alert(1)</script>"
SILENT = {"no finding", "other age", "not evaluated"}


def audit(folder: Path, out: Path, *more: str) -> None:
    words = ["audit", str(folder), "--out", str(out), "--as-of", DAY.isoformat(), "--workers", "1", "--exported", "all"]
    done = CliRunner().invoke(main, [*words, *more])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, and in ``runs`` an exact audit of it and one that is not."""
    folder = tmp_path_factory.mktemp("audits")
    content = load_content(packaged_cards(), library().reading)
    write_population(infants(content, 80, 11, DAY), folder / "in")
    (folder / "in" / "truth.ndjson").unlink()
    (folder / "in" / "more.ndjson").write_text(
        json.dumps({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"},
                    "subject": {"reference": "Patient/nobody"}}) + "\n"
    )  # fmt: skip
    audit(folder / "in", folder / "runs" / "exact", "--exact")
    audit(folder / "in", folder / "runs" / "shown", "--no-parquet")
    return folder


@pytest.fixture(scope="module")
def app(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    app = desk_in_production(tmp_path_factory.mktemp("desk"), audits_dir=made / "runs", pseudonym_key=KEY)
    yield app
    app.extensions["decision_log"].close()


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Iterator[tuple[Path, Flask]]:
    """A copy of the runs that a test may spoil, and a desk that reads it."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    app = desk_in_production(tmp_path, audits_dir=tmp_path / "runs", pseudonym_key=KEY)
    yield tmp_path / "runs", app
    app.extensions["decision_log"].close()


@pytest.fixture
def analyst(app: Flask) -> Person:
    return Person(app, Role.ANALYST)


@pytest.fixture
def viewer(app: Flask) -> Person:
    return Person(app, Role.VIEWER)


def summary(made: Path, run: str = "exact") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made / "runs" / run / "summary.json").read_bytes())
    return found


def ids(made: Path) -> set[str]:
    lines = (made / "runs" / "exact" / "evaluations.ndjson").read_bytes().splitlines()
    return {json.loads(line)["patient"] for line in lines}


def links(page: str) -> list[tuple[str, str]]:
    """Every address of infants on a page, with the number that it stands behind."""
    found = re.findall(r'<a href="([^"]*/infants\?[^"]*)">([^<]*)</a>', page)
    return [(unescape(url), unescape(number).strip()) for url, number in found]


def behind(person: Person, url: str) -> int:
    page = person.get(url)
    assert page.status_code == 200, page.text
    found = re.search(r"<strong>(\d+)</strong> infants?", page.text)
    assert found is not None
    return int(found[1])


# From a number to its infants


@pytest.mark.parametrize("run", ["exact", "shown"])
def test_every_number_leads_to_just_as_many_infants(analyst: Person, run: str) -> None:
    found = links(analyst.get(f"/audits/{run}").text)
    kinds = {re.split(r"[?&]", url)[1].split("=")[0] for url, _ in found}
    assert kinds == {"stage", "card", "why", "missing", "age", "document", "workup", "family", "rule"}
    assert any("excluded_by" in url for url, _ in found)
    assert sum("rule=" in url and "no+finding" in url for url, _ in found) > 30
    chosen = found if run == "exact" else found[::5]
    shown = Disclosure(exact=run == "exact").shown
    wrong = [(url, number) for url, number in chosen if str(shown(behind(analyst, url))) != number]
    assert not wrong


def test_the_twins_hold_all_the_infants_of_the_pages(analyst: Person, made: Path) -> None:
    url = "/audits/exact/infants"
    rows = analyst.get(f"{url}?format=json").json["infants"]
    assert len(rows) == summary(made)["patients"]["all"] == len({row["infant"] for row in rows}) > 50
    written = list(csv.DictReader(io.StringIO(analyst.get(f"{url}?format=csv").text)))
    assert [row["infant"] for row in written] == [row["infant"] for row in rows]
    assert all(f"/infants/{row['infant']}" in analyst.get(url).text for row in rows[:50])


def test_pages_follow_each_other_and_hold_every_infant_once(analyst: Person, made: Path) -> None:
    pages = [analyst.get(f"/audits/exact/infants?page={page}").text for page in (1, 2)]
    found = [set(re.findall(r"/infants/([0-9a-f]{24})", page)) for page in pages]
    assert len(found[0]) == 50 and not found[0] & found[1]
    assert len(found[0] | found[1]) == len(ids(made)) == summary(made)["patients"]["all"]


def test_a_row_has_the_evidence_of_the_rule_that_was_asked_for(analyst: Person, made: Path) -> None:
    rules = summary(made)["byRule"]
    rule = max(rules, key=lambda name: rules[name]["attrition"]["recommended"])
    rows = analyst.get(f"/audits/exact/infants?rule={rule}&stage=recommended&format=json").json["infants"]
    assert rows and all(rule in row["rules"] and row["stage"] == "recommended" for row in rows)
    assert all(any("[" in item for item in row["evidence"]) and row["workups"] for row in rows)
    asked = library().rule(rule)
    own = {item.workup for item in asked.recommend} if asked is not None else set()
    assert {item.split(" (")[0] for row in rows for item in row["workups"]} <= own
    named = {row["infant"] for row in rows}
    everything = analyst.get("/audits/exact/infants?stage=recommended&format=json").json["infants"]
    assert any({item.split(" (")[0] for item in row["workups"]} - own for row in everything if row["infant"] in named)


def test_an_exclusion_counts_by_what_excluded_and_a_workup_by_the_most_urgent_rule() -> None:
    rules = [
        {"rule": "a", "stage": "excluded", "missing": [], "decidedBy": ["known"], "workups": []},
        {"rule": "b", "stage": "recommended", "missing": [],
         "workups": [{"id": "w", "urgency": "info", "takenCareOf": "true"}]},
        {"rule": "c", "stage": "recommended", "missing": ["Observation/1: x"],
         "workups": [{"id": "w", "urgency": "warning", "takenCareOf": "false"}]},
    ]  # fmt: skip
    row = {"patient": "p", "status": "evaluated", "stage": "recommended", "rules": rules, "otherAge": ["d"]}
    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    documents = {"a": "one", "b": "one", "c": "two", "d": "three", "e": "three", "f": "four"}

    def number(**wanted: str) -> int:
        return find([line], Wanted(**wanted), documents, 0, 9).number

    assert number(rule="a", excluded_by="known") == 1 and number(rule="a", excluded_by="other") == 0
    assert number(workup="w", urgency="warning") == 1 and number(workup="w", urgency="info") == 0
    assert number(workup="w", urgency="done or ordered") == 0
    assert number(rule="b", workup="w", urgency="done or ordered") == 1
    assert number(missing="Observation: x") == 0  # it was recommended all the same
    assert number(document="one", stage="recommended") == 1 and number(document="one", stage="excluded") == 0
    assert number(document="three", stage="no finding") == 1 and number(document="four", stage="no finding") == 1
    assert number(rule="d", stage="other age") == 1 and number(rule="e", stage="other age") == 0


# No id


def test_infants_appear_as_pseudonyms_only(analyst: Person, made: Path) -> None:
    pages = [analyst.get("/audits/exact/infants?format=json").text, analyst.get("/audits/exact/infants").text]
    names = [
        row["infant"] for row in analyst.get("/audits/exact/infants?stage=recommended&format=json").json["infants"]
    ]
    pages += [analyst.get(f"/audits/exact/infants/{names[0]}{query}").text for query in ("", "?again=1")]
    birth = {line.split('"birthDate":"')[1][:10] for line in (made / "in" / "Patient.ndjson").read_text().splitlines()
             if '"birthDate":"' in line}  # fmt: skip
    assert birth and len(names) > 10
    for page in pages:
        assert not [name for name in ids(made) if len(name) > 4 and name in page]
        assert "birthDate" not in page and "birth_date" not in page


def test_without_a_key_no_infant_is_shown_and_the_page_says_why(made: Path, tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, audits_dir=made / "runs")
    page = Person(app, Role.ANALYST).get("/audits/exact/infants")
    app.extensions["decision_log"].close()
    assert page.status_code == 409 and "CDS_PSEUDONYM_KEY" in page.text
    assert not [name for name in ids(made) if name in page.text]


def test_who_looked_at_which_infant_is_noted(app: Flask, analyst: Person, made: Path) -> None:
    name = analyst.get("/audits/exact/infants?stage=recommended&format=json").json["infants"][3]["infant"]
    analyst.get(f"/audits/exact/infants/{name}")
    noted = entries(Database(app.extensions["access"]._desk.settings.database_url), limit=5)
    assert f"exact {name}" in [entry.subject for entry in noted]
    assert not [entry for entry in noted if any(patient in entry.subject for patient in ids(made))]


# The trace of one


def test_an_infant_is_asked_again_from_the_export_and_comes_out_as_in_the_run(analyst: Person) -> None:
    rows = analyst.get("/audits/exact/infants?format=json").json["infants"]
    by_stage = {row["stage"]: row["infant"] for row in rows}
    assert {"recommended", "not evaluable", "no finding"} <= set(by_stage)
    for stage, name in by_stage.items():
        page = analyst.get(f"/audits/exact/infants/{name}?again=1").text
        if stage != "not evaluated":
            assert "It comes out as in the run." in page and "not as it was then" not in page
            assert page.count('class="traced"') >= len(library().rules)


def test_without_the_export_only_the_stored_reasons_are_shown_and_the_page_says_why(
    mine: tuple[Path, Flask], made: Path
) -> None:
    runs, app = mine
    told = json.loads((runs / "exact" / "made.json").read_bytes())
    assert Path(told["folder"]) == made / "in" and told["software"] and told["seconds"] > 0
    (runs / "exact" / "made.json").write_text(json.dumps(told | {"folder": str(runs / "gone")}))
    person = Person(app, Role.ANALYST)
    name = person.get("/audits/exact/infants?stage=recommended&format=json").json["infants"][0]["infant"]
    for query in ("", "?again=1"):
        page = person.get(f"/audits/exact/infants/{name}{query}").text
        assert "The folder of the export is not to be seen from here." in page
        assert "As the run has it" in page and '<th scope="row">infant</th><td>true</td>' in page
        assert "asked again from the export</h2>" not in page


def test_an_export_that_changed_is_noticed(mine: tuple[Path, Flask], made: Path, tmp_path: Path) -> None:
    runs, app = mine
    shutil.copytree(made / "in", tmp_path / "in")
    with (tmp_path / "in" / "more.ndjson").open("a") as file:
        file.write("\n")
    told = json.loads((runs / "exact" / "made.json").read_bytes())
    (runs / "exact" / "made.json").write_text(json.dumps(told | {"folder": str(tmp_path / "in")}))
    person = Person(app, Role.ANALYST)
    name = person.get("/audits/exact/infants?stage=recommended&format=json").json["infants"][0]["infant"]
    assert "The export is not as it was then." in person.get(f"/audits/exact/infants/{name}?again=1").text


# Who sees what


def test_a_viewer_gets_no_infants_and_of_an_exact_run_suppressed_numbers(viewer: Person, made: Path) -> None:
    said = summary(made)
    small = [number for number in said["attrition"].values() if 0 < number < 11]
    assert small and said["run"]["exact"]
    page = viewer.get("/audits/exact").text
    assert not links(page) and HIDDEN.replace("<", "&lt;") in page and "your role sees its numbers suppressed" in page
    for path in ("/audits/exact/infants", f"/audits/exact/infants/{'0' * 24}"):
        answer = viewer.get(path)
        assert answer.status_code == 403 and "Your role does not include this page" in answer.text
    assert viewer.get("/audits/exact/summary.json").json["attrition"] == summary(made, "shown")["attrition"]
    rows = viewer.get("/audits/exact?table=rules&format=json").json["rules"]
    wanted = {rule: numbers["attrition"] for rule, numbers in summary(made, "shown")["byRule"].items()}
    assert {row["what"]: {stage: row[stage] for stage in STAGES} for row in rows} == wanted


def test_suppressing_an_exact_summary_gives_what_a_run_without_exact_has(made: Path) -> None:
    exact, shown = suppressed(summary(made)), summary(made, "shown")
    assert exact.pop("run")["exact"] and not shown.pop("run")["exact"]
    assert exact == shown


def test_reports_of_an_exact_run_are_exact_for_analysts_only(viewer: Person, analyst: Person, made: Path) -> None:
    own, other = (made / "runs" / name for name in ("exact", "shown"))
    assert analyst.get("/audits/exact/report").data == (own / "report.html").read_bytes()
    seen = viewer.get("/audits/exact/report").text
    assert re.sub(r"[0-9a-f]{16}", "", seen) == re.sub(r"[0-9a-f]{16}", "", (other / "report.html").read_text())
    exact = [json.loads(line) for line in analyst.get("/audits/exact/measure-reports").data.splitlines()]
    hidden = [json.loads(line) for line in viewer.get("/audits/exact/measure-reports").data.splitlines()]
    wanted = [json.loads(line) for line in (other / "measure-reports.ndjson").read_bytes().splitlines()]
    assert exact != hidden and [item["group"] for item in hidden] == [item["group"] for item in wanted]
    one = viewer.get("/audits/exact/measure-reports?measure=all-rules").json
    assert one == hidden[0] and viewer.get("/audits/exact/measure-reports?measure=none").status_code == 404


def test_the_report_runs_nothing_and_keeps_its_style(viewer: Person) -> None:
    answer = viewer.get("/audits/shown/report")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and policy.endswith("sandbox")
    assert "unsafe" not in policy and "script-src" not in policy and answer.text.count("<style>") == 1
    assert 'style="' not in answer.text and "<script" not in answer.text


# The list, and two runs


def test_the_list_says_what_each_folder_is(mine: tuple[Path, Flask]) -> None:
    runs, app = mine
    (runs / "exact" / ".work").mkdir()
    (runs / "empty").mkdir()
    (runs / "replay").mkdir()
    (runs / "replay" / "replay.json").write_text("{}")
    (runs / "strange name").mkdir()
    (runs / "elsewhere").symlink_to(runs / "shown")
    rows = {row["name"]: row for row in Person(app, Role.VIEWER).get("/audits?format=json").json["audits"]}
    assert set(rows) == {"exact", "shown", "empty", "replay"}
    assert rows["exact"]["state"] == "not finished" and rows["exact"]["patients"] is None
    assert "damaged" in rows["empty"]["state"] and "a replay" in rows["replay"]["state"]
    shown = rows["shown"]
    assert shown["patients"] == 80 and shown["numbers"] == "suppressed and rounded" and shown["software"]
    assert shown["rules"].endswith(library().hash[:12]) and str(shown["with_card"]).startswith("about ")
    page = Person(app, Role.ADMIN).get("/audits").text
    assert '<a href="/audits/shown">' in page and '<a href="/audits/exact">' not in page
    unfinished = Person(app, Role.ADMIN).get("/audits/exact")
    assert unfinished.status_code == 409 and "not finished" in unfinished.text


def test_without_a_folder_the_page_says_how_to_set_one(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path)
    person = Person(app, Role.ADMIN)
    assert "CDS_AUDITS_DIR" in person.get("/audits").text
    assert person.get("/audits/exact").status_code == 404
    app.extensions["decision_log"].close()


def test_two_runs_side_by_side_differ_where_their_numbers_do(analyst: Person, made: Path) -> None:
    page = analyst.get("/audits/exact?with=shown").text
    assert "the same rules, the same input" in page and "No rule differs in the numbers shown." in page
    assert "The other run cannot be read." in analyst.get("/audits/exact?with=..").text
    said, other = summary(made), summary(made)
    rule = max(said["byRule"], key=lambda name: said["byRule"][name]["attrition"]["recommended"])
    other["byRule"][rule]["attrition"]["recommended"] += 7
    (differs,) = difference_tables(checked(said), checked(other))[1].rows
    assert (differs["rule"], differs["stage"], differs["change"]) == (rule, "recommended", 7)
    hidden = difference_tables(checked(suppressed(said)), checked(other))[1].rows
    assert {row["change"] for row in hidden if HIDDEN in (row["before"], row["after"])} == {"not told"}


@pytest.mark.parametrize("exact", [True, False])
def test_the_way_narrows_from_everybody_to_the_recommended(exact: bool) -> None:
    numbers = dict(zip(STAGES, (2, 0, 113, 3, 0, 16, 1, 165), strict=True))
    shown = Disclosure(exact).table(numbers)
    steps = waterfall(shown, Disclosure(exact).shown(300))
    going = [step.going for step in steps]
    guesses = ["about 300", "about 300", "about 190", "about 185", "about 185", "about 170", 165, 0]
    assert going == ([298, 298, 185, 182, 182, 166, 165, 0] if exact else guesses)
    assert [step.number for step in steps] == list(shown.values())
    assert all(before.start >= after.start for before, after in pairwise(steps))
    assert steps[-1].start == 0 and all(step.start + step.width <= 240 for step in steps)


# Outputs that are damaged, or not ours


@pytest.mark.parametrize(
    "name", ["..", ".", "%2e%2e", "..%2fruns%2fexact", "exact%00", "exact%2f..%2fexact", "a" * 200]
)
def test_no_name_leads_out_of_the_folder(analyst: Person, name: str) -> None:
    for path in (f"/audits/{name}/summary.json", f"/audits/{name}/infants", f"/audits/{name}"):
        answer = analyst.get(path)
        assert answer.status_code in (404, 308), path
        assert "attrition" not in answer.text


def test_links_and_pipes_are_never_followed(mine: tuple[Path, Flask], made: Path) -> None:
    runs, app = mine
    person = Person(app, Role.ADMIN)
    (runs / "link").symlink_to(made / "runs" / "exact")
    assert person.get("/audits/link").status_code == 404
    outside = runs.parent / "outside"
    (runs / "exact" / "evaluations.ndjson").rename(outside)
    (runs / "exact" / "evaluations.ndjson").symlink_to(outside)
    answer = person.get("/audits/exact/infants")
    assert answer.status_code == 409 and "evaluations.ndjson is missing or cannot be read." in answer.text
    (runs / "shown" / "evaluations.ndjson").unlink()
    os.mkfifo(runs / "shown" / "evaluations.ndjson")
    answer = person.get("/audits/shown/infants")
    assert answer.status_code == 409 and "evaluations.ndjson is no file." in answer.text


SPOILT = {
    "summary.json": (b'{"run": {', b"[]", b"{}", b"\xff", None),
    "evaluations.ndjson": (b'{"patient":"x","sta\n', b'{"patient":"x","status":"evaluated"}\n', b"[1]\n", b"\xff\n",
                           b"", None),
    "measure-reports.ndjson": (b"{", b'{"measure": "x"}\n', None),
    "report.html": (None,),
}  # fmt: skip


@pytest.mark.parametrize(("file", "content"), [(file, item) for file, items in SPOILT.items() for item in items])
def test_a_damaged_output_gives_a_page_that_says_so(mine: tuple[Path, Flask], file: str, content: bytes | None) -> None:
    runs, app = mine
    name = Person(app, Role.ADMIN).get("/audits/exact/infants?format=json").json["infants"][0]["infant"]
    (runs / "exact" / file).unlink()
    if content is not None:
        (runs / "exact" / file).write_bytes(content)
    seen = {}
    for role in (Role.VIEWER, Role.ADMIN):
        person = Person(app, role)
        assert person.get("/audits").status_code == 200
        for path in ("", "?with=shown", "/report", "/summary.json", "/measure-reports", "/infants", f"/infants/{name}"):
            seen[role, path] = person.get(f"/audits/exact{path}")
    codes = {answer.status_code for answer in seen.values()}
    assert codes <= {200, 403, 404, 409} and 409 in codes
    said = " ".join(answer.text for answer in seen.values() if answer.status_code == 409)
    assert file in said and "This audit cannot be shown" in said


def test_a_file_cut_between_two_lines_is_noticed(mine: tuple[Path, Flask]) -> None:
    runs, app = mine
    lines = (runs / "exact" / "evaluations.ndjson").read_bytes().splitlines(keepends=True)
    (runs / "exact" / "evaluations.ndjson").write_bytes(b"".join(lines[:-1]))
    answer = Person(app, Role.ADMIN).get("/audits/exact/infants")
    assert answer.status_code == 409 and "cut short: 80 infants of 81" in answer.text


def test_stored_text_is_inert(mine: tuple[Path, Flask]) -> None:
    runs, app = mine
    for run in ("exact", "shown"):
        for file in ("summary.json", "evaluations.ndjson", "made.json"):
            text = (runs / run / file).read_text()
            for word in ("infant", "0.1.0"):
                text = text.replace(f'"{word}"', f'"{word}{HOSTILE}"')
            text = text.replace('"title": "', f'"title": "{HOSTILE}')
            text = text.replace("Observation: ", f"Observation: {HOSTILE}")
            (runs / run / file).write_text(text)
    person = Person(app, Role.ADMIN)
    names = [row["infant"] for row in person.get("/audits/exact/infants?format=json").json["infants"]]
    paths = ["/audits", "/audits/exact", "/audits/shown?with=exact", f"/audits/exact/infants?rule={HOSTILE}",
             "/audits/exact/infants?stage=not+evaluable"]  # fmt: skip
    paths += [f"/audits/exact/infants/{name}" for name in names[:5]]
    pages = [person.get(path).text for path in paths]
    assert not [path for path, page in zip(paths, pages, strict=True) if HOSTILE in page or "<script>" in page]
    assert sum("&lt;script&gt;" in page for page in pages) >= 5


def test_names_are_plain(tmp_path: Path) -> None:
    for name in ("", ".", "..", ".work", "a/b", "a b", "a\nb", "é", "-x"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(BrokenOutput, match="no audit of this name"):
            Output(tmp_path, name)
    assert [item.name for item in listed(tmp_path, exact=True)] == ["x"]
    with pytest.raises(BrokenOutput, match="cannot be read"):
        listed(tmp_path / "none", exact=True)
