"""The pages of rules, code lists and documents: what the files say, and nothing else."""

from __future__ import annotations

import csv
import io
import re
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from infants import library
from services import opened

from cds_service.errors import ContentError
from cds_service.hooks.cards import BASIS
from cds_service.knowledge import rule_proof
from cds_service.knowledge.rule_proof import proof_of, recorded_mutants
from cds_service.rules.coverage import coverage
from cds_service.rules.governance import retired
from cds_service.rules.history import Change, history_mistakes, read_history
from cds_service.rules.pack import packaged_cards, read_single
from cds_service.rules.readable import Readable

RULES = library().rules


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return opened(tmp_path_factory.mktemp("rules"))


@pytest.fixture
def pages(app: Flask) -> FlaskClient:
    return app.test_client()


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_s_page_says_what_is_executed(rule: object, pages: FlaskClient) -> None:
    answer = pages.get(f"/rules/{rule.id}")  # type: ignore[attr-defined]
    assert answer.status_code == 200
    words = text_of(answer.text)
    found = next(r for r in RULES if r is rule)
    readable = Readable(library().reading, library().groups)
    for item in found.recommend:
        assert f"{library().workups[item.workup].label} ({item.urgency.indicator})" in words
    for drawn in found.draws_on:
        assert f'id="{drawn}"' in answer.text
    for node in questions(readable.tree(found.recommend_when, found.criteria)):
        assert " ".join(node.split()) in words
    for _, band in readable.limits(found):
        assert band.id in words
    for limitation in found.limitations:
        assert " ".join(limitation.split()) in words
    assert "; 0 of them disagree now" in words


def questions(node: object) -> list[str]:
    parts = [text for part in node.parts for text in questions(part)]  # type: ignore[attr-defined]
    return parts or [node.words]  # type: ignore[attr-defined]


def test_the_words_of_each_kind_of_question() -> None:
    readable = Readable(library().reading, library().groups)
    said = {name: readable.words(criterion) for rule in RULES for name, criterion in rule.criteria.items()}
    assert said["infant"] == "age below 24 months"
    assert said["newborn_weeks"] == "corrected age at most 28 days"
    assert said["cerebral_palsy_known"] == "cerebral palsy, verification confirmed"
    words = " | ".join(said.values())
    for part in (
        "beats above 10",
        "only in sleep",
        "first seen before 6 months",
        "was done",
        "takes ",
        " low",
        "every ",
    ):
        assert part in words, part


def test_the_list_is_narrowed_by_its_url_and_has_twins(pages: FlaskClient) -> None:
    rows = pages.get("/rules?document=dystonia&format=json").get_json()["rules"]
    assert rows
    assert {row["id"] for row in rows} == {rule.id for rule in RULES if rule.document == "dystonia"}
    table = list(csv.DictReader(io.StringIO(pages.get("/rules?workups=ct_head&format=csv").text)))
    assert [row["id"] for row in table] == [
        rule.id for rule in RULES if any(item.workup == "ct_head" for item in rule.recommend)
    ]
    assert "No rule is like that" in pages.get("/rules?q=nothing+like+it").text
    first = pages.get("/rules?sort=-id&format=json").get_json()["rules"][0]["id"]
    assert first == max(rule.id for rule in RULES)


def test_a_code_list_names_where_each_code_was_verified(pages: FlaskClient) -> None:
    rows = pages.get("/rules/clonus-persistent-or-bilateral/codes/ankle_clonus?format=json").get_json()["ankle_clonus"]
    assert {"39055007"} <= {row["code"] for row in rows}
    assert all(row["seen_in"].startswith(("VERIFIED", "PROJECT: defined")) for row in rows)


@pytest.mark.parametrize(
    "path", ["/rules/none", "/rules/none/codes/ankle_clonus", "/rules/clonus-persistent-or-bilateral/codes/fever",
             "/rules/clonus-persistent-or-bilateral/codes/..%2fx", "/documents/none", "/guidance/none"]
)  # fmt: skip
def test_what_is_not_there_is_not_found(path: str, pages: FlaskClient) -> None:
    assert pages.get(path).status_code == 404


def test_each_document_shows_what_each_assertion_feeds_or_why_nothing(pages: FlaskClient) -> None:
    titles = {rule.id: rule.title for rule in RULES}
    for slug, rows in coverage(library()).items():
        page = pages.get(f"/documents/{slug}").text
        for row in rows:
            part = text_of(page.split(f'id="{row.assertion.id}"')[1].split("</section>")[0])
            assert " ".join(row.assertion.says.split()) in part
            for rule in row.rules:
                assert " ".join(titles[rule].split()) in part
            if not row.rules and not row.texts:
                assert row.reason
                assert " ".join(row.reason.split()) in part


def test_a_case_that_fails_is_shown(
    app: Flask, pages: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rule_proof, "disagreement", lambda case, evaluation: "expected a <b>wonder</b>")
    fresh = opened(tmp_path).test_client()
    page = fresh.get(f"/rules/{RULES[0].id}").text
    assert "✗ expected a &lt;b&gt;wonder&lt;/b&gt;" in page
    assert "; 0 of them disagree now" not in page


def test_a_branch_for_each_set_of_workups() -> None:
    rule = next(rule for rule in RULES if any(item.when is not None for item in rule.recommend))
    root = packaged_cards()
    cases, _ = read_single(root, root / "rules" / rule.document / f"{rule.id}.cases.yaml", "cases")
    proof = proof_of(rule, cases, library(), "https://cds.example")
    assert len(proof.branches) > 1
    assert len({tuple(sorted(branch.workups.items())) for branch in proof.branches}) == len(proof.branches)
    for branch in proof.branches:
        given = {w["id"] for card in branch.cards for w in card["extension"][BASIS]["workups"]}
        assert given <= set(branch.workups)


def test_the_mutants_of_each_rule_s_content_are_on_record() -> None:
    record = recorded_mutants(packaged_cards())
    for rule in RULES:
        assert record[rule.id]["content"] == rule.sha256
        assert record[rule.id]["mutants"] > 0
        assert record[rule.id]["survive"] == 0


# The history


def test_a_version_without_its_line_in_the_history_is_a_mistake() -> None:
    history = dict(read_history(packaged_cards()))
    gone = set(retired(packaged_cards()))
    assert history_mistakes(library(), history, gone) == []
    changed = next(rule for rule in RULES if rule.version != "1.0.0")
    last = history.pop(changed.id)
    assert [m.message for m in history_mistakes(library(), history, gone)] == [
        f"{changed.id}: say what changed in version {changed.version}"
    ]
    history[changed.id] = [*last, Change("9.0.0", "2026-11-26", "more than there is")]
    history["no-such-rule"] = [Change("1.1.0", "2026-11-26", "about nothing")]
    assert [m.message for m in history_mistakes(library(), history, gone)] == [
        f"{changed.id}: say what changed in version {changed.version}",
        "no rule is or was called 'no-such-rule'",
    ]


def test_a_history_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = packaged_cards()
    (tmp_path / "schema").mkdir()
    schema = (root / "schema" / "history.schema.json").read_text(encoding="utf-8")
    (tmp_path / "schema" / "history.schema.json").write_text(schema)
    (tmp_path / "history.yaml").write_text('a-rule:\n  - {version: one, "on": "2026-11-26", change: "x"}\n')
    with pytest.raises(ContentError, match="version"):
        read_history(tmp_path)
