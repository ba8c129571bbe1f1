"""The population audit: the hook's answers over an export, every line accounted for, whatever the machine does."""

from __future__ import annotations

import gzip
import json
import random
import resource
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner, Result
from fhir.resources.R4B.measurereport import MeasureReport

from cds_service.cli import main
from cds_service.explain import read_request
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.population.infant_request import Chart, Exported, references_to_medications, request_of
from cds_service.population.made import MADE
from cds_service.population.merge import merge
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.infant_chart import InfantChart
from cds_service.population.synthetic.synthetic_infants import infants, truth_of, write_population
from cds_service.record.sources import SOURCES
from cds_service.record.times import parse_as_of
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
LIBRARY = load_library()
CONTENT = load_content(packaged_cards(), LIBRARY.reading)
URL = "http://127.0.0.1:8080"
FOREIGN = Path(__file__).parents[1] / "fixtures" / "foreign"


def audit(folder: Path, out: Path, *arguments: str) -> Result:
    """The command in this process; with one worker nothing is started beside it."""
    common = ["--as-of", DAY.isoformat(), "--out", str(out)]
    more = [] if "--workers" in arguments else ["--workers", "1"]
    return CliRunner().invoke(main, ["audit", str(folder), *common, *more, *arguments])


def read(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_bytes().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def charts() -> list[InfantChart]:
    return list(infants(CONTENT, 1000, 11, DAY))


@pytest.fixture(scope="module")
def audited(charts: list[InfantChart], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousand")
    write_population(iter(charts), folder / "in")
    done = audit(folder / "in", folder / "out", "--exact", "--exported", "all")
    assert done.exit_code == 0, done.output
    return folder / "out"


@pytest.fixture
def few(tmp_path: Path) -> Path:
    write_population(infants(CONTENT, 30, 3, DAY), tmp_path / "in")
    (tmp_path / "in" / "truth.ndjson").unlink()
    return tmp_path / "in"


def hook(chart: InfantChart) -> dict[str, Any]:
    """The body that an EHR's call with all searches answered gets."""
    prefetch: dict[str, Any] = {"patient": chart.resources[0]}
    for kind, key in SOURCES.items():
        wanted = (kind, "Medication") if kind == "MedicationRequest" else (kind,)
        entries = [{"resource": item} for item in chart.resources if item["resourceType"] in wanted]
        prefetch[key] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}
    request = {
        "hook": "patient-view", "hookInstance": "00000000-0000-4000-8000-000000000000", "prefetch": prefetch,
        "context": {"userId": "Practitioner/1", "patientId": chart.identity.id},
    }  # fmt: skip
    as_of = parse_as_of(DAY.isoformat())
    assert as_of is not None
    response = respond(parse_request(orjson.dumps(request)), LIBRARY, as_of, URL)
    outcomes = {e.rule.id: e.outcome.value for e in response.evaluations if e.outcome.value != "not-applicable"}
    return {"cards": response.body["cards"], "outcomes": outcomes}


# The same as the hook


def test_the_audit_says_to_every_infant_what_the_hook_says(audited: Path, charts: list[InfantChart]) -> None:
    cards: dict[str, list[Any]] = {}
    for row in read(audited, "cards.ndjson"):
        cards.setdefault(row["patient"], []).append(row["card"])
    rows = {row["patient"]: row for row in read(audited, "evaluations.ndjson")}
    assert len(rows) == len(charts) == 1000
    spoke = 0
    for chart in charts:
        said, row = hook(chart), rows[chart.identity.id]
        assert {rule["rule"]: rule["outcome"] for rule in row.get("rules", ())} == said["outcomes"], chart.identity.id
        assert cards.get(chart.identity.id, []) == said["cards"], chart.identity.id
        spoke += bool(said["cards"])
    assert spoke > 300


def test_what_was_planted_is_found_and_no_near_miss_is(audited: Path, charts: list[InfantChart]) -> None:
    rows = {row["patient"]: row for row in read(audited, "evaluations.ndjson") if row["status"] == "evaluated"}
    planted = 0
    for chart in charts:
        if chart.identity.id in rows:
            wanted = {
                (item["finding"], item["resource"]) for item in truth_of(chart)["planted"]
                if item["status"] == "present" and "finding" in item
            }  # fmt: skip
            found = {
                (name, ref) for name, state in rows[chart.identity.id]["findings"].items() for ref in state["present"]
            }
            assert found == wanted, chart.identity.id
            planted += len(wanted)
    assert planted > 1000


# What comes out


def test_every_attrition_sums_to_all_patients(audited: Path) -> None:
    told = summary(audited)
    assert sum(told["attrition"].values()) == told["patients"]["all"] == 1000
    assert all(sum(rule["attrition"].values()) == 1000 for rule in told["byRule"].values())
    assert sum(sum(table.values()) for table in told["byAge"].values()) == told["patients"]["evaluated"]
    assert {sum(table.values()) for table in told["byDocument"].values()} == {told["patients"]["evaluated"]}
    assert told["attrition"]["recommended"] > 300


def test_small_numbers_are_hidden_and_others_rounded(few: Path, tmp_path: Path) -> None:
    assert audit(few, tmp_path / "out", "--exported", "all").exit_code == 0
    told = summary(tmp_path / "out")
    assert told["patients"]["all"] == 30
    people = [told["attrition"], told["byAge"], told["byRule"], told["cards"], told["notEvaluableBy"], told["byWorkup"]]
    numbers = [number for table in people for number in leaves(table)]
    assert "<11" in numbers
    assert all(
        number in (0, "<11") or (isinstance(number, int) and number >= 10 and number % 5 == 0) for number in numbers
    )


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() if key not in ("title", "document") for leaf in leaves(part)]
    return [value]


