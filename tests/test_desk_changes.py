"""Changing a rule safely: stops, signatures by two people, and two rule sets side by side."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from queue import Queue
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner
from flask import Flask
from infants import library
from packs import CARDS, spoil
from packs import pack as pack  # a fixture
from people import Person, desk_in_production
from services import opened
from test_in_force import rules_on_cards

from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import SignOffRefused
from cds_service.population import effect as effects
from cds_service.population.effect import DAY, effect, folder_cohort, synthetic_cohort
from cds_service.rules.difference import Difference, Severity, differences
from cds_service.rules.rule_sets import RuleSet, read_rule_set, rule_set
from cds_service.rules.signoff import Signature, add_signature, one_person, read_signoffs
from cds_service.rules.signoff_file import change_signoffs
from cds_service.settings import Settings
from cds_service.store.counts import add_counts
from cds_service.store.database import Database
from cds_service.store.desk_log import entries
from cds_service.store.schema_version import upgrade
from cds_service.store.stops import history, stopped
from cds_service.web import in_force
from cds_service.web.desk.changes import comparisons, uploaded_packs
from cds_service.web.desk.changes.uploaded_packs import KeptPacks, PackRefused, unpack
from cds_service.web.desk.roles import Role
from cds_service.web.desk.rules.governing import CHECKLIST

RULE = "low-calcium-with-movement"
JERKS = "clustered-awake-jerks"
GONE, CAME = "medicine-behind-movement-or-dystonia", "medicine-behind-movement"
FILE = f"rules/leg-tremors/{RULE}.yaml"
WHY = "wrong on sleep jerks since Tuesday"
TICKED = {f"check-{key}": "on" for key in CHECKLIST}


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def database_of(app: Flask) -> Database:
    database: Database = app.extensions["database"]
    return database


def rules_logged(log: io.StringIO, event: str) -> list[str]:
    return [line["rule"] for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == event]


# Stops


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Flask]:
    """Production with people, and a sign-off file of the hospital."""
    (tmp_path / "signoff.yaml").write_bytes((CARDS / "signoff.yaml").read_bytes())
    app = desk_in_production(tmp_path, signoff_file=tmp_path / "signoff.yaml")
    yield app
    app.extensions["decision_log"].close()


def test_a_rule_stopped_on_its_page_is_silent_here_at_once_and_in_every_other_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path)
    second = create_app(Settings(database_url=str(database_of(first).url), public_url="https://cds.example"), library())
    assert JERKS in rules_on_cards(first) & rules_on_cards(second)
    answer = Person(first).post(f"/rules/{JERKS}/stop", reason=WHY)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/rules/{JERKS}#govern")
    assert JERKS not in rules_on_cards(first)
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 0.0)
    assert JERKS not in rules_on_cards(second)


def test_a_stop_names_who_when_and_why_and_is_noted(desk: Flask, log_lines: io.StringIO) -> None:
    Person(desk, Role.REVIEWER, "ada (s-1)").post(f"/rules/{RULE}/stop", reason=f"  {WHY}\n ")
    row = stopped(database_of(desk))[RULE]
    assert (row.stopped_by, row.reason) == ("ada (s-1)", WHY)
    viewer = words(Person(desk, Role.VIEWER).get(f"/rules/{RULE}").text)
    assert f"Stopped since {row.stopped_at}: it puts nothing on any card. By ada (s-1): “{WHY}”" in viewer
    public = words(Person(desk).get(f"/rules/{RULE}").text)
    assert f"Stopped since {row.stopped_at}" in public
    assert "ada" not in public and WHY not in public
    listed = Person(desk).get("/rules?status=stopped&format=json").get_json()["rules"]
    assert [item["id"] for item in listed] == [RULE]
    noted = entries(database_of(desk), subject=RULE)
    assert [(item.who, item.route, item.status) for item in noted] == [("ada (s-1)", "/rules/<rule_id>/stop", 303)]
    assert rules_logged(log_lines, "rule-stopped") == [RULE]
    assert WHY not in log_lines.getvalue()


@pytest.mark.parametrize("reason", ["", "too short", "x" * 501, " " * 40])
def test_a_stop_without_a_reason_that_can_be_understood_is_refused(desk: Flask, reason: str) -> None:
    answer = Person(desk, Role.REVIEWER).post(f"/rules/{RULE}/stop", reason=reason)
    assert answer.status_code == 422
    assert "Give a reason of 10 to 500 characters" in answer.text
    assert stopped(database_of(desk)) == {}


def test_a_stop_of_no_rule_or_a_second_one_changes_nothing(desk: Flask) -> None:
    reviewer = Person(desk, Role.REVIEWER, "ada (s-1)")
    assert reviewer.post("/rules/no-such-rule/stop", reason=WHY).status_code == 404
    reviewer.post(f"/rules/{RULE}/stop", reason=WHY)
    again = Person(desk, Role.REVIEWER, "bo (s-2)").post(f"/rules/{RULE}/stop", reason="another reason for it")
    assert again.status_code == 409
    assert "It was stopped already" in again.text
    assert [(row.rule, row.stopped_by, row.reason) for row in history(database_of(desk))] == [(RULE, "ada (s-1)", WHY)]


def test_a_script_in_a_reason_is_text(desk: Flask) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    reviewer = Person(desk, Role.REVIEWER)
    reviewer.post(f"/rules/{RULE}/stop", reason=evil)
    page = reviewer.get(f"/rules/{RULE}").text
    assert evil in unescape(page)
    assert "<script" not in page and "<img" not in page
    refused = reviewer.post(f"/rules/{RULE}/stop", reason=evil * 20).text
    assert "<script" not in refused


def test_only_an_administrator_lets_a_stopped_rule_speak_again(desk: Flask) -> None:
    reviewer = Person(desk, Role.REVIEWER)
    reviewer.post(f"/rules/{RULE}/stop", reason=WHY)
    assert "An administrator lets it speak again." in reviewer.get(f"/rules/{RULE}").text
    assert reviewer.post(f"/rules/{RULE}/lift", reason="it is mended now").status_code == 403
    assert RULE in stopped(database_of(desk))
    admin = Person(desk, Role.ADMIN, "ola (s-9)")
    assert admin.post(f"/rules/{RULE}/lift", reason="short").status_code == 422
    assert RULE in stopped(database_of(desk))
    assert admin.post(f"/rules/{RULE}/lift", reason="it is mended now").status_code == 303
    assert desk.extensions["rules"].stops == {}
    (row,) = history(database_of(desk), RULE)
    assert (row.lifted_by, row.lift_reason) == ("ola (s-9)", "it is mended now")
    assert "it is mended now" in admin.get(f"/rules/{RULE}").text
    assert admin.post(f"/rules/{RULE}/lift", reason="it is mended now").status_code == 409


def test_an_operator_stops_and_lifts_without_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite3"
    database = Database(url)
    upgrade(database)
    monkeypatch.setenv("CDS_DATABASE_URL", url)

    def run(*words: str) -> tuple[int, str]:
        answer = CliRunner().invoke(main, [*words, "--by", "Eva Lund"])
        return answer.exit_code, answer.output

    assert run("stop", RULE, "--reason", "short")[0] == 1
    assert "no rule is called this" in run("stop", "no-such-rule", "--reason", WHY)[1]
    assert stopped(database) == {}
    assert run("stop", RULE, "--reason", WHY)[0] == 0
    assert stopped(database)[RULE].stopped_by == "Eva Lund"
    assert "is stopped already" in run("stop", RULE, "--reason", WHY)[1]
    assert run("lift", RULE, "--reason", "it is mended now")[0] == 0
    assert stopped(database) == {}
    assert f"{RULE} is not stopped" in run("lift", RULE, "--reason", "it is mended now")[1]
    noted = [(item.who, item.role, item.route) for item in entries(database, subject=RULE)]
    assert noted == [("Eva Lund", "operator", "cds-service lift"), ("Eva Lund", "operator", "cds-service stop")]


# Signatures


def content_of(app: Flask) -> str:
    content: str = app.extensions["rules"].library.contents[RULE]
    return content


def sign(app: Flask, name: str, role: str = "pediatrician", **more: str) -> Any:
    """Fill in the form of the page. A field that is "" stays unticked."""
    fields = {"content": content_of(app), "role": role, **TICKED, **more}
    person = Person(app, Role.REVIEWER, name)
    return person.post(f"/rules/{RULE}/sign", **{key: value for key, value in fields.items() if value})


def file_of(app: Flask) -> Path:
    return Path(str(database_of(app).url).removeprefix("sqlite:///")).parent / "signoff.yaml"


def test_two_people_of_different_roles_let_a_rule_speak(desk: Flask, log_lines: io.StringIO) -> None:
    reviewer = words(Person(desk, Role.REVIEWER).get(f"/rules/{RULE}").text)
    assert "it needs two people with different roles, one of them clinical" in reviewer
    first = sign(desk, "ada (s-1)", "clinical-informatician")
    assert (first.status_code, first.headers["Location"]) == (303, f"/rules/{RULE}#govern")
    assert RULE in desk.extensions["rules"].library.silent
    page = words(Person(desk, Role.REVIEWER, "bo (s-2)").get(f"/rules/{RULE}").text)
    assert "it needs one more person with another role, a clinical one" in page
    assert sign(desk, "bo (s-2)", "neonatologist").status_code == 303
    now = desk.extensions["rules"].library
    assert RULE not in now.silent
    assert {signature.by for signature in now.signatures[RULE]} == {"ada (s-1)", "bo (s-2)"}
    assert {signature.content for signature in now.signatures[RULE]} == {content_of(desk)}
    noted = [(item.who, item.route) for item in entries(database_of(desk), subject=RULE)]
    assert noted == [("bo (s-2)", "/rules/<rule_id>/sign"), ("ada (s-1)", "/rules/<rule_id>/sign")]
    assert rules_logged(log_lines, "rule-signed") == [RULE, RULE]
    assert "s-1" not in log_lines.getvalue()


@pytest.mark.parametrize(
    ("name", "fields", "status", "said"),
    [
        ("bo (s-2)", {"content": "0" * 64}, 409, "The rule is not as you saw it"),
        ("bo (s-2)", {"content": ""}, 409, "The rule is not as you saw it"),
        ("bo (s-2)", {"check-hazards": ""}, 422, "Not ticked: I accept the hazards"),
        ("bo (s-2)", {"role": "janitor"}, 422, "no role is called this"),
        ("bo (s-2)", {"role": ""}, 422, "no role is called this"),
        ("Infant motor CDS project (s-3)", {}, 422, "You are an author of this rule"),
        ("somebody else (s-66)", {}, 422, "You are an author of this rule"),
        ("ada (s-1)", {"role": "neonatologist"}, 422, "You have signed this content already"),
        ("another name (s-1)", {"role": "neonatologist"}, 422, "You have signed this content already"),
    ],
)
def test_a_signature_is_refused_and_nothing_is_written(
    desk: Flask, name: str, fields: dict[str, str], status: int, said: str
) -> None:
    file = file_of(desk)
    file.write_text(file.read_text().replace("[Infant motor CDS project]", "[Infant motor CDS project, cy (s-66)]"))
    assert sign(desk, "ada (s-1)").status_code == 303
    before = file.read_bytes()
    answer = sign(desk, name, **fields)
    assert answer.status_code == status
    assert said in words(answer.text)
    assert file.read_bytes() == before


def test_without_a_file_of_the_hospital_the_page_says_so_instead_of_a_form(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path)
    before = (CARDS / "signoff.yaml").read_bytes()
    page = Person(app, Role.REVIEWER).get(f"/rules/{RULE}").text
    assert "No sign-off file of this hospital is set (CDS_SIGNOFF_FILE)" in page
    assert "Sign this content" not in page
    refused = sign(app, "bo (s-2)")
    assert refused.status_code == 422
    assert "CDS_SIGNOFF_FILE" in refused.text
    assert (CARDS / "signoff.yaml").read_bytes() == before


def test_what_was_counted_of_the_silent_run_stays_with_the_signature(desk: Flask) -> None:
    today = datetime.now(UTC).date().isoformat()
    row = {"day": today, "month": today[:7], "client_id": "main", "rule_set": "x"}
    counted = [
        {**row, "kind": "views", "name": "", "detail": "silent", "count": 200},
        {**row, "kind": "rule", "name": RULE, "detail": "recommended (silent)", "count": 3},
        {**row, "kind": "rule", "name": RULE, "detail": "data-required (silent)", "count": 10},
        {**row, "kind": "rule", "name": JERKS, "detail": "recommended (silent)", "count": 77},
    ]
    with database_of(desk).writing() as connection:
        add_counts(connection, counted)
    silent = "recommended (silent) 3 (1.5 in 100)"
    told = f"200 views; of them recommended 0 (0.0 in 100), {silent}, data required 10 (5.0 in 100)"
    assert told in words(Person(desk, Role.REVIEWER).get(f"/rules/{RULE}").text)
    sign(desk, "ada (s-1)")
    (signature,) = read_signoffs(CARDS, file_of(desk)).signatures[RULE]
    assert signature.evidence.endswith(told)
    assert told in words(Person(desk, Role.ANALYST).get(f"/rules/{RULE}").text)
    assert "200 views" not in words(Person(desk, Role.VIEWER).get(f"/rules/{RULE}").text)


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("Ada  Berg", "ada berg", True),
        ("ada (s-1)", "bea (s-1)", True),
        ("ada (s-1)", "ada (s-2)", False),
        ("ada (s-1)", "Ada", True),
        ("ada (s-1)", "s-1", True),
        ("ada (s-1)", "bo", False),
        ("ada", "bo", False),
        ("(s-1)", "", False),
    ],
)
def test_the_subject_tells_people_apart_where_there_is_one(name: str, other: str, same: bool) -> None:
    assert one_person(name, other) is same
    assert one_person(other, name) is same


def test_one_person_under_two_names_is_not_two_people(desk: Flask) -> None:
    """A file that was written by hand: the same subject signed twice."""
    content = content_of(desk)
    data = yaml.safe_load(file_of(desk).read_text(encoding="utf-8"))
    data["signatures"] = {
        RULE: [
            {"by": by, "role": role, "on": "2026-11-26", "version": "1.1.0", "content": content}
            for by, role in (("ada (s-1)", "pediatrician"), ("bea (s-1)", "clinical-informatician"))
        ]
    }
    file_of(desk).write_text(yaml.safe_dump(data), encoding="utf-8")
    assert not read_signoffs(CARDS, file_of(desk)).lets_speak(RULE, content)


def test_those_who_sign_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "signoff.yaml"
    file.write_bytes((CARDS / "signoff.yaml").read_bytes())
    start, number = threading.Barrier(8), 5

    def one_after_the_other(person: int) -> None:
        start.wait()
        for place in range(number):
            signature = Signature(f"person {person}", "pediatrician", "2026-11-26", "1.0.0", f"{place:064x}")
            add = partial(add_signature, rule_id=f"rule-{person}", signature=signature)
            change_signoffs(CARDS, file, add)
            assert read_signoffs(CARDS, file).authors

    threads = [threading.Thread(target=one_after_the_other, args=(person,)) for person in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signed = read_signoffs(CARDS, file).signatures
    assert {name: [s.content for s in found] for name, found in signed.items()} == {
        f"rule-{person}": [f"{number - 1:064x}"] for person in range(8)
    }
    assert [found.name for found in tmp_path.iterdir()] == ["signoff.yaml"]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "signoff.yaml"
    file.write_bytes((CARDS / "signoff.yaml").read_bytes())
    before = file.read_bytes()
    signature = Signature("x" * 301, "pediatrician", "2026-11-26", "1.0.0", "0" * 64)
    with pytest.raises(SignOffRefused, match="cannot be read"):
        change_signoffs(CARDS, file, lambda known: add_signature(known, RULE, signature))
    assert file.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["signoff.yaml"]


# Differences


@pytest.fixture(scope="module")
def running() -> RuleSet:
    return rule_set(library())


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of releases with one that changes something of every kind."""
    folder = tmp_path_factory.mktemp("releases")
    cards = Path(shutil.copytree(CARDS, folder / "next", ignore=shutil.ignore_patterns("__pycache__")))
    spoil(cards, FILE, "because: Low", "because: A low")
    spoil(cards, FILE, "recommend_when: low_calcium and movement_or_neurological_sign", "recommend_when: low_calcium")
    spoil(cards, FILE, "{workup: magnesium, urgency: warning", "{workup: magnesium, urgency: info")
    spoil(cards, FILE, 'harm: "A normal', 'harm: "One normal')
    cases = FILE.replace(".yaml", ".cases.yaml")
    spoil(cards, cases, "case: low calcium in an infant with tremor", "case: low calcium with tremor")
    spoil(cards, "limits.yaml", "{mg/dL: 47, mmol/L: 2.6}", "{mg/dL: 46, mmol/L: 2.5}")
    tremor = json.loads((cards / "valuesets/tremor.json").read_text())
    gone = tremor["compose"]["include"].pop()["concept"][0]
    (cards / "valuesets/tremor.json").write_text(json.dumps(tremor))
    (folder / "gone.txt").write_text(gone["code"])
    for file in list(cards.glob(f"rules/*/{GONE}.*")):
        file.with_name(file.name.replace(GONE, CAME)).write_text(file.read_text().replace(GONE, CAME))
        file.unlink()
    return folder


