"""What each rule says and what proves it, generated from the files that are executed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from flask import Blueprint, Response, abort, render_template, url_for

from cds_service.hooks.discovery import prefetch_templates
from cds_service.knowledge.rule_proof import Proof, proof_of, recorded_mutants
from cds_service.rules.history import read_history
from cds_service.rules.pack import packaged_cards, read_single
from cds_service.rules.readable import Readable
from cds_service.rules.rule import Rule
from cds_service.store.analytics import totals
from cds_service.store.card_answers import answers
from cds_service.web.desk.card_view import card_view
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.periods import weeks_before
from cds_service.web.desk.roles import Role, may, requires
from cds_service.web.desk.rules.governing import governing_of
from cds_service.web.desk.tables import Column, Table, table_answer

USE_WEEKS = 4
COLUMNS = (
    Column("title", "Rule", link="page"), Column("document", "Document", facet=True),
    Column("workups", "Suggests", facet=True), Column("urgency", "Urgency", facet=True),
    Column("basis", "Basis", facet=True), Column("status", "Status", facet=True),
    Column("signed", "Signed", facet=True), Column("version", "Version"), Column("id", "Id"),
)  # fmt: skip
USE = (Column("fired", "Fired", number=True), Column("overridden", "Overridden", number=True))


def rules_blueprint(desk: Desk) -> Blueprint:
    """The list of rules and a page per rule: where a card's links lead."""
    pages = Blueprint("rules", __name__)
    library = desk.library
    root = library.root if library.root is not None else packaged_cards()
    history, mutants = read_history(root), recorded_mutants(root)
    readable = Readable(library.reading, library.groups)

    @cache
    def proof(rule_id: str) -> Proof:
        rule = library.rule(rule_id)
        if rule is None:
            raise KeyError(rule_id)
        cases, _ = read_single(root, root / "rules" / rule.document / f"{rule_id}.cases.yaml", "cases")
        return proof_of(rule, cases if cases.data else None, library, desk.settings.base_url)

    @cache
    def value_set(name: str) -> list[dict[str, str]]:
        return codes_in((root / "valuesets" / f"{name.replace('_', '-')}.json").read_text(encoding="utf-8"))

    @pages.get("/rules")
    @requires(Role.PUBLIC)
    def rules() -> Response | str:
        use = _use(desk) if may(Role.VIEWER) else {}
        stops = desk.rules.stops
        rows = [_row(rule, desk.library.signatures, stops, use) for rule in library.rules]
        columns = COLUMNS + USE if may(Role.VIEWER) else COLUMNS
        table = Table("rules", "Rules", columns, rows, empty="No rule is like that.")
        return table_answer(table, "rules/rules.html", weeks=USE_WEEKS)

    @pages.get("/rules/<rule_id>")
    @requires(Role.PUBLIC)
    def rule(rule_id: str) -> str | Response:
        found = library.rule(rule_id)
        if found is None:
            abort(404)
        tried = mutants.get(rule_id)
        return render_template(
            "rules/rule.html", rule=found, library=library,
            when=readable.tree(found.recommend_when, found.criteria),
            unless=readable.tree(found.unless, found.criteria) if found.unless else None,
            population=readable.words(found.criteria[found.population]),
            recommended=[
                (library.workups[item.workup], item.urgency.indicator, item.cites,
                 readable.tree(item.when, found.criteria) if item.when else None)
                for item in found.recommend
            ],
            concepts=[(name, display, len(value_set(name))) for name, display in readable.concepts(found).items()],
            limits=readable.limits(found), keys=prefetch_templates(library),
            assertions=[library.assertions[drawn] for drawn in found.draws_on],
            conflicts=[(name, library.conflicts[name]) for name in found.conflicts],
            signatures=desk.library.signatures.get(rule_id, ()),
            silent=rule_id in desk.library.silent, govern=governing_of(desk, found),
            proof=proof(rule_id), drawn=card_view, history=history.get(rule_id, ()),
            mutants=tried if tried is not None and tried["content"] == found.sha256 else None,
        )  # fmt: skip

    @pages.get("/rules/<rule_id>/codes/<name>")
    @requires(Role.PUBLIC)
    def codes(rule_id: str, name: str) -> str | Response:
        found = library.rule(rule_id)
        concept = library.reading.vocabulary.concepts.get(name)
        if found is None or concept is None or name not in readable.concepts(found):
            abort(404)
        columns = (
            Column("code", "Code"), Column("display", "Display"), Column("system", "System", facet=True),
            Column("seen_in", "Verified in"),
        )  # fmt: skip
        table = Table(name, f"Codes for {concept.display}", columns, value_set(name))
        return table_answer(table, "rules/codes.html", rule=found, concept=concept)

    return pages


def _row(
    rule: Rule, signed: Mapping[str, Sequence[object]], stops: Collection[str], use: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    fired, overridden = use.get(rule.id, (0, 0))
    return {
        "title": rule.title, "page": url_for("rules.rule", rule_id=rule.id), "document": rule.document,
        "workups": list(dict.fromkeys(item.workup for item in rule.recommend)),
        "urgency": list(dict.fromkeys(item.urgency.indicator for item in rule.recommend)),
        "basis": rule.basis, "status": "stopped" if rule.id in stops else rule.status,
        "signed": "signed" if rule.id in signed else "draft",
        "version": rule.version, "id": rule.id, "fired": fired, "overridden": overridden,
    }  # fmt: skip


def codes_in(text: str) -> list[dict[str, str]]:
    """The codes of a FHIR ValueSet, each with the source in which it was verified."""
    return [
        {
            "system": include["system"], "code": concept["code"], "display": concept["display"],
            "seen_in": next((item["valueString"] for item in concept.get("extension", ())), ""),
        }
        for include in json.loads(text)["compose"]["include"] for concept in include["concept"]
    ]  # fmt: skip


def _use(desk: Desk) -> dict[str, tuple[int, int]]:
    """Rule id → how often it stood on a card in the last weeks, and how often such a card was overridden."""
    since, until = weeks_before(desk.now(), USE_WEEKS)
    fired: dict[str, int] = {}
    for (rule, _), count in totals(desk.database, since, until).of("shown").items():
        fired[rule] = fired.get(rule, 0) + count
    said = answers(desk.database, since, until).rules
    return {rule: (count, said[rule].overridden if rule in said else 0) for rule, count in fired.items()}
