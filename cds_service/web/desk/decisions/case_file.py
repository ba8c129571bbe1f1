"""A decision as a test: the text to append to a rule's cases file, with what to do with it."""

from __future__ import annotations

from typing import NamedTuple

from cds_service.hooks.respond import HookResponse
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome
from cds_service.rules.written_case import CannotBeWritten, write_case

UNKNOWN_RULE = "This rule was not evaluated in this decision."
FAILED = "The rule failed, which is a defect of the software: a case would show nothing of the rule."


class CaseFile(NamedTuple):
    """The case of one rule. ``file``: the cases file that it belongs to; without ``text``, ``problem`` says why."""

    rule: str
    file: str
    text: str
    problem: str


def case_file(rule_id: str, response: HookResponse, library: RuleLibrary) -> CaseFile:
    """What the rule says of this infant, as a case without the infant."""
    evaluation = next((e for e in response.evaluations if e.rule.id == rule_id), None)
    if evaluation is None:
        return CaseFile(rule_id, "", "", UNKNOWN_RULE)
    file = f"{evaluation.rule.file.removesuffix('.yaml')}.cases.yaml"
    if evaluation.outcome is Outcome.INTERNAL_ERROR:
        return CaseFile(rule_id, file, "", FAILED)
    try:
        written = write_case(evaluation, library)
    except CannotBeWritten as problem:
        return CaseFile(rule_id, file, "", f"It cannot be written: {problem}.")
    return CaseFile(rule_id, file, written.text, "")


def first_choice(response: HookResponse) -> str:
    """The rule of which one would most likely make a case: one that spoke, else the first that was not beside the
    point; empty when no rule was evaluated."""
    order = [outcome.value for outcome in Outcome]
    ranked = sorted(
        response.evaluations, key=lambda e: (e.outcome is Outcome.NOT_APPLICABLE, order.index(e.outcome.value))
    )
    return ranked[0].rule.id if ranked else ""