@pytest.fixture(scope="module")
def changed(release: Path) -> RuleSet:
    return read_rule_set(release / "next")


@pytest.fixture(scope="module")
def found(running: RuleSet, changed: RuleSet) -> dict[str, Difference]:
    return {item.rule: item for item in differences(running, changed)}


def parts(item: Difference, kind: str) -> list[tuple[str, str, str, Severity]]:
    return [(part.what, part.before, part.after, part.severity) for part in item.parts if part.kind == kind]


def test_the_same_rules_have_no_difference(running: RuleSet) -> None:
    assert differences(running, running) == []


def test_each_kind_of_change_is_named_with_its_weight(found: dict[str, Difference], release: Path) -> None:
    rule = found[RULE]
    assert (rule.change, rule.severity) == ("changed", Severity.WHO)
    ((what, before, after, weight),) = parts(rule, "sentence")
    assert (what, weight) == ("when it speaks", Severity.WHO)
    assert before.startswith("all of:\n  calcium low\n") and after == "calcium low"
    assert ("magnesium", Severity.WHO) in [(what, weight) for what, _, _, weight in parts(rule, "workup")]
    because = [item for item in parts(rule, "text") if item[0] == "because"]
    assert because[0][1].startswith("Low") and because[0][2].startswith("A low")
    assert because[0][3] is Severity.WORDS
    assert [item[3] for item in parts(rule, "proof")] == [Severity.PROOF]
    assert {item[0]: (bool(item[1]), bool(item[2])) for item in parts(rule, "case")} == {
        "low calcium in an infant with tremor": (True, False), "low calcium with tremor": (False, True),
    }  # fmt: skip
    limits = parts(found["low-glucose-with-movement"], "limit")
    assert limits == [(
        "glucose-first-48h", "Glucose low below 47 mg/dL, 2.6 mmol/L, from 0 h to 48 h",
        "Glucose low below 46 mg/dL, 2.5 mmol/L, from 0 h to 48 h", Severity.WHO,
    )]  # fmt: skip
    code = (release / "gone.txt").read_text()
    lists = [item for rule in found.values() for item in parts(rule, "codes") if item[0].startswith("tremor")]
    assert lists and all(code in before and not after for _, before, after, _ in lists)
    assert (found[GONE].change, found[CAME].change) == ("retired", "added")
    assert found[GONE].severity is Severity.WHO


