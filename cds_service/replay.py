"""Logged decisions decided again: what today's software and rules say of the inputs that were kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from cds_service.errors import RequestError
from cds_service.hooks.kept_request import read_kept
from cds_service.hooks.respond import HookResponse, respond
from cds_service.rules.library import RuleLibrary
from cds_service.store.chain import digest
from cds_service.store.logged import Logged

ABSENT = "not there"


class Difference(NamedTuple):
    """A decision that comes out otherwise now, and in what; no value of the patient."""

    request_id: str
    decided_at: str
    what: Sequence[str]


class Replayed(NamedTuple):
    """How many were decided again, how many of these by other rules than now, what differs, what could not be read."""

    decisions: int
    by_other_rules: int
    differences: Sequence[Difference]
    unreadable: Sequence[Difference]


def replay(
    logged: Iterable[Logged], library: RuleLibrary, progress: Callable[[int], object] = lambda done: None
) -> Replayed:
    """Decide each again from its kept input, for the moment at which it was decided."""
    count = other = 0
    differing, unreadable = [], []
    for decision in logged:
        count += 1
        other += decision.rule_set_hash != library.hash
        if decision.kept is None:
            unreadable.append(Difference(decision.request_id, decision.decided_at, (decision.unreadable,)))
        else:
            what = _differences(decision, decision.kept, library)
            if what:
                differing.append(Difference(decision.request_id, decision.decided_at, what))
        progress(count)
    return Replayed(count, other, differing, unreadable)


def _differences(logged: Logged, kept: bytes, library: RuleLibrary) -> Sequence[str]:
    try:
        response = decide_again(kept, library)
    except RequestError as refusal:
        return (f"it is refused now: {refusal.code}",)
    return differences(logged.outcomes, logged.cards, response, library)


def decide_again(kept: bytes, library: RuleLibrary) -> HookResponse:
    """What is answered now to a kept input, for the moment at which it was decided. Raises RequestError."""
    request, as_of, public_url = read_kept(kept)
    return respond(request, library, as_of, public_url)


def differences(
    then: Mapping[str, str], cards: Sequence[Mapping[str, Any]], response: HookResponse, library: RuleLibrary
) -> list[str]:
    """In what the answer now differs from the outcomes and cards that were logged; no value of the patient."""
    now = library.outcomes(response.evaluated)
    changed = [
        f"rule {rule}: {then.get(rule, ABSENT)} → {now.get(rule, ABSENT)}"
        for rule in sorted(now.keys() | then.keys())
        if now.get(rule) != then.get(rule)
    ]
    return changed + _card_differences(cards, response)


def _card_differences(logged: Sequence[Mapping[str, Any]], response: HookResponse) -> list[str]:
    then = {card["family"]: (card["indicator"], card["digest"]) for card in logged}
    now = {
        card["source"]["topic"]["code"]: (card["indicator"], digest(orjson.dumps(card)))
        for card in response.body["cards"]
    }
    changed = []
    for family in sorted(now.keys() | then.keys()):
        before, after = then.get(family, (ABSENT, "")), now.get(family, (ABSENT, ""))
        if before[0] != after[0]:
            changed.append(f"card {family}: {before[0]} → {after[0]}")
        elif before != after:
            changed.append(f"card {family}: its text or its draft orders differ")
    if not changed and list(now) != list(then):
        changed.append("the order of the cards")
    return changed
