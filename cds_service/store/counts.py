"""Counts by day, written with each batch of decisions and kept when these are removed: no patient, no pseudonym.

``kind``, ``name``, ``detail``: views '' with-card|silent · rule id outcome (not-applicable is not counted: it is the
views less the others) · card family indicator · workup id urgency · shown rule indicator (a card that rests on the
rule) · missing what rule (the rule waited for it) · state prefetch-key state · unread what word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from cds_service.store.database import insert_into
from cds_service.store.decision import FETCHED, Decision
from cds_service.store.schema import daily_counts

KEY = tuple(column.name for column in daily_counts.primary_key)
NOT_COUNTED = frozenset({"not-applicable", "not-applicable (silent)"})
LONGEST = 120
Spoken = tuple[str, str]  # rule, outcome
OF_A_RESOURCE = re.compile(r"(?:\S*/|urn:)\S+?(?: (?P<part>[^:]+))?: (?P<reason>.*)", re.DOTALL)


def rule_set_name(version: str, hash: str) -> str:
    """A rule set as the counts call it: its version and the first digits of its hash."""
    return f"{version} {hash[:12]}"


def spoken(outcomes: Mapping[str, str]) -> list[Spoken]:
    """Rule and outcome of every rule that applied, or might have."""
    return [of_rule for of_rule in outcomes.items() if of_rule[1] not in NOT_COUNTED]


def counts_of(decisions: Iterable[tuple[Decision, Sequence[Spoken]]]) -> Sequence[dict[str, Any]]:
    """The rows of ``daily_counts`` that these decisions with what was ``spoken`` add, in the order of their keys.

    In one order, so that writers who add to the same counts wait for one another and never in a circle.
    """
    counted: dict[tuple[str, str, str], Counter[tuple[str, str, str]]] = {}
    for decision, outcomes in decisions:
        rule_set = rule_set_name(decision.rule_set_version, decision.rule_set_hash)
        place = decision.decided_at[:10], decision.client_id, rule_set
        counted.setdefault(place, Counter()).update(_of(decision, outcomes))
    keys = sorted(
        (kind, day[:7], name, detail, day, client, rule_set, number)
        for (day, client, rule_set), of_place in counted.items()
        for (kind, name, detail), number in of_place.items()
    )
    return [dict(zip((*KEY, "count"), key, strict=True)) for key in keys]


def _of(decision: Decision, outcomes: Sequence[Spoken]) -> Iterator[tuple[str, str, str]]:
    yield "views", "", "with-card" if decision.cards else "silent"
    for rule, outcome in outcomes:
        yield "rule", rule, outcome
    for card in decision.cards:
        yield "card", card.family, card.indicator
        for workup in card.workups:
            yield "workup", workup["id"], workup["urgency"]
        for rule_shown in card.rules:
            yield "shown", rule_shown["id"], card.indicator
    for rule, lacking in decision.missing.items():
        for what in dict.fromkeys(map(without_resource, lacking)):
            yield "missing", what[:LONGEST], rule
    for key, state in decision.inputs.items():
        yield "state", key, state.removesuffix(FETCHED)
    for what, word in decision.unread:
        yield "unread", what, word[:LONGEST]


def without_resource(missing: str) -> str:
    """What an evaluation lacked without the reference of the resource, which is one patient's."""
    of = OF_A_RESOURCE.fullmatch(missing)
    if of is None:
        return missing
    return f"{of['part']}: {of['reason']}" if of["part"] else of["reason"]


def add_counts(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add these counts to those of their days."""
    once = insert_into(connection, daily_counts)
    more = once.on_conflict_do_update(
        index_elements=list(KEY), set_={"count": daily_counts.c.count + once.excluded.count}
    )
    connection.execute(more, rows)
