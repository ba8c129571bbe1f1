"""Why a rule is silent, and what would make it speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cds_service.hooks.cards import BASIS
from cds_service.hooks.respond import EVALUATION, HookResponse
from cds_service.record.truth import FALSE, UNKNOWN
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.recommend import REASSURANCE, withheld_by
from cds_service.rules.rule import Outcome
from cds_service.rules.smallest_changes import Change, failing, smallest_changes
from cds_service.web.desk.decisions.nearby import Nearby
from cds_service.web.desk.trace import Asked, Shown, Writer

OF_OUTCOME = {
    Outcome.NOT_APPLICABLE: "Its sentence does not hold for this infant.",
    Outcome.EXCLUDED: "Its sentence holds, and so does its exclusion.",
    Outcome.DATA_REQUIRED: "It cannot be told whether it holds: data is missing.",
    Outcome.SATISFIED: "It holds, and all it asks for is done or ordered.",
    Outcome.INTERNAL_ERROR: "It failed: a defect of the software, which is counted and logged.",
    Outcome.RECOMMENDED: "It holds, and asks for something that is not yet done.",
}


class Need(NamedTuple):
    """A question that is not answered as the rule needs it. ``found``: what the record says near it."""

    name: str
    asks: str
    now: str
    wanted: str
    found: tuple[str, ...]
    needed: str
    missing: tuple[str, ...]
    shown: tuple[Shown, ...]


class WhyNot(NamedTuple):
    """Why a rule puts nothing on a card. ``failing`` are answered otherwise, ``unknown`` not at all;
    ``changes``: the smallest sets of answers that would make it speak."""

    rule: str
    title: str
    outcome: str
    speaks: bool
    because: tuple[str, ...]
    failing: tuple[Need, ...]
    unknown: tuple[Need, ...]
    excluded_by: tuple[Need, ...]
    asked: tuple[Asked, ...]
    withheld_by: tuple[tuple[str, str], ...]
    changes: tuple[tuple[Need, ...], ...]


def why_not(
    rule_id: str, response: HookResponse, library: RuleLibrary, stopped: Mapping[str, str] = {}, hide: str = ""
) -> WhyNot | None:
    """Why the rule is silent in this answer; None when it was not evaluated (no such rule, or a patient who has died).

    ``stopped``: rule → reason, of the rules that a reviewer stopped; ``hide``: the patient's id, which is not shown.
    """
    evaluation = next((e for e in response.evaluations if e.rule.id == rule_id), None)
    if evaluation is None:
        return None
    rule, outcome = evaluation.rule, evaluation.outcome
    bases = (card["extension"][BASIS]["rules"] for card in response.body["cards"])
    speaks = any(item["id"] == rule_id for rules in bases for item in rules)
    withheld = _withheld(evaluation, response.evaluations, library)
    because = [OF_OUTCOME[outcome], *([] if speaks else _kept_silent(rule_id, response, library, stopped))]
    if withheld and not speaks:
        because.append("Reassurance is withheld: other rules suggest something, or leave room for doubt.")
    head = rule_id, rule.title, outcome.value, speaks, tuple(because)
    if outcome is Outcome.INTERNAL_ERROR:
        return WhyNot(*head, (), (), (), (), (), ())
    writer = _Needs(evaluation, library, hide)
    needs = [writer.need(change) for change in failing(evaluation)]
    excluded = [n for n in needs if outcome is Outcome.EXCLUDED and n.wanted == FALSE.word and n.now != UNKNOWN.word]
    return WhyNot(
        *head,
        tuple(need for need in needs if need.now != UNKNOWN.word and need not in excluded),
        tuple(need for need in needs if need.now == UNKNOWN.word),
        tuple(excluded),
        writer.trace(evaluation, rule_id in library.silent).asked,
        tuple((e.rule.id, e.rule.title) for e in withheld),
        tuple(tuple(map(writer.need, changes)) for changes in smallest_changes(evaluation)),
    )  # fmt: skip


def silent_rules(
    family: str, response: HookResponse, library: RuleLibrary, stopped: Mapping[str, str] = {}, hide: str = ""
) -> list[WhyNot]:
    """Every rule that asks for workups of this family and is silent in this answer.

    First those of whose smallest change the record says something, then by the number of answers it takes.
    """
    rules = [
        rule for rule in library.rules if any(library.workups[item.workup].family == family for item in rule.recommend)
    ]
    found = [why_not(rule.id, response, library, stopped, hide) for rule in rules]
    silent = [why for why in found if why is not None and not why.speaks]
    return sorted(silent, key=_how_near)


def _how_near(why: WhyNot) -> tuple[bool, int]:
    smallest = why.changes[0] if why.changes else ()
    return not any(need.found for need in smallest), len(smallest)


class _Needs(Writer):
    def __init__(self, evaluation: Evaluation, library: RuleLibrary, hide: str) -> None:
        super().__init__(library, hide)
        self._nearby = Nearby(evaluation.record, library)

    def need(self, change: Change) -> Need:
        return Need(
            change.name, self.readable.words(change.criterion), change.now.truth.word, change.wanted.word,
            tuple(map(self.reference, dict.fromkeys(self._nearby.found(change.criterion)))),
            self._nearby.needed(change), tuple(map(self.reference, change.now.missing)),
            tuple(dict.fromkeys(map(self.shown, change.now.evidence))),
        )  # fmt: skip


def _kept_silent(rule_id: str, response: HookResponse, library: RuleLibrary, stopped: Mapping[str, str]) -> list[str]:
    """Reasons that lie outside the rule: stopped, unsigned, or nobody who may see a card."""
    found = []
    if rule_id in stopped:
        found.append(f"It is stopped: {stopped[rule_id]}")
    elif rule_id in library.silent:
        found.append("It is not signed by two clinicians: it is evaluated and logged, and says nothing.")
    not_shown = response.body["extension"][EVALUATION].get("notShown")
    return [*found, *([f"No card is shown: {not_shown}."] if not_shown else [])]


def _withheld(evaluation: Evaluation, evaluations: Sequence[Evaluation], library: RuleLibrary) -> list[Evaluation]:
    """The rules for which this one's reassurance is withheld."""
    asks = {item.workup.family for item in evaluation.suggested}
    if evaluation.outcome is not Outcome.RECOMMENDED or asks != {REASSURANCE}:
        return []
    return withheld_by(evaluations, library.silent)