def test_the_measure_reports_are_fhir_and_hide_what_the_summary_hides(few: Path, audited: Path, tmp_path: Path) -> None:
    audit(few, tmp_path / "out", "--exported", "all")
    for out in (audited, tmp_path / "out"):
        reports = read(out, "measure-reports.ndjson")
        assert len(reports) == len(LIBRARY.rules) + 1
        for report in reports:
            MeasureReport.model_validate({key: value for key, value in report.items() if key != "resourceType"})
    masked = [item for report in reports for item in report["group"][0]["population"] if "_count" in item]
    assert masked
    assert all("count" not in item for item in masked)


def test_the_tables_hold_the_rows_of_the_ndjson(audited: Path) -> None:
    rules = [rule for row in read(audited, "evaluations.ndjson") for rule in row.get("rules", [row])]
    assert parquet.read_metadata(audited / "evaluations.parquet").num_rows == len(rules)
    cards = parquet.read_table(audited / "cards.parquet").to_pylist()
    assert [row["summary"] for row in cards] == [row["card"]["summary"] for row in read(audited, "cards.ndjson")]


def test_the_worklist_begins_with_the_most_urgent(audited: Path) -> None:
    lines = (audited / "worklist.csv").read_text(encoding="utf-8").splitlines()
    urgencies = [line.split(",")[1] for line in lines[1:]]
    assert urgencies == sorted(urgencies, key=["critical", "warning", "info"].index)
    assert len(urgencies) == len({row["patient"] for row in read(audited, "cards.ndjson")})