def test_a_rule_whose_file_is_the_same_but_its_wording_is_not_is_of_less_weight(pack: Path, running: RuleSet) -> None:
    spoil(pack, FILE, "because: Low", "because: A low")
    spoil(pack, "rules/leg-tremors/low-glucose-with-movement.yaml", '    harm: "', '    harm: "Note. ')
    told = {item.rule: item.severity.word for item in differences(running, read_rule_set(pack))}
    assert told == {RULE: "what it says", "low-glucose-with-movement": "proof only"}


def test_what_all_rules_share_is_of_the_first_weight(pack: Path, running: RuleSet) -> None:
    spoil(pack, "reading.yaml", "laboratory: 72 h", "laboratory: 71 h")
    told = differences(running, read_rule_set(pack))
    assert {item.rule for item in told} == {rule.id for rule in library().rules}
    assert {part.kind for item in told for part in item.parts} == {"shared"}
    assert {item.severity for item in told} == {Severity.WHO}


# The effect on a cohort


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "SYNTHETIC_INFANTS", 60)


def test_the_made_up_cohort_is_the_same_each_time_and_the_effect_adds_up(
    few: None, running: RuleSet, changed: RuleSet
) -> None:
    cohort, again = (synthetic_cohort(CARDS, library()) for _ in range(2))
    assert [chart.resources for chart, _ in cohort.charts] == [chart.resources for chart, _ in again.charts]
    told = effect(running.library, changed.library, cohort, "https://cds.example")
    assert told.number == sum(told.infants.values()) == 60
    assert told.by_rule[CAME]["newly"] == told.by_rule[GONE]["no longer"] > 0
    newly = [item for item in told.changed if item.rules.get(CAME, ("", ""))[0] == "newly"]
    assert len(newly) == told.by_rule[CAME]["newly"]
    assert all(item.rules[CAME][1].startswith("not in this rule set →") for item in newly)


