"""The knowledge pack refuses mistakes, each with its file and line; the lock holds versions to content."""

from __future__ import annotations

from pathlib import Path

import pytest
from packs import CARDS, spoil

from cds_service.errors import ContentError
from cds_service.knowledge.card_texts import card_problems
from cds_service.knowledge.draft_orders import order_problems
from cds_service.rules.governance import check, lock_mistakes, lock_text, locked
from cds_service.rules.library import load_library
from cds_service.rules.mutate import Trial, describe
from cds_service.rules.pack import read_cases, read_pack
from cds_service.rules.yaml_source import parse

RULE = "rules/leg-tremors/low-glucose-with-movement.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (RULE, "lab: glucose", "lab: glukose", "no analyte 'glukose'"),
        (RULE, "low_glucose and movement", "low_glucos and movement", "no criterion is called 'low_glucos'"),
        (RULE, "low_glucose and movement", "low_glucose xor movement", "unexpected 'xor'"),
        (RULE, "TREMOR-12", "TREMOR-99", "no document has an assertion 'TREMOR-99'"),
        (RULE, "workup: correct_metabolic", "workup: correct_metabolism", "no workup is called"),
        (RULE, "urgency: critical", "urgency: hard-stop", "'hard-stop' is not one of"),
        (RULE, "status: draft", "status: no", "may mean true or false"),
        (RULE, "title: Low", "titel: Low", "'titel'"),
        (RULE, "basis: inferred", "basis: outside", "'citation' is a required property"),
        (RULE, "status: draft", "status: draft\nstatus: draft", "stands twice"),
        (RULE, "population: infant", "population: adult", "no shared criterion is called 'adult'"),
        (RULE, "population: infant", "population: low_glucose", "no shared criterion is called 'low_glucose'"),
        (RULE, "because: Low", "because: &x Low", "anchors and aliases"),
        (RULE, "id: low-glucose-with-movement", "id: low-sugar", "the id is not the file's name"),
        (RULE, "criteria:\n", "criteria:\n  never_used: {finding: tremor}\n", "is used in no sentence"),
        ("criteria.yaml", "clonus: {finding: ankle_clonus}", "clonus: {finding: ankle_klonus}", "'ankle_klonus'"),
        ("criteria.yaml", "severity: severe", "severity: terrible", "severity has no value 'terrible'"),
        ("criteria.yaml", "not movement_besides_jitteriness", "not movement_beside", "no criterion above is called"),
        ("criteria.yaml", "seizure_like: [seizure,", "seizure_like: [seizure_like,", "holds itself"),
        ("limits.yaml", "{mg/dL: 47, mmol/L: 2.6}", "{mg/dl: 47}", "unit family or concept"),
        ("limits.yaml", "{mg/dL: 47, mmol/L: 2.6}", "{mg/dL: 47}", "in every unit family"),
        ("limits.yaml", "to: 48 h", "to: 72 h", "it overlaps with"),
        ("workups/eeg.yaml", 'code: "54550000"', 'code: "54550001"', "not in the value set it names"),
        ("workups/eeg.yaml", "family: eeg", "family: ecg", "no family 'ecg'"),
        ("workups/eeg.yaml", "[eeg, eeg_routine", "[eeg, eeg_rutine", "no value set is called 'eeg_rutine'"),
        ("families.yaml", "override: [action-completed,", "override: [action-done,", "has no display"),
        ("reading.yaml", "stale_after: 90 d", "stale_after: 90 days", "does not match"),
        ("reading.yaml", "[myoclonus, myoclonic_seizure, twitching]", "[myoclonus, jerking]", "'jerking'"),
        ("documents/dystonia.yaml", "actionable: \"yes\"", "actionable: yes", "may mean true or false"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_and_line(pack: Path, file: str, old: str, new: str, said: str) -> None:
    line = spoil(pack, file, old, new)
    with pytest.raises(ContentError) as refused:
        load_library(pack)
    told = [mistake for mistake in refused.value.mistakes if said in mistake.message]
    assert told, str(refused.value)
    assert told[0].file == f"cards/{file}"
    nearest = 1 if "required property" in said else line  # a key that is not there has only the file's line
    assert abs(told[0].line - nearest) <= 2, f"said line {told[0].line}, it is {line}"


def test_a_pack_that_was_checked_is_read_alike_without_its_schemas(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = load_library(pack)
    held: list[str] = []
    monkeypatch.setattr("cds_service.rules.pack.schema_mistakes", lambda source, _: held.append(source.file) or [])
    again = load_library(pack, checked_hash=checked.hash)
    assert held == []
    assert (again.hash, again.contents) == (checked.hash, {}), "nothing is signed, so no content is asked for"
    assert [rule.id for rule in again.rules] == [rule.id for rule in checked.rules]


def test_signatures_that_have_become_unreadable_since_are_refused(pack: Path) -> None:
    """They are in no hash: nobody's card depends on them."""
    before = load_library(pack).hash
    spoil(pack, "signoff.yaml", "signatures:", "signatuers:")
    with pytest.raises(ContentError, match="signatuers"):
        load_library(pack, checked_hash=before)


@pytest.mark.parametrize(("file", "old", "new", "said"), [
    (RULE, "title: Low", "titel: Low", "'titel'"), ("limits.yaml", "to: 48 h", "to: 72 h", "it overlaps with"),
])  # fmt: skip
def test_a_pack_that_changed_since_it_was_checked_is_checked_again(
    pack: Path, file: str, old: str, new: str, said: str
) -> None:
    before = load_library(pack).hash
    spoil(pack, file, old, new)
    with pytest.raises(ContentError, match=said):
        load_library(pack, checked_hash=before)


def test_every_mistake_is_told_at_once(pack: Path) -> None:
    spoil(pack, RULE, "lab: glucose", "lab: glukose")
    spoil(pack, "rules/dystonia/dystonia-cause-testing.yaml", "DYST-03", "DYST-99")
    with pytest.raises(ContentError) as refused:
        load_library(pack)
    assert {mistake.file for mistake in refused.value.mistakes} == {
        f"cards/{RULE}", "cards/rules/dystonia/dystonia-cause-testing.yaml",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: !!python/object:os.system x", 1, "tags"),
        ("a: 1\nb: !!str 5", 2, "tags"),
        ("a: !!set {b: 1}", 1, "tags"),
        ("a: 1\na: 2", 2, "stands twice"),
        ("a: [*x]", 1, "anchors and aliases"),
        ("a:\n  &x b: 1", 2, "a key is a plain word"),
        ("a: 1\n? [b]\n: 2", 2, "a key is a plain word"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("\ta: 1", 1, "a tab"),
        ("a: on", 1, "true or false"),
        ("a:", 1, "an empty value"),
        ("a: 1\nb: 'x", 2, "not YAML"),
        ("a: 1\nb: \x01", 2, "U+0001"),
        ("- " * 20_000 + "x", 1, "without end"),
        ("", 1, "the file is empty"),
        ("# nothing else", 1, "the file is empty"),
    ],
)
def test_yaml_surprises_are_refused(text: str, line: int, said: str) -> None:
    _, mistakes = parse("x.yaml", text)
    assert line in [mistake.line for mistake in mistakes if said in mistake.message], mistakes


def test_yaml_keeps_text_as_text() -> None:
    source, mistakes = parse(
        "x.yaml", 'time: 12:30\ncode: "0123"\nnumber: 47\ndecimal: 2.60\nflag: true\nquoted: "no"\n'
    )
    assert not mistakes
    assert source.data == {"time": "12:30", "code": "0123", "number": 47, "decimal": 2.6, "flag": True, "quoted": "no"}


def test_the_pack_is_without_a_mistake_and_every_rule_has_its_cases() -> None:
    report = check(CARDS, order_problems, card_problems)
    assert [str(mistake) for mistake in report.mistakes] == []
    assert report.counts["rules"] >= 64
    assert report.counts["cases"] > 8000


def test_changing_a_rule_without_a_new_version_is_noticed(pack: Path) -> None:
    spoil(pack, RULE, "is: low", "is: abnormal")
    library = load_library(pack)
    (mistake,) = lock_mistakes(library, locked(pack), {})
    assert "raise the version" in mistake.message
    assert lock_text(library, locked(pack))[1] == [mistake]
    spoil(pack, RULE, "version: 1.1.0", "version: 1.2.0")
    raised = load_library(pack)
    assert "not locked" in lock_mistakes(raised, locked(pack), {})[0].message
    assert lock_text(raised, locked(pack))[1] == []


def test_a_rule_that_went_missing_is_noticed(pack: Path) -> None:
    (pack / RULE).unlink()
    found = [mistake.message for mistake in check(pack, order_problems, card_problems).mistakes]
    assert any("locked but there is no such rule" in message for message in found)
    assert any("no rule of this name" in message for message in found)


def test_a_wrong_rule_fails_its_cases(pack: Path) -> None:
    spoil(pack, RULE, "is: low", "is: high")
    spoil(pack, RULE, "version: 1.1.0", "version: 1.2.0")
    found = [str(mistake) for mistake in check(pack, order_problems, card_problems).mistakes]
    assert any("low-glucose-with-movement.cases.yaml" in text and "expected recommended" in text for text in found)


def test_the_mutant_hunt_finds_what_no_case_tells_apart(pack: Path) -> None:
    """A rule with one case only: most of its mutants survive, and are told with file and line."""
    cases = pack / RULE.replace(".yaml", ".cases.yaml")
    text = cases.read_text(encoding="utf-8")
    head = text[: text.index("cases:")]
    few = "  - {case: a, born: -100 d, expect: not-applicable}\n" * 5
    cases.write_text(f"{head}cases:\n{few}", encoding="utf-8")
    files, limit_cases = read_cases(pack)
    trial = Trial(read_pack(pack), {"low-glucose-with-movement": files["low-glucose-with-movement"]}, limit_cases)
    _, survivors = trial.survivors()
    told = describe(mutant for mutant in survivors if mutant.key == "low-glucose-with-movement")
    assert any(f"cards/{RULE}:" in line and "without workup: correct_metabolic" in line for line in told)


def test_unsigned_rules_are_drafts() -> None:
    assert {rule.status for rule in load_library().rules} == {"draft"}