def test_the_report_stands_alone(audited: Path) -> None:
    page = (audited / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "src=" not in page and "href=" not in page and "url(" not in page
    assert "@media print" in page and page.count("<svg") > 8
    assert str(summary(audited)["attrition"]["recommended"]) in page


# The same whatever the machine does


def outputs(out: Path, *leave_out: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir() if file.name not in (MADE, *leave_out)}


def test_workers_and_parts_change_no_byte(few: Path, tmp_path: Path) -> None:
    audit(few, tmp_path / "a", "--parts", "1")
    audit(few, tmp_path / "b", "--parts", "9", "--workers", "2")
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")
    assert len(outputs(tmp_path / "a")) >= 9


def test_neither_names_nor_packing_nor_order_nor_mixed_types_change_an_answer(few: Path, tmp_path: Path) -> None:
    lines = [line for file in sorted(few.iterdir()) for line in file.read_bytes().splitlines(keepends=True)]
    random.Random(1).shuffle(lines)
    mixed = tmp_path / "mixed"
    (mixed / "deeper").mkdir(parents=True)
    third = len(lines) // 3
    (mixed / "anything").write_bytes(b"".join(lines[:third]))
    (mixed / "b.txt").write_bytes(
        gzip.compress(b"".join(lines[third : third + 99])) + gzip.compress(b"".join(lines[third + 99 : -third]))
    )
    with arrow.CompressedOutputStream(str(mixed / "deeper" / "c"), "zstd") as packed:
        packed.write(b"".join(lines[-third:]))
    audit(few, tmp_path / "a")
    assert audit(mixed, tmp_path / "b").exit_code == 0
    input_of_a_run = ("summary.json", "report.html", "measure-reports.ndjson")
    assert outputs(tmp_path / "a", *input_of_a_run) == outputs(tmp_path / "b", *input_of_a_run)
    assert summary(tmp_path / "a")["attrition"] == summary(tmp_path / "b")["attrition"]


def stop_at_the_third(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C in the third part answered; the parts that are asked from here on."""
    from cds_service.population import pool

    answer, asked = pool._answer, []

    def until_the_third(job: pool.Job, part: int) -> pool.Done:
        asked.append(part)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(job, part)

    monkeypatch.setattr(pool, "_answer", until_the_third)
    return asked


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit(few, tmp_path / "a", "--parts", "6")
    asked = stop_at_the_third(monkeypatch)
    assert audit(few, tmp_path / "b", "--parts", "6").exit_code != 0
    assert not (tmp_path / "b" / "summary.json").exists()
    assert audit(few, tmp_path / "b", "--parts", "6").exit_code == 0
    assert asked[3:] == [2, 3, 4, 5]
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def whole(folder: Path) -> dict[str, bytes]:
    """Every file in the folder and below it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def interrupted(monkeypatch: pytest.MonkeyPatch, few: Path, out: Path) -> dict[str, bytes]:
    """A run that stops after the merge; all that it leaves."""
    with monkeypatch.context() as stopping:
        stopping.setattr("cds_service.population.outputs.write_parquet", stop)
        assert audit(few, out).exit_code != 0
    return whole(out)


@pytest.mark.parametrize("other", ["another export", "another question", "another day"])
def test_what_another_run_left_is_not_mixed_with(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    left = interrupted(monkeypatch, few, tmp_path / "out")
    assert any(name.endswith("cards.ndjson") for name in left)
    write_population(infants(CONTENT, 1, 4, DAY), tmp_path / "one")
    folder = tmp_path / "one" if other == "another export" else few
    more = {"another question": ["--at", "encounters"], "another day": ["--as-of", "2026-11-21"]}.get(other, [])
    refused = audit(folder, tmp_path / "out", *more)
    assert refused.exit_code == 1
    assert "another run" in refused.output and "choose another folder" in refused.output
    assert whole(tmp_path / "out") == left
    assert audit(few, tmp_path / "out").exit_code == 0  # what was begun can still be finished
    assert audit(few, tmp_path / "whole").exit_code == 0
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


def test_an_interrupted_merge_leaves_nothing_to_mistake_for_a_result(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, few, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".work"]


def test_what_an_interrupted_publication_had_moved_is_taken_back(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    moved: list[Path] = []

    def twice(path: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(path, target)

    with monkeypatch.context() as stopping:
        stopping.setattr(Path, "rename", twice)
        assert audit(few, tmp_path / "out").exit_code != 0
    assert [target.name for target in moved if target.exists()] == ["cards.ndjson", "cards.parquet"]
    interrupted(monkeypatch, few, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".work"]
    assert audit(few, tmp_path / "out", "--no-parquet").exit_code == 0
    assert not (tmp_path / "out" / "cards.parquet").exists() and (tmp_path / "out" / "cards.ndjson").exists()


def test_another_version_of_the_software_begins_anew(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stop_at_the_third(monkeypatch)
    assert audit(few, tmp_path / "out", "--parts", "4").exit_code != 0
    monkeypatch.setattr("cds_service.population.audit.version", lambda package: "0.0.other")
    assert audit(few, tmp_path / "out", "--parts", "4").exit_code == 0
    assert asked == [0, 1, 2, 0, 1, 2, 3]


def test_the_output_is_its_owners_alone_in_a_folder_that_was_there(few: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o755)
    assert audit(few, tmp_path / "out").exit_code == 0
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_patient_in_two_parts_is_noticed(tmp_path: Path) -> None:
    for part in ("1", "2"):
        (tmp_path / part).write_bytes(b"same\t{}\n")
    with pytest.raises(AssertionError, match="two parts"):
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out")


# Faults of the input and of the disk


def add(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_each_fault_has_its_place_in_the_report_and_stops_nothing(few: Path, tmp_path: Path) -> None:
    known = json.loads((few / "Patient.ndjson").read_bytes().splitlines()[0])["id"]
    about = f'"subject":{{"reference":"Patient/{known}"}}'
    add(
        few, "zz", "not json", "[]", '{"id":"a"}', f'{{"resourceType":"Condition","id":"x",{about}',
        f'{{"resourceType":"Procedure","id":"twice","id":"twice",{about}}}', "",
        '{"resourceType":"Observation","id":"alone"}',
        '{"resourceType":"Observation","id":"o","status":"final","code":{},"subject":{"reference":"Patient/nobody"}}',
        f'{{"resourceType":"Procedure","id":"p","status":"completed",{about}}}',
        f'{{"resourceType":"Procedure","id":"p","status":"not-done",{about}}}',
    )  # fmt: skip
    done = audit(few, tmp_path / "out", "--exact", "--exported", "all")
    assert done.exit_code == 0, done.output
    told = summary(tmp_path / "out")
    (file,) = [file for file in told["input"]["files"] if file["name"] == "zz"]
    assert sum(file["fates"].values()) == file["lines"] == 10
    assert {item["line"]: item["why"] for item in file["badLines"]} == {
        1: "it is not JSON", 2: "it is no FHIR resource", 3: "it is no FHIR resource", 4: "it is not JSON",
        5: "json.duplicate-key",
    }  # fmt: skip
    assert file["fates"]["about no patient"] == 1 and file["fates"]["blank"] == 1
    assert told["patients"]["notEvaluated"]["no Patient resource"] == 1
    assert told["input"]["lostFor"]["patients"] == {"Condition": 1, "Procedure": 1}
    rows = {row["patient"]: row for row in read(tmp_path / "out", "evaluations.ndjson")}
    assert rows["nobody"] == {"patient": "nobody", "status": "refused", "why": "no Patient resource"}
    assert rows[known]["conflicting"] == ["Procedure/p"]
    assert any("conditions" in rule["missing"] for rule in rows[known]["rules"])


def test_a_line_without_end_is_passed_over(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cds_service.commands import audit as command

    whole = command.options_of
    monkeypatch.setattr(
        command, "options_of", lambda *given: command.Options(**{**_fields(whole(*given)), "longest_line": 50_000})
    )
    add(few, "zz", '{"resourceType":"Immunization"}', '{"resourceType":"Observation","x":"' + "y" * 3_000_000, "{}")
    assert audit(few, tmp_path / "out").exit_code == 0
    (file,) = [file for file in summary(tmp_path / "out")["input"]["files"] if file["name"] == "zz"]
    assert file["bad"] == {"it is no FHIR resource": 1, "the line is too long": 1}
    assert file["lines"] == 3


def _fields(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__struct_fields__}


@pytest.mark.parametrize(("kind", "ending"), [("gzip", "its gzip is cut short"), ("zstd", "its zstd is cut short")])
def test_a_file_cut_short_puts_its_types_in_doubt_for_everybody(
    few: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    conditions = few / "Condition.ndjson"
    whole = conditions.read_bytes()
    packed = gzip.compress(whole) if kind == "gzip" else arrow.compress(whole, codec="zstd", asbytes=True)
    conditions.write_bytes(packed[: len(packed) * 3 // 4])
    done = audit(few, tmp_path / "out", "--exact", "--exported", "all")
    assert done.exit_code == 3
    told = summary(tmp_path / "out")
    (file,) = [file for file in told["input"]["files"] if file["name"] == "Condition.ndjson"]
    assert file["ending"] == ending
    assert told["input"]["lostFor"]["everybody"] in (["Condition"], ["*"])
    assert told["notEvaluableBy"]["conditions"] > 0
    assert "reassurance" not in told["cards"]["byFamily"]


def test_a_file_of_several_types_cut_short_puts_every_type_in_doubt(few: Path, tmp_path: Path) -> None:
    mixed = few / "mixed.ndjson"
    mixed.write_bytes(b"".join((few / f"{kind}.ndjson").read_bytes() for kind in ("Condition", "Procedure")))
    for kind in ("Condition", "Procedure"):
        (few / f"{kind}.ndjson").unlink()
    packed = gzip.compress(mixed.read_bytes())
    mixed.write_bytes(packed[:-20])
    assert audit(few, tmp_path / "out", "--exported", "all").exit_code == 3
    assert summary(tmp_path / "out")["input"]["lostFor"]["everybody"] == ["*"]


@pytest.mark.parametrize("cut", [0, 20])
def test_a_replay_and_a_comparison_say_that_a_file_ended_early(few: Path, tmp_path: Path, cut: int) -> None:
    conditions = few / "Condition.ndjson"
    packed = gzip.compress(conditions.read_bytes())
    conditions.write_bytes(packed[: len(packed) - cut])
    replayed = audit(few, tmp_path / "replay", "--at", "encounters")
    cards = str(packaged_cards())
    compared = CliRunner().invoke(
        main, ["compare", cards, cards, str(few), "--out", str(tmp_path / "compared"), "--workers", "1"]
    )  # fmt: skip
    for done in (replayed, compared):
        assert (done.exit_code, "Condition.ndjson ended early" in done.output) == ((3, True) if cut else (0, False))


def test_a_type_that_was_not_exported_is_unknown_not_empty(few: Path, tmp_path: Path) -> None:
    (few / "Condition.ndjson").unlink()
    audit(few, tmp_path / "out", "--exact")
    told = summary(tmp_path / "out")
    assert "Condition" in told["input"]["notExported"]
    assert told["notEvaluableBy"]["conditions"] > 0
    audit(few, tmp_path / "sure", "--exact", "--exported", "all")
    assert "conditions" not in summary(tmp_path / "sure")["notEvaluableBy"]


def test_a_full_disk_is_said_and_the_run_can_go_on(few: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cds_service.cli", "audit", str(few), "--out", str(tmp_path / "out"),
               "--as-of", DAY.isoformat(), "--workers", "1", "--parts", "1"]  # fmt: skip

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    refused = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_disk)
    assert refused.returncode == 1
    assert "make room" in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "out" / "summary.json").exists()
    assert audit(few, tmp_path / "out", "--parts", "1").exit_code == 0


def test_a_folder_that_holds_something_is_left_alone(few: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("mine", encoding="utf-8")
    refused = audit(few, tmp_path / "mine")
    assert refused.exit_code == 1 and "not an empty folder" in refused.output
    inside = audit(few, few / "out")
    assert inside.exit_code == 1 and "lies in the folder" in inside.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["note"]


# What tells who it is


def test_no_id_of_a_resource_reaches_the_numbers(tmp_path: Path) -> None:
    def named(kind: str, place: int, **elements: Any) -> dict[str, Any]:
        return {"resourceType": kind, "id": f"Anna Smith MRN 47{place}", "subject": {"reference": "Patient/p"},
                **elements}  # fmt: skip

    tremor = {"coding": [{"system": "http://snomed.info/sct", "code": "26079004"}]}
    resources = [
        {"resourceType": "Patient", "id": "p", "birthDate": "2026-07-10"},
        named("Observation", 1, status="final", code=tremor, valueString="unclear", effectiveDateTime="2026-11-21"),
        named("Observation", 2, status="final", code=tremor, effectiveDateTime=3),
        named("Observation", 3, status="final", code={"text": "clonus"}, effectiveDateTime="2026-11-21"),
        named("Condition", 4, code=tremor, modifierExtension=[{"url": "x"}]),
        named("MedicationRequest", 5, status="active", intent="order"),
        named("Procedure", 6, status="completed", code=tremor), named("Procedure", 6, status="not-done", code=tremor),
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    add(tmp_path / "in", "all", *map(json.dumps, resources))
    assert audit(tmp_path / "in", tmp_path / "out", "--exact", "--exported", "all").exit_code == 0
    (row,) = read(tmp_path / "out", "evaluations.ndjson")
    assert row["unreadable"] and row["uncoded"] and row["conflicting"] == ["Procedure"]
    assert any(cause.startswith("Observation: ") for cause in summary(tmp_path / "out")["notEvaluableBy"])
    for name, content in outputs(tmp_path / "out").items():
        assert b"Smith" not in content and b"MRN" not in content, name


def test_a_transaction_made_into_lines_is_read_as_the_whole_transaction(tmp_path: Path) -> None:
    """Its references name ``urn:uuid:`` and an id; in NDJSON no fullUrl is left to tell whose they are."""
    told = json.loads((FOREIGN / "pysynthea-dystonia.json").read_bytes())
    (tmp_path / "in").mkdir()
    add(tmp_path / "in", "all", *(json.dumps(entry["resource"]) for entry in told["entry"]))
    assert audit(tmp_path / "in", tmp_path / "out", "--exact", "--exported", "all").exit_code == 0
    (row,) = read(tmp_path / "out", "evaluations.ndjson")
    assert "unreadable" not in row
    explained = read_request("all", (tmp_path / "in" / "all").read_bytes())
    as_of = parse_as_of(DAY.isoformat())
    assert as_of is not None
    told = respond(explained, LIBRARY, as_of, URL).body["cards"]
    assert told == [shown["card"] for shown in read(tmp_path / "out", "cards.ndjson")]
    assert {(card["family"], card["urgency"]) for card in row["cards"]} == {
        ("imaging", "warning"), ("referrals", "warning"), ("furthertests", "info"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationStatement", "MedicationAdministration"])
@pytest.mark.parametrize("reference", ["Medication/m", "urn:uuid:m"])
def test_a_medicine_told_by_reference_is_found_whatever_refers_to_it(kind: str, reference: str) -> None:
    medicine = {"resourceType": kind, "id": "1", "medicationReference": {"reference": reference}}
    known = {"resourceType": "Medication", "id": "m", "code": {"text": "vigabatrin"}}
    chart = Chart("p", [medicine], frozenset(), (), 0, ())
    request = request_of(chart, [medicine], {"m": [known]}, Exported(frozenset({kind}), frozenset()))
    _, entry = request.prefetch[SOURCES[kind]]["entry"]
    assert entry["resource"] == known
    assert entry["search"] == {"mode": "include"} and entry["fullUrl"] == "urn:uuid:m"
    assert references_to_medications([medicine]) == {"m"}


# The page


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "audit.md").read_text(encoding="utf-8")
    commands = page.split("```sh\n")[1].split("```")[0].replace("--patients 200", "--patients 40").splitlines()
    assert commands.pop(0).startswith("pip install")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cards").symlink_to(root / "cards")
    for command in commands:
        words = command.split()[1:] + ([] if "synthesize" in command else ["--workers", "1"])
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (command, done.output)
    written = {file.name for file in (tmp_path / "audit").iterdir()}
    named = set()
    for row in page.split("## What comes out")[1].split("Attrition:")[0].splitlines():
        for name in row.split("|")[1].split("`")[1::2] if row.startswith("| `") else ():
            named.add(name)
    assert written <= named | {"evaluations.parquet", "cards.parquet"}
    assert json.loads((tmp_path / "replay" / "replay.json").read_bytes())["encounters"] > 40
    compared = json.loads((tmp_path / "compared" / "compare.json").read_bytes())
    assert not compared["changed"]


def test_a_comparison_names_who_changes_and_why(few: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(packaged_cards(), tmp_path / "cards")  # type: ignore[arg-type]
    criteria = changed / "criteria.yaml"
    criteria.write_text(criteria.read_text(encoding="utf-8").replace("age: {below: 24 mo}", "age: {below: 3 mo}"))
    done = CliRunner().invoke(
        main,
        ["compare", str(packaged_cards()), str(changed), str(few), "--out", str(tmp_path / "out"), "--exact",
         "--as-of", DAY.isoformat(), "--workers", "1"],
    )  # fmt: skip
    assert done.exit_code == 4, done.output
    told = json.loads((tmp_path / "out" / "compare.json").read_bytes())
    assert sum(told["infants"].values()) == 30
    assert told["infants"]["no longer"] > 0 and told["infants"]["newly"] == 0
    name, reasons = next((name, found["no longer"]) for name, found in told["byReason"].items() if "no longer" in found)
    assert next(iter(reasons)).startswith("recommended → other age; infant: true → false")
    assert told["examples"][name]["no longer"]


# Moments


def encounter(name: str, patient: str, day: str) -> str:
    about = {"reference": f"Patient/{patient}"}
    return json.dumps({"resourceType": "Encounter", "id": name, "status": "finished", "subject": about,
                       "period": {"start": f"{day}T09:00:00Z", "end": f"{day}T09:30:00Z"}})  # fmt: skip


@pytest.fixture
def unasked(tmp_path: Path) -> Path:
    """One infant who can be asked about at two encounters, one without a Patient resource, one deceased."""
    (tmp_path / "in").mkdir()
    born = {"resourceType": "Patient", "birthDate": "2026-07-10"}
    patients = [born | {"id": "well"}, born | {"id": "died", "deceasedBoolean": True}]
    names = ("well", "nobody", "died")
    seen = [encounter(f"{name}-{day}", name, f"2026-11-0{day}") for name in names for day in (1, 2)]
    add(tmp_path / "in", "all", *map(json.dumps, patients), *seen)
    return tmp_path / "in"


def test_a_replay_that_could_not_ask_does_not_say_that_nothing_came(unasked: Path, tmp_path: Path) -> None:
    done = audit(unasked, tmp_path / "out", "--exact", "--exported", "all", "--at", "encounters")
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "replay.json").read_bytes())
    assert told["firstCard"] == {"at no encounter": 1, "not evaluated": 2}
    assert (told["encounters"], told["encountersNotEvaluated"]) == (6, 4)
    assert sum(told["orderOrWorkFollowedAfter"].values()) == 0


def test_an_infant_of_whom_no_encounter_is_known_is_not_evaluated(unasked: Path, tmp_path: Path) -> None:
    add(unasked, "all", json.dumps({"resourceType": "Patient", "id": "well", "birthDate": "2026-07-10"}))
    assert audit(unasked, tmp_path / "out", "--exact", "--at", "encounters").exit_code == 0
    told = json.loads((tmp_path / "out" / "replay.json").read_bytes())
    assert told["firstCard"] == {"not evaluated": 1}
    assert told["encounters"] == told["encountersNotEvaluated"] == 0


def test_a_comparison_that_could_not_ask_says_so(unasked: Path, tmp_path: Path) -> None:
    cards = str(packaged_cards())
    done = CliRunner().invoke(
        main,
        ["compare", cards, cards, str(unasked), "--out", str(tmp_path / "out"), "--exact", "--exported", "all",
         "--as-of", DAY.isoformat(), "--workers", "1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    infants_ = json.loads((tmp_path / "out" / "compare.json").read_bytes())["infants"]
    assert (infants_["neither"], infants_["not evaluated"]) == (1, 2)
