"""From evaluations to recommendations: one per workup, with the highest urgency and all who ask for it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from cds_service.record.truth import TRUE
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.rule import Outcome, Urgency, Workup

REASSURANCE = "reassurance"


class Recommendation(NamedTuple):
    """A workup that is suggested, how soon, by which evaluations, and what is not known of its being done."""

    workup: Workup
    urgency: Urgency
    asked_by: tuple[Evaluation, ...]
    not_known: tuple[str, ...]


def recommend(evaluations: Iterable[Evaluation], silent: Container[str] = ()) -> list[Recommendation]:
    """Every workup that a rule asks for and that is not taken care of, once.

    Reassurance is given only when nothing else is suggested and nothing more than info is under way or in doubt: a
    scan that is ordered for a warning is no reason to reassure, nor is a rule that failed or waits for data. What
    info rules wait for is named beside it. The ``silent`` rules put nothing on a card, but what they would suggest
    holds reassurance back: an unsigned rule may be right.
    """
    merged: dict[str, Recommendation] = {}
    held_back = False
    waited_for: list[str] = []
    for evaluation in evaluations:
        held_back = held_back or _holds_back(evaluation, evaluation.rule.id in silent)
        if evaluation.outcome is Outcome.DATA_REQUIRED:
            waited_for += evaluation.missing
        if evaluation.rule.id in silent:
            continue
        for item in evaluation.suggested:
            if item.taken_care_of.truth is TRUE:
                continue
            known = merged.get(item.workup.id)
            if known is None:
                merged[item.workup.id] = Recommendation(
                    item.workup, item.urgency, (evaluation,), item.taken_care_of.missing
                )
                continue
            asked_by = known.asked_by if evaluation in known.asked_by else (*known.asked_by, evaluation)
            missing = tuple(dict.fromkeys(known.not_known + item.taken_care_of.missing))
            merged[item.workup.id] = Recommendation(item.workup, max(known.urgency, item.urgency), asked_by, missing)
    _yield(merged)
    others = [item for item in merged.values() if item.workup.family != REASSURANCE]
    if others or held_back:
        return others
    return [item._replace(not_known=tuple(dict.fromkeys((*item.not_known, *waited_for)))) for item in merged.values()]


def withheld_by(evaluations: Iterable[Evaluation], silent: Container[str] = ()) -> list[Evaluation]:
    """The evaluations that leave no room for reassurance: each suggests something else, or holds it back."""
    return [
        e for e in evaluations
        if _holds_back(e, e.rule.id in silent)
        or any(item.workup.family != REASSURANCE and item.taken_care_of.truth is not TRUE for item in e.suggested)
    ]  # fmt: skip


def _yield(merged: dict[str, Recommendation]) -> None:
    """Let each workup that yields to one which is suggested too give it its place, its urgency and its reasons."""
    for item in list(merged.values()):
        other = merged.get(item.workup.yields_to)
        if other is not None:
            del merged[item.workup.id]
            asked_by = tuple(dict.fromkeys((*other.asked_by, *item.asked_by)))
            merged[other.workup.id] = other._replace(urgency=max(other.urgency, item.urgency), asked_by=asked_by)


def _holds_back(evaluation: Evaluation, silent: bool) -> bool:
    """Whether what this rule says, would say or cannot say leaves no room for reassurance."""
    asked = [item for item in evaluation.rule.recommend if item.workup != REASSURANCE]
    if not asked:
        return False
    if evaluation.outcome is Outcome.INTERNAL_ERROR:
        return True
    if evaluation.outcome is Outcome.DATA_REQUIRED:
        return any(item.urgency is not Urgency.INFO for item in asked)
    return any(
        silent or (item.urgency is not Urgency.INFO and item.taken_care_of.truth is TRUE)
        for item in evaluation.suggested
    )
