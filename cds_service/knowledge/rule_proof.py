"""What proves a rule: its cases with their result now, a card for each branch, the mutants its cases have killed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from cds_service.hooks.cards import cards_of
from cds_service.hooks.request import HookRequest
from cds_service.record.truth import TRUE
from cds_service.rules.cases import Case, cases_of, disagreement, record_of
from cds_service.rules.evaluate import Asked, evaluate
from cds_service.rules.library import RuleLibrary
from cds_service.rules.mutants import Mutant, mutants_of
from cds_service.rules.pack import Pack
from cds_service.rules.recommend import recommend
from cds_service.rules.rule import Outcome, Rule
from cds_service.rules.yaml_source import Source

RECORD = "mutants.json"
SHARED = "(shared files)"


class Proved(NamedTuple):
    """A case with what the rule says of it now. ``problem``: empty when it is as expected."""

    name: str
    line: int
    expected: str
    outcome: str
    missing: Sequence[str]
    problem: str


class Branch(NamedTuple):
    """One set of workups that the rule can suggest, the case that brings it about and the cards it then gives."""

    case: str
    workups: Mapping[str, str]
    cards: Sequence[Mapping[str, Any]]


class Proof(NamedTuple):
    """The cases in the order of their file, and a branch for each set of workups among them."""

    cases: Sequence[Proved]
    branches: Sequence[Branch]


def proof_of(rule: Rule, source: Source | None, library: RuleLibrary, public_url: str) -> Proof:
    """Run the rule's cases. The cards are those that this rule alone gives."""
    proved, branches = [], {}
    for case in cases_of(source) if source is not None else ():
        record = record_of(case, library)
        evaluation = evaluate(rule, Asked(record, library.criteria_count), library.workups)
        problem = disagreement(case, evaluation) or ""
        proved.append(
            Proved(case.name, case.line, case.expect.value, evaluation.outcome.value, evaluation.missing, problem)
        )
        if evaluation.outcome is not Outcome.RECOMMENDED:
            continue
        workups = {
            item.workup.id: item.urgency.indicator
            for item in evaluation.suggested if item.taken_care_of.truth is not TRUE
        }  # fmt: skip
        key = json.dumps(workups, sort_keys=True)
        if key not in branches:
            cards = cards_of(recommend([evaluation]), record, _request(case), library, public_url)
            branches[key] = Branch(case.name, workups, cards)
    return Proof(proved, list(branches.values()))


def _request(case: Case) -> HookRequest:
    return HookRequest(case.name, "Practitioner/preview", "case", None, None, {}, None, False)


def mutants_record(pack: Pack, library: RuleLibrary, survivors: Sequence[Mutant]) -> dict[str, dict[str, Any]]:
    """Rule id → how many mutants of its own file there are, how many survive, and the content that was tried."""
    found: dict[str, dict[str, Any]] = {
        rule.id: {"content": rule.sha256, "mutants": 0, "survive": 0} for rule in library.rules
    }
    found[SHARED] = {"content": "", "mutants": 0, "survive": 0}
    for mutant in mutants_of(pack):
        found[mutant.key if mutant.kind == "rule" else SHARED]["mutants"] += 1
    for mutant in survivors:
        found[mutant.key if mutant.kind == "rule" else SHARED]["survive"] += 1
    return dict(sorted(found.items()))


def recorded_mutants(root: Traversable | Path) -> dict[str, dict[str, Any]]:
    """What the last run of ``cds-service mutate --record`` wrote; empty when there was none."""
    file = root / RECORD
    if not file.is_file():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found
