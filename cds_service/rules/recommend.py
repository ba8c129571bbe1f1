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

    Reassurance is given only when nothing else is suggested, and no rule that might suggest something failed or
    waits for data: it rests on what the others do not say. Nor while something more than info is under way: a scan
    that is ordered for a warning is no reason to reassure. The ``silent`` rules put nothing on a card, but what
    they would suggest holds reassurance back: an unsigned rule may be right.
    """
    merged: dict[str, Recommendation] = {}
    in_doubt = False
    for evaluation in evaluations:
        if evaluation.outcome in (Outcome.INTERNAL_ERROR, Outcome.DATA_REQUIRED):
            in_doubt = in_doubt or any(item.workup != REASSURANCE for item in evaluation.rule.recommend)
        if evaluation.rule.id in silent:
            in_doubt = in_doubt or any(item.workup.id != REASSURANCE for item in evaluation.suggested)
            continue
        for item in evaluation.suggested:
            if item.taken_care_of.truth is TRUE:
                in_doubt = in_doubt or item.urgency is not Urgency.INFO
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
    others = [item for item in merged.values() if item.workup.family != REASSURANCE]
    if others or in_doubt:
        return others
    return list(merged.values())
