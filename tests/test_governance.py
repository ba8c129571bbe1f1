"""Who may let a rule speak, what each assertion feeds, and how the texts are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from infants import BASIS, NEWBORN, ask, lab, observation, outcome, report, request
from packs import CARDS, spoil

from cds_service.cli import main
from cds_service.errors import ContentError, SignOffRefused
from cds_service.rules.codes_check import code_mistakes
from cds_service.rules.content_hash import content_hash
from cds_service.rules.coverage import coverage, coverage_mistakes
from cds_service.rules.governance import lock_mistakes, locked, retired
from cds_service.rules.hazards import hazards_page
from cds_service.rules.library import load_library
from cds_service.rules.pack import read_pack
from cds_service.rules.signoff import read_signoffs, sign, signatures_in_force
from cds_service.rules.texts import medicines_of, plain_words, read_runs, run_of, text_mistakes

ROOT = Path(__file__).parents[1]
RULE = "low-glucose-with-movement"
FILE = f"rules/leg-tremors/{RULE}.yaml"


def signed(pack: Path, *people: tuple[str, str]) -> None:
    for by, role in people:
        answer = CliRunner().invoke(main, ["sign-off", RULE, "--by", by, "--role", role, "--cards", str(pack)])
        assert answer.exit_code == 0, answer.output


DOCTOR = ("Anna Berg", "pediatric-neurologist")
ENGINEER = ("Ola Dahl", "clinical-informatician")


# Signatures


def test_no_rule_of_this_release_is_signed_so_production_would_be_silent() -> None:
    assert signatures_in_force(read_signoffs(CARDS), load_library(CARDS).contents) == {}
    library = load_library(only_signed=True)
    assert library.silent == {rule.id for rule in library.rules}


def test_two_people_of_two_roles_let_a_rule_speak(pack: Path) -> None:
    signed(pack, DOCTOR)
    assert RULE in load_library(pack, only_signed=True).silent
    signed(pack, ENGINEER)
    library = load_library(pack, only_signed=True)
    assert RULE not in library.silent
    assert [signature.by for signature in library.signatures[RULE]] == ["Anna Berg", "Ola Dahl"]
    assert len(library.silent) == len(library.rules) - 1
    worker = load_library(pack, only_signed=True, checked_hash=library.hash)
    assert (worker.signatures, worker.silent) == (library.signatures, library.silent)
    assert worker.contents == {RULE: library.contents[RULE]}


def test_a_hospital_signs_in_its_own_file(pack: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(pack / "signoff.yaml", tmp_path / "ours.yaml"))
    for by, role in (DOCTOR, ENGINEER):
        answer = CliRunner().invoke(
            main, ["sign-off", RULE, "--by", by, "--role", role, "--cards", str(pack), "--file", str(own)]
        )
        assert answer.exit_code == 0
    assert (pack / "signoff.yaml").read_bytes() == (CARDS / "signoff.yaml").read_bytes()
    assert RULE not in load_library(pack, signoff_file=own, only_signed=True).silent


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ([DOCTOR, ("Bo Ek", DOCTOR[1])], "two of one role"),
        ([ENGINEER, ("Bo Ek", ENGINEER[1])], "nobody clinical"),
        ([DOCTOR], "one alone"),
    ],
)
def test_too_little_review_keeps_a_rule_silent(pack: Path, people: list[tuple[str, str]], why: str) -> None:
    signed(pack, *people)
    assert RULE in load_library(pack, only_signed=True).silent, why


@pytest.mark.parametrize(
    ("by", "role", "said"),
    [
        ("Infant motor CDS project", "pediatrician", "is an author"),
        ("  infant  MOTOR cds project ", "pediatrician", "is an author"),
        ("Anna Berg", "neonatologist", "has signed this content"),
        ("ANNA  BERG", "clinical-informatician", "has signed this content"),
        ("Bo Ek", "janitor", "no role is called this"),
    ],
)
def test_a_signature_is_refused(pack: Path, by: str, role: str, said: str) -> None:
    signed(pack, DOCTOR)
    before = (pack / "signoff.yaml").read_bytes()
    answer = CliRunner().invoke(main, ["sign-off", RULE, "--by", by, "--role", role, "--cards", str(pack)])
    assert answer.exit_code != 0
    assert said in answer.output
    assert (pack / "signoff.yaml").read_bytes() == before


def test_a_rule_that_is_not_there_cannot_be_signed() -> None:
    with pytest.raises(SignOffRefused, match="no rule is called this"):
        sign(read_signoffs(CARDS), read_pack(CARDS), "low-sugar", "Bo Ek", "pediatrician", "2026-11-26")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (FILE, "urgency: critical", "urgency: warning"),
        (FILE, "because: Low", "because: A low"),
        ("criteria.yaml", "movement: [tremor, limb_tremor,", "movement: [tremor,"),
        ("criteria.yaml", "tone_or_posture: [hyperreflexia,", "tone_or_posture: [hyperreflexia, tremor,"),
        ("limits.yaml", "{mg/dL: 47, mmol/L: 2.6}", "{mg/dL: 46, mmol/L: 2.6}"),
        ("workups/correct_metabolic.yaml", "without delay", "now"),
        ("reading.yaml", "laboratory: 72 h", "laboratory: 71 h"),
        ("valuesets/tremor.json", '"status": "draft"', '"status": "draft"'),
        ("documents/leg-tremors.yaml", "Low glucose, calcium or magnesium can", "Low glucose can"),
    ],
)
def test_a_signature_is_void_when_what_it_saw_changes(pack: Path, file: str, old: str, new: str) -> None:
    signed(pack, DOCTOR, ENGINEER)
    spoil(pack, file, old, new)
    speaks = RULE not in load_library(pack, only_signed=True).silent
    assert speaks is (old == new)


def test_a_code_more_or_less_voids_a_signature(pack: Path) -> None:
    signed(pack, DOCTOR, ENGINEER)
    file = pack / "valuesets/tremor.json"
    value_set = json.loads(file.read_text(encoding="utf-8"))
    value_set["compose"]["include"].pop()
    file.write_text(json.dumps(value_set), encoding="utf-8")
    assert RULE in load_library(pack, only_signed=True).silent


def test_what_a_rule_does_not_use_leaves_its_signature(pack: Path) -> None:
    signed(pack, DOCTOR, ENGINEER)
    before = content_hash(read_pack(pack), RULE)
    spoil(pack, "workups/mri_spine.yaml", "365 d", "364 d")
    spoil(pack, FILE, "version: ", "version: 9")
    assert content_hash(read_pack(pack), RULE) == before
    assert RULE not in load_library(pack, only_signed=True).silent


def test_a_signature_written_by_hand_for_an_author_does_not_count(pack: Path) -> None:
    signed(pack, DOCTOR, ENGINEER)
    spoil(pack, "signoff.yaml", "by: Ola Dahl", "by: Infant motor CDS project")
    assert RULE in load_library(pack, only_signed=True).silent


def test_a_sign_off_file_that_is_not_as_its_schema_says_is_refused(pack: Path) -> None:
    spoil(pack, "signoff.yaml", "signatures: {}", "signatures: {x: [{by: A B}]}")
    with pytest.raises(ContentError, match=r"signoff\.yaml"):
        load_library(pack)


# Silent rules

JITTERY = request(observation("jitteriness"), lab("lab_glucose", 1.2, "mmol/L"), birth=NEWBORN)


def test_an_unsigned_rule_runs_and_says_nothing() -> None:
    response = ask(JITTERY, load_library(only_signed=True))
    assert outcome(response, RULE) == "recommended"
    assert response.body["cards"] == []
    waiting = ask(request(observation("jitteriness"), lab("lab_glucose", 1.2, None)), load_library(only_signed=True))
    assert outcome(waiting, RULE) == "data-required"
    assert "notEvaluated" not in report(waiting)


def test_a_signed_rule_speaks_alone_and_says_that_it_is_signed(pack: Path) -> None:
    signed(pack, DOCTOR, ENGINEER)
    cards = ask(JITTERY, load_library(pack, only_signed=True)).body["cards"]
    assert {rule["id"] for card in cards for rule in card["extension"][BASIS]["rules"]} == {RULE}
    assert all("Signed off by reviewers" in card["detail"] and "Draft" not in card["detail"] for card in cards)
    assert {card["source"]["label"] for card in cards} == {"Infant motor workup rules"}


def test_a_signed_reassurance_is_held_back_by_an_unsigned_rule_that_would_speak(pack: Path) -> None:
    calm = "newborn-jitteriness-reassurance"
    for by, role in (DOCTOR, ENGINEER):
        CliRunner().invoke(main, ["sign-off", calm, "--by", by, "--role", role, "--cards", str(pack)])
    rules = load_library(pack, only_signed=True)
    lone = ask(request(observation("jitteriness"), birth=NEWBORN), rules)
    assert [card["source"]["topic"]["code"] for card in lone.body["cards"]] == ["reassurance"]
    facts = [observation(name) for name in ("jitteriness", "ankle_clonus", "forceps_delivery")]
    beside = ask(request(*facts, birth=NEWBORN), rules)
    assert outcome(beside, calm) == "recommended"
    assert beside.body["cards"] == []


# Coverage


def test_every_assertion_feeds_something_or_says_why_not() -> None:
    library = load_library()
    rows = coverage(library)
    assert coverage_mistakes(rows) == []
    assert sum(map(len, rows.values())) == 144
    assert all(rule.draws_on for rule in library.rules)
    action = [row for found in rows.values() for row in found if row.assertion.actionable != "text-only"]
    assert len(action) == 112
    assert [row.assertion.id for row in action if not row.rules] == ["MYO-09"]  # a text, and CONF-09: used as negative


def test_an_assertion_that_loses_its_only_rules_is_named(pack: Path) -> None:
    library = load_library(pack)
    using = [rule for rule in library.rules if "CLONUS-22" in rule.draws_on]
    found = {row.assertion.id: row.rules for row in coverage(library)["ankle-clonus"]}
    assert found["CLONUS-22"] == tuple(rule.id for rule in using) != ()
    for rule in using:
        file = pack / Path(rule.file).relative_to("cards")
        file.write_text(file.read_text(encoding="utf-8").replace("CLONUS-22", "CLONUS-21", 1), encoding="utf-8")
        if "CLONUS-21" in rule.draws_on:
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace("CLONUS-21", "CLONUS-01", 1), encoding="utf-8")
    messages = [mistake.message for mistake in coverage_mistakes(coverage(load_library(pack)))]
    assert messages == ["CLONUS-22 asks for action and no rule draws on it"]


def test_a_text_only_assertion_without_use_needs_a_reason_and_a_used_one_none(pack: Path) -> None:
    spoil(pack, "not_acted_on.yaml", "CLONUS-19:", "CLONUS-25:")
    messages = sorted(mistake.message for mistake in coverage_mistakes(coverage(load_library(pack))))
    assert messages == [
        "CLONUS-19 feeds no rule and no text: give the reason",
        "CLONUS-25 is used now: take its reason away",
    ]


def test_coverage_on_the_command_line_leads_from_assertion_to_rule_and_back() -> None:
    answer = CliRunner().invoke(main, ["coverage", "CLONUS-22", "--json"])
    data = json.loads(answer.output)
    assert [row["id"] for row in data["assertions"]] == ["CLONUS-22"]
    assert "clonus-persistent-or-bilateral" in data["assertions"][0]["rules"]
    assert {rule["id"] for rule in data["rules"]} == set(data["assertions"][0]["rules"])
    files = [ROOT / rule["file"] for rule in data["rules"]]
    assert all(file.is_file() and file.with_suffix(".cases.yaml").is_file() for file in files)
    assert "no document, assertion or rule" in CliRunner().invoke(main, ["coverage", "CLONUS-99"]).output
    assert CliRunner().invoke(main, ["coverage"]).exit_code == 0


# Hazards, retirement


def test_the_hazards_page_is_what_the_rules_say() -> None:
    assert (ROOT / "docs/hazards.md").read_text(encoding="utf-8") == hazards_page(load_library())


@pytest.mark.parametrize("key", ["if_it_speaks_wrongly", "if_it_stays_silent"])
def test_a_hazard_has_to_be_held_by_a_case_that_goes_its_way(pack: Path, key: str) -> None:
    from cds_service.rules.cases import check_cases
    from cds_service.rules.pack import read_cases

    path = pack / FILE
    other = {"if_it_speaks_wrongly": "if_it_stays_silent", "if_it_stays_silent": "if_it_speaks_wrongly"}[key]
    rule = load_library(pack).rule(RULE)
    assert rule is not None
    mine, theirs = getattr(rule, key).held_by, getattr(rule, other).held_by
    path.write_text(path.read_text(encoding="utf-8").replace(mine, theirs), encoding="utf-8")
    files, _ = read_cases(pack)
    _, mistakes = check_cases(load_library(pack), {RULE: files[RULE]})
    assert [m.message for m in mistakes if f"hazards.{key}" in m.message]


def test_a_rule_may_go_only_with_a_word_and_its_name_stays_gone(pack: Path) -> None:
    (pack / FILE).unlink()
    (gone,) = lock_mistakes(load_library(pack), locked(pack), retired(pack))
    assert "name it in retired.yaml with the reason" in gone.message
    text = f"{RULE}: {{version: 1.1.0, on: 2026-11-26, reason: its limits were withdrawn}}\n"
    (pack / "retired.yaml").write_text(text, encoding="utf-8")
    assert lock_mistakes(load_library(pack), locked(pack), retired(pack)) == []
    shutil.copy(CARDS / FILE, pack / FILE)
    (back,) = lock_mistakes(load_library(pack), locked(pack), retired(pack))
    assert back.message == f"{RULE} is retired: a new rule needs a new name"


# Texts and codes


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (FILE, "because: Low glucose", "because: You must know that low glucose", "'must' orders or scolds"),
        (FILE, "because: Low glucose", "because: Alert, low glucose", "'Alert' orders or scolds"),
        (FILE, "because: Low glucose", "because: Failure to see it, low glucose", "'Failure to' orders or scolds"),
        (FILE, "because: Low glucose", "because: Below 47, low glucose", "the number '47,' has no unit"),
        ("workups/eeg.yaml", "Consider an EEG soon.", "Consider diazepam and an EEG.", "'diazepam' is a medicine"),
        ("guidance.yaml", "Being fussy late in the day is usual.", "You must rest.", "'must' orders or scolds"),
    ],
)
def test_a_text_that_breaks_a_rule_of_wording_is_named(pack: Path, file: str, old: str, new: str, said: str) -> None:
    spoil(pack, file, old, new)
    parsed = read_pack(pack)
    messages = [str(mistake) for mistake in text_mistakes(parsed, read_runs(pack), medicines_of(parsed))]
    assert len(messages) == 1
    assert said in messages[0]
    assert messages[0].startswith(f"cards/{file}:")


def test_eight_words_of_a_document_in_a_row_are_noticed(pack: Path) -> None:
    """A made-up document of one run: the true ones are not in the repository."""
    run = "one two three four five six seven eight"
    runs = {"words": 8, "runs": {"made-up": run_of(run)}}
    spoil(pack, FILE, "because: Low glucose", "because: Zero One, two three 'four' five - six seven eight nine glucose")
    messages = [mistake.message for mistake in text_mistakes(read_pack(pack), runs, frozenset())]
    assert messages == [f"{run!r} stands so in the document made-up: say it in our own words"]


def test_the_runs_are_those_of_the_five_documents_and_our_texts_hold_none() -> None:
    runs = read_runs(CARDS)
    slugs = {path.stem for path in (CARDS / "documents").glob("*.yaml")}
    assert set(runs["runs"]) == slugs
    assert all(len(joined.split()) > 300 for joined in runs["runs"].values())
    pack = read_pack(CARDS)
    assert text_mistakes(pack, runs, medicines_of(pack)) == []


def test_a_document_that_is_at_hand_is_the_one_whose_runs_we_keep() -> None:
    """One passage of one document, quoted here because eight words prove that the marks are made as they are read."""
    passage = "Tremors are persistent beyond 6 months of age They"
    runs = read_runs(CARDS)["runs"]["leg-tremors"].split()
    words = plain_words(passage)
    assert run_of(" ".join(words[:8])) in runs


@pytest.mark.parametrize(
    ("value_set", "edit", "said"),
    [
        ("tremor", ("26079004", "26079005"), "form or check digit is wrong"),
        ("lab-glucose", ("2345-7", "2345-8"), "form or check digit is wrong"),
        ("limb-tremor", ("HP:0200085", "HP:0001337"), "keep one"),
        ("tremor", ("R25.1", "R25"), "is a parent of"),
        ("tremor", ("VERIFIED", "SEEN"), "does not say where it was verified"),
        ("tremor", ("http://snomed.info/sct", "http://snomed.org"), "no code system that the service understands"),
    ],
)
def test_a_code_list_that_is_wrong_is_named(pack: Path, value_set: str, edit: tuple[str, str], said: str) -> None:
    assert code_mistakes(read_pack(pack)) == []
    spoil(pack, f"valuesets/{value_set}.json", *edit)
    assert any(said in mistake.message for mistake in code_mistakes(read_pack(pack)))