def test_silent_rules_are_compared_as_if_they_spoke(few: None, running: RuleSet) -> None:
    rules = running.library
    silent = rules.speaking_as({}, frozenset(rules.contents))
    told = effect(silent, rules, synthetic_cohort(CARDS, rules), "https://cds.example")
    assert told.changed == [] and told.by_rule


@pytest.fixture
def cohort_dir(few: None, tmp_path: Path) -> Path:
    folder = tmp_path / "cohort"
    folder.mkdir()
    charts = synthetic_cohort(CARDS, library()).charts
    lines = [orjson.dumps(resource) for chart, _ in charts for resource in chart.resources]
    (folder / "all.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    noon = DAY.toordinal() - 719_163
    os.utime(folder / "all.ndjson", (noon * 86_400 + 43_200,) * 2)
    return folder


def test_the_infants_of_a_folder_are_read_as_an_export(cohort_dir: Path, running: RuleSet) -> None:
    cohort = folder_cohort(cohort_dir)
    assert (len(cohort.charts), cohort.made_up) == (60, False)
    one = effect(running.library, running.library, cohort, "https://cds.example")
    other = effect(running.library, running.library, synthetic_cohort(CARDS, library()), "https://cds.example")
    assert one.by_rule.keys() & other.by_rule.keys()


# The page


def zipped(files: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return packed.getvalue()


def zipped_pack(folder: Path) -> bytes:
    return zipped(
        {str(file.relative_to(folder.parent)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    )


@pytest.fixture
def compare_desk(
    tmp_path: Path, release: Path, few: None, cohort_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    kept = tmp_path / "temporary"
    kept.mkdir()
    monkeypatch.setattr(uploaded_packs.tempfile, "gettempdir", lambda: str(kept))
    monkeypatch.setattr(comparisons, "WAIT_SECONDS", 60.0)
    app = desk_in_production(tmp_path, releases_dir=release, cohort_dir=cohort_dir)
    yield app
    app.extensions["decision_log"].close()


def kept_packs(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "temporary").rglob("*.zip"))


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_who_has_nothing_to_compare_with_is_told_how_to_have_it(tmp_path: Path, role: Role) -> None:
    releases = tmp_path / "releases"
    shutil.copytree(CARDS, releases / "earlier")
    for name, folder in (("none", None), ("one", releases)):
        (tmp_path / name).mkdir()
        page = Person(desk_in_production(tmp_path / name, releases_dir=folder), role).get("/compare").text
        assert ("CDS_RELEASES_DIR" in page) is (folder is None)


def upload(person: Person, content: bytes) -> Any:
    fields = {"csrf": person.form_token(), "pack": (io.BytesIO(content), "cards.zip")}
    return person.call("POST", "/compare/upload", data=fields)


def test_releases_side_by_side_with_twins_and_examples(compare_desk: Flask) -> None:
    viewer = Person(compare_desk, Role.VIEWER)
    assert "release:next" in viewer.get("/compare").text
    page = viewer.get("/compare?after=release:next")
    assert page.status_code == 200
    said = words(page.text)
    assert "Asked: 60 made-up infants." in said and "A low calcium is a listed cause" in said
    assert f'href="/rules/{RULE}"' in page.text and f'href="/rules/{CAME}"' not in page.text
    rows = viewer.get("/compare?after=release:next&table=differences&part=limit&format=json").get_json()["differences"]
    assert rows and {row["what"] for row in rows} == {"glucose-first-48h"}
    reasons = viewer.get(f"/compare?after=release:next&table=reasons&rule={CAME}&format=json").get_json()["reasons"]
    assert reasons and all(row["examples"] for row in reasons)
    shown = reasons[0]["examples"][0]
    infant = viewer.get(f"/compare/infants/{shown}")
    assert infant.status_code == 200 and f'"id":"{shown}"' in unescape(infant.text)
    csv = viewer.get("/compare?after=release:next&table=effect&format=csv").text
    assert csv.splitlines()[0] == "rule,newly,no longer,same,changed urgency"


@pytest.mark.parametrize(
    "name", ["release:../next", "release:..", "release:", "upload:x", f"upload:{'0' * 64}", "/etc"]
)
def test_what_is_no_rule_set_here_is_not_found(compare_desk: Flask, name: str) -> None:
    answer = Person(compare_desk, Role.VIEWER).get("/compare", query_string={"after": name})
    assert answer.status_code == 404
    assert "There is no" in answer.text


def test_a_comparison_that_takes_long_says_how_far_it_is(compare_desk: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    whole = comparisons.effect

    def slow(*args: Any) -> Any:
        args[-1](7)
        assert let_go.wait(60)
        return whole(*args)

    monkeypatch.setattr(comparisons, "effect", slow)
    monkeypatch.setattr(comparisons, "WAIT_SECONDS", 0.05)
    viewer = Person(compare_desk, Role.VIEWER)
    address = "/compare?after=release:next"
    for _ in range(600):
        page = viewer.get(address)
        assert page.status_code == 202 and page.headers["Refresh"] == "2"
        if "7 of 60 infants are asked" in words(page.text):
            break
    else:
        raise AssertionError("it never says how far it is")
    assert f'href="{address}"' in page.text
    let_go.set()
    monkeypatch.setattr(comparisons, "WAIT_SECONDS", 60.0)
    assert viewer.get(address).status_code == 200


def test_of_a_folder_s_infants_viewers_see_suppressed_numbers_and_nobody_an_id(compare_desk: Flask) -> None:
    asked = "after=release:next&cohort=folder"
    viewer, analyst = Person(compare_desk, Role.VIEWER), Person(compare_desk, Role.ANALYST)
    page = viewer.get(f"/compare?{asked}").text
    assert "are shown as &lt;11" in page
    rows = viewer.get(f"/compare?{asked}&table=effect&format=json").get_json()["effect"]
    numbers = {number for row in rows for number in row.values() if isinstance(number, int)}
    assert rows and all(number % 5 == 0 for number in numbers)
    assert viewer.get(f"/compare/infants?{asked}").status_code == 403
    before = len(entries(database_of(compare_desk)))
    infants = analyst.get(f"/compare/infants?{asked}")
    assert "infant 1" in words(infants.text)
    assert not re.search(r"s6-\d{6}", page + infants.text)
    assert len(entries(database_of(compare_desk))) == before + 1


def test_a_reviewer_uploads_a_rule_set_to_compare(compare_desk: Flask, tmp_path: Path, release: Path) -> None:
    content = zipped_pack(release / "next")
    for role in (Role.VIEWER, Role.ANALYST):
        assert upload(Person(compare_desk, role), content).status_code == 403
    assert kept_packs(tmp_path) == []
    reviewer = Person(compare_desk, Role.REVIEWER)
    answer = upload(reviewer, content)
    assert answer.status_code == 303
    place = answer.headers["Location"]
    assert place.startswith("/compare?before=running&after=upload:")
    assert len(kept_packs(tmp_path)) == 1
    assert "A low calcium is a listed cause" in reviewer.get(place).text
    assert compare_desk.extensions["rules"].library.hash == library().hash
    forms = Person(compare_desk, Role.VIEWER).get("/compare").text
    assert "/compare/upload" not in forms


def test_mistakes_of_an_upload_are_told_with_file_and_line(compare_desk: Flask, tmp_path: Path, pack: Path) -> None:
    line = spoil(pack, FILE, "recommend_when: low_calcium", "recommend_when: <b>low_calcium")
    answer = upload(Person(compare_desk, Role.REVIEWER), zipped_pack(pack))
    assert answer.status_code == 422
    assert f"<code>cards/{FILE}:{line}</code>" in answer.text
    assert "<b>" not in answer.text
    assert kept_packs(tmp_path) == []


def with_link() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("cards/reading.yaml", "a: 1")
        link = zipfile.ZipInfo("cards/limits.yaml")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    return packed.getvalue()


def twice() -> bytes:
    return zipped({"cards/reading.yaml": "a: 1", "cards/reading.yam_": "a: 2"}).replace(b"yam_", b"yaml")


def by_bzip2() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("cards/reading.yaml", b"0" * 10_000)
    return packed.getvalue()


def lying_about_size() -> bytes:
    """A bomb whose directory says that it is small."""
    whole = zipped({"cards/reading.yaml": b"0" * (5 << 20)})
    return whole.replace((5 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))


FORBIDDEN = {
    "bomb": (lambda: zipped({"cards/reading.yaml": b"0" * (5 << 20)}), "too large"),
    "many parts of a bomb": (lambda: zipped({f"cards/{n}.yaml": b"0" * (4 << 20) for n in range(7)}), "too large"),
    "a bomb that lies": (lying_about_size, "no zip file that can be unpacked|too large"),
    "too many": (lambda: zipped({f"cards/{n}.md": "" for n in range(2001)}), "more than 2000 files"),
    "up": (lambda: zipped({"cards/reading.yaml": "", "../evil.yaml": "x"}), "outside its folder"),
    "up within": (lambda: zipped({"cards/reading.yaml": "", "cards/../../evil.yaml": "x"}), "outside its folder"),
    "absolute": (lambda: zipped({"/evil.yaml": "x"}), "outside its folder"),
    "backslashes": (lambda: zipped({"cards\\..\\evil.yaml": "x"}), "outside its folder"),
    "drive": (lambda: zipped({"C:evil.yaml": "x"}), "outside its folder"),
    "deep": (lambda: zipped({"a/b/c/d/e/f/g.yaml": "x"}), "too deep"),
    "link": (with_link, "a link in it"),
    "twice": (twice, "stands in it twice"),
    "another method": (by_bzip2, "by a method that is not taken"),
    "no pack": (lambda: zipped({"hello.yaml": "x"}), "no reading.yaml"),
    "no zip": (lambda: b"hello", "no zip file"),
    "cut off": (lambda: zipped({"cards/reading.yaml": "a: 1"})[:-30], "no zip file"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_dangerous_zip_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    make, why = FORBIDDEN[name]
    place = tmp_path / "inner" / "place"
    place.mkdir(parents=True)
    with pytest.raises(PackRefused, match=why):
        unpack(make(), place)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_refused_upload_says_why_and_is_not_kept(compare_desk: Flask, tmp_path: Path) -> None:
    reviewer = Person(compare_desk, Role.REVIEWER)
    for content, why in ((zipped({"../reading.yaml": "x"}), "outside its folder"), (b"", "Choose a file")):
        answer = upload(reviewer, content)
        assert answer.status_code == 422
        assert f"{why}" in answer.text and "Nothing was kept." in answer.text
    body = b"x" * (3 << 20)
    large = reviewer.call("POST", "/compare/upload", data=body, content_type="multipart/form-data; boundary=x")
    assert large.status_code == 413 and "larger than 2 MB" in large.text
    assert kept_packs(tmp_path) == []


def test_the_schemas_of_an_upload_are_ours(tmp_path: Path) -> None:
    theirs = {"schema/reading.schema.json": "{}", "schema/one-more.schema.json": "{}"}
    root = unpack(zipped({"reading.yaml": "a: 1", "run.py": "x", **theirs}), tmp_path)
    own = (CARDS / "schema/reading.schema.json").read_bytes()
    assert (root / "schema/reading.schema.json").read_bytes() == own
    assert not [*tmp_path.rglob("run.py"), *tmp_path.rglob("one-more.*")]


def test_uploads_are_kept_where_only_we_read_and_for_a_day(tmp_path: Path) -> None:
    kept = KeptPacks(tmp_path / "packs")
    name = kept.keep(b"one", 1_000_000.0)
    assert (tmp_path / "packs").stat().st_mode & 0o777 == 0o700
    file = tmp_path / "packs" / f"{name}.zip"
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept.find(name) == b"one"
    assert kept.find("../packs/" + name) is None
    other = kept.keep(b"two", file.stat().st_mtime + uploaded_packs.KEPT_SECONDS + 60)
    assert kept.find(name) is None and other
    file.write_bytes(b"changed by somebody")
    assert kept.find(name) is None
    (tmp_path / "packs").chmod(0o755)
    assert kept.find(name) is None
    with pytest.raises(PackRefused, match="cannot be kept"):
        kept.keep(b"three", 0.0)


def test_the_command_says_what_is_otherwise_before_whom_it_meets(
    cohort_dir: Path, release: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    asked = ["compare", str(CARDS), str(release / "next"), str(cohort_dir), "--out", str(out), "--workers", "1"]
    answer = CliRunner().invoke(main, [*asked, "--as-of", DAY.isoformat(), "--exported", "all", "--exact"])
    assert answer.exit_code == 4
    lines = answer.output.splitlines()
    assert f"  {GONE}: retired, who gets it, version 1.0.0" in lines
    assert [line for line in lines if line.startswith("    text, because: Low calcium")]
    assert lines.index(f"  {GONE}: retired, who gets it, version 1.0.0") < next(
        place for place, line in enumerate(lines) if line.startswith("infants: ")
    )
    told = json.loads((out / "compare.json").read_bytes())["differences"]
    assert {item["rule"]: item["severity"] for item in told}[RULE] == "who gets it"


def test_of_many_who_wait_for_a_comparison_few_hold_a_thread() -> None:
    """The calls of EHRs need those."""
    working, told = comparisons.Working(), Queue[Any]()
    most = comparisons.MOST_WATCHING
    people = [threading.Thread(target=lambda: told.put(working.result(20)), daemon=True) for _ in range(most + 12)]
    for person in people:
        person.start()
    assert [told.get(timeout=5) for _ in range(12)] == [None] * 12
    made: Any = "the comparison"
    working.future.set_result(made)
    assert [told.get(timeout=5) for _ in range(most)] == [made] * most
    assert working.result(0) == made
