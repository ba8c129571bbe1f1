"""Forms about one rule: stop it, let it speak again, sign it. Each leaves a row in the access log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for

from cds_service.errors import SignOffRefused
from cds_service.record.times import iso, moment
from cds_service.rules.pack import packaged_cards
from cds_service.rules.rule import Rule
from cds_service.rules.signoff import Signature, add_signature
from cds_service.rules.signoff_file import change_signoffs
from cds_service.store.database import Database
from cds_service.store.stops import lift, reason_problem, stop
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires, user
from cds_service.web.desk.rules.governing import CHECKLIST, evidence_of, governing_of
from cds_service.web.logs import logger

UNFIT, MEANWHILE = 422, 409
Change = Callable[[Database, str, str, str, str], bool]


def add_governing(pages: Blueprint, desk: Desk) -> None:
    """The three forms of a rule's page."""

    @pages.post("/rules/<rule_id>/stop")
    @requires(Role.REVIEWER)
    def stop_rule(rule_id: str) -> Any:
        return _changed(desk, rule_id, stop, "It was stopped already, perhaps by somebody else just now.")

    @pages.post("/rules/<rule_id>/lift")
    @requires(Role.ADMIN)
    def lift_stop(rule_id: str) -> Any:
        return _changed(desk, rule_id, lift, "It is not stopped. Nothing was changed.")

    @pages.post("/rules/<rule_id>/sign")
    @requires(Role.REVIEWER)
    def sign_rule(rule_id: str) -> Any:
        rule, form = _rule(desk, rule_id), request.form
        content = desk.library.contents.get(rule_id, "")
        if form.get("content") != content:
            return _refused(desk, rule, "The rule is not as you saw it: it was changed meanwhile. Nothing was signed. "
                            "Read it again, then sign.", MEANWHILE)  # fmt: skip
        open_ones = [words for key, words in CHECKLIST.items() if f"check-{key}" not in form]
        if open_ones:
            return _refused(desk, rule, f"Nothing was signed. Not ticked: {' '.join(open_ones)}")
        governing = governing_of(desk, rule)
        file = desk.settings.signoff_file
        if governing.why_not or file is None:
            return _refused(desk, rule, f"Nothing was signed. {governing.why_not}")
        signature = Signature(
            user().name, form.get("role", ""), desk.now().date().isoformat(), rule.version, content,
            evidence_of(desk, rule_id),
        )  # fmt: skip
        root = desk.library.root if desk.library.root is not None else packaged_cards()
        try:
            change_signoffs(root, file, lambda known: add_signature(known, rule_id, signature))
        except SignOffRefused as problem:
            return _refused(desk, rule, f"Nothing was signed. {problem}")
        logger.warning("rule-signed", rule=rule_id)
        desk.rules.look()
        return _back(rule_id)


def _changed(desk: Desk, rule_id: str, change: Change, otherwise: str) -> Any:
    rule = _rule(desk, rule_id)
    reason = " ".join(request.form.get("reason", "").split())
    problem = reason_problem(reason)
    if problem:
        return _refused(desk, rule, f"{problem} Nothing was changed.", UNFIT, reason)
    if not change(desk.database, rule_id, user().name, reason, iso(moment(desk.now()))):
        return _refused(desk, rule, otherwise, MEANWHILE)
    desk.rules.look()
    return _back(rule_id)


def _rule(desk: Desk, rule_id: str) -> Rule:
    found = desk.library.rule(rule_id)
    if found is None:
        abort(404)
    return found


def _back(rule_id: str) -> Any:
    return redirect(url_for("rules.rule", rule_id=rule_id, _anchor="govern"), 303)


def _refused(desk: Desk, rule: Rule, problem: str, status: int = UNFIT, reason: str = "") -> tuple[str, int]:
    """The forms again with what is wrong, and with what was typed."""
    told = render_template("rules/governing.html", rule=rule, govern=governing_of(desk, rule), problem=problem,
                           reason=reason, entered=request.form)  # fmt: skip
    return told, status
