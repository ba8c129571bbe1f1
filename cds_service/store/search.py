"""Decisions found by filters, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, tuple_

from cds_service.store import available
from cds_service.store.counts import spoken
from cds_service.store.database import Database
from cds_service.store.period import within
from cds_service.store.schema import cards, decisions, feedback, rule_outcomes

MOST = 100_000
PLACE = ("decided_at", "writer", "seq")
ANY, NONE = "any", "none"


class Filters(NamedTuple):
    """What a decision has in common with those looked for; an empty text asks for nothing.

    ``since`` is the first moment or day that counts, ``until`` the first that does not. ``rule`` has spoken or might
    have; ``outcome`` is the rule's, as it is logged, or without ``rule`` any rule's. ``client`` None: of all clients.
    ``indicator``, ``family``, ``workup`` and ``feedback`` (accepted, overridden, any, none) are of one card, which
    rests on ``rule`` where that is given too.
    """

    since: str = ""
    until: str = ""
    rule: str = ""
    outcome: str = ""
    client: str | None = None
    request_id: str = ""
    pseudonym: str = ""
    indicator: str = ""
    feedback: str = ""
    family: str = ""
    workup: str = ""


class FoundCard(NamedTuple):
    """A card of a decision found. ``answer``: what the last statement on it said; empty when there is none."""

    uuid: str
    family: str
    indicator: str
    rules: tuple[str, ...]
    workups: tuple[str, ...]
    answer: str


class FoundDecision(NamedTuple):
    """A decision found. ``outcomes``: of each rule that applied or might have."""

    id: int
    writer: str
    seq: int
    request_id: str
    decided_at: str
    client_id: str
    pseudonym: str
    as_of: str
    rule_set_version: str
    rule_set_hash: str
    outcomes: Mapping[str, str]
    cards: tuple[FoundCard, ...]

    @property
    def cursor(self) -> str:
        """Where the next page begins: what to give ``search`` as ``before``."""
        return f"{self.decided_at}~{self.writer}~{self.seq}"


def search(database: Database, filters: Filters, limit: int = 50, before: str = "") -> list[FoundDecision]:
    """The newest decisions that pass, at most ``limit``, older than the one whose ``cursor`` is ``before``.

    A ``before`` that is no cursor is as none. Raises StoreUnavailable.
    """
    places = _places(filters)
    moment, _, place = before.partition("~")
    writer, _, number = place.partition("~")
    if number.isdecimal() and len(number) < 19 and "\0" not in before:  # a column's digits; PostgreSQL refuses NUL
        at = places.selected_columns
        older = or_(at.writer < writer, and_(at.writer == writer, at.seq < int(number)))
        places = places.where(at.decided_at <= moment, or_(at.decided_at < moment, older))
    newest_first = [places.selected_columns[name].desc() for name in PLACE]
    found = places.order_by(*newest_first).limit(limit).subquery()
    here = and_(decisions.c.writer == found.c.writer, decisions.c.seq == found.c.seq)
    query = select(decisions).join(found, here).order_by(*(found.c[name].desc() for name in PLACE))
    with available.reading(database) as connection:
        rows = connection.execute(query).mappings().all()
        given = _cards_of(connection, [(row["writer"], row["seq"]) for row in rows])
    return [
        FoundDecision(
            **{name: row[name] for name in FoundDecision._fields[:10]},
            outcomes=dict(spoken(orjson.loads(row["outcomes"]))),
            cards=tuple(given.get((row["writer"], row["seq"]), ())),
        )
        for row in rows
    ]


def count_found(database: Database, filters: Filters, most: int = MOST) -> int:
    """How many decisions pass; ``most`` when there are as many or more. Raises StoreUnavailable."""
    with available.reading(database) as connection:
        return connection.execute(
            select(func.count()).select_from(_places(filters).limit(most).subquery())
        ).scalar_one()


def _places(filters: Filters) -> Select[Any]:
    """Time and place of the decisions that pass, out of the table with an index on what is asked for.

    What else is asked is looked up for each of its rows. Neither all decisions nor their long texts are read.
    """
    wanted = {decisions: _of_decision(filters), rule_outcomes: _of_outcome(filters), cards: _of_card(filters)}
    if filters.request_id or filters.pseudonym:
        table = decisions
    elif wanted[rule_outcomes]:
        table = rule_outcomes
    else:
        table = cards if wanted[cards] else decisions
    period = within(table.c.decided_at, filters.since, filters.until)
    query = select(*(table.c[name] for name in PLACE)).where(*wanted.pop(table), *period)
    if table is cards:
        del wanted[decisions]  # the client, which is the card's as well
    if table is rule_outcomes and not filters.rule:
        query = query.where(rule_outcomes.c.rule.in_(_rules()))
    if table is cards or (table is rule_outcomes and not filters.rule):
        query = query.distinct()  # several cards, or several rules, of one decision
    for other, asked in wanted.items():
        if asked:
            query = query.where(exists().where(other.c.writer == table.c.writer, other.c.seq == table.c.seq, *asked))
    return query


def _rules() -> Select[Any]:
    """The rules in ``rule_outcomes``, each found by a step in the index from the one before it."""
    first = select(func.min(rule_outcomes.c.rule).label("rule")).cte("rules", recursive=True)
    later = select(func.min(rule_outcomes.c.rule)).where(rule_outcomes.c.rule > first.c.rule).scalar_subquery()
    rules = first.union_all(select(later).where(first.c.rule.is_not(None)))
    return select(rules.c.rule).where(rules.c.rule.is_not(None))


def _of_decision(filters: Filters) -> list[ColumnElement[bool]]:
    wanted = [] if filters.client is None else [decisions.c.client_id == filters.client]
    wanted += [decisions.c.request_id == filters.request_id] if filters.request_id else []
    return wanted + ([decisions.c.pseudonym == filters.pseudonym] if filters.pseudonym else [])


def _of_outcome(filters: Filters) -> list[ColumnElement[bool]]:
    wanted = [rule_outcomes.c.rule == filters.rule] if filters.rule else []
    return wanted + ([rule_outcomes.c.outcome == filters.outcome] if filters.outcome else [])


def _of_card(filters: Filters) -> list[ColumnElement[bool]]:
    """What one row of ``cards`` has to be. Its rules and workups are JSON with the members in order of name."""
    wanted: list[ColumnElement[bool]] = []
    if filters.indicator:
        wanted.append(cards.c.indicator == filters.indicator)
    if filters.family:
        wanted.append(cards.c.family == filters.family)
    if filters.workup:
        wanted.append(_names(cards.c.workups, filters.workup))
    if filters.feedback:
        said = exists().where(feedback.c.card_uuid == cards.c.card_uuid, feedback.c.client_id == cards.c.client_id)
        if filters.feedback not in (ANY, NONE):
            said = said.where(feedback.c.outcome == filters.feedback)
        wanted.append(~said if filters.feedback == NONE else said)
    if wanted and filters.client is not None:
        wanted.append(cards.c.client_id == filters.client)
    if wanted and filters.rule:
        wanted.append(_names(cards.c.rules, filters.rule))
    return wanted


def _names(column: ColumnElement[str], id: str) -> ColumnElement[bool]:
    return column.contains(f'"id":{orjson.dumps(id).decode()}', autoescape=True)


def _cards_of(connection: Connection, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[FoundCard]]:
    """The cards of these decisions in their order, with the last statement on each."""
    if not places:
        return {}
    query = select(cards).where(tuple_(cards.c.writer, cards.c.seq).in_(places))
    rows = connection.execute(query.order_by(cards.c.writer, cards.c.seq, cards.c.place)).mappings().all()
    answers: dict[tuple[str, str], str] = {}
    if rows:
        query = select(feedback.c.client_id, feedback.c.card_uuid, feedback.c.outcome)
        query = query.where(feedback.c.card_uuid.in_({row["card_uuid"] for row in rows}))
        said = connection.execute(query.order_by(feedback.c.outcome_at, feedback.c.id))
        answers = {(row.client_id, row.card_uuid): row.outcome for row in said}
    found: dict[tuple[str, int], list[FoundCard]] = {}
    for row in rows:
        rules, workups = (tuple(item["id"] for item in orjson.loads(row[name])) for name in ("rules", "workups"))
        answer = answers.get((row["client_id"], row["card_uuid"]), "")
        card = FoundCard(row["card_uuid"], row["family"], row["indicator"], rules, workups, answer)
        found.setdefault((row["writer"], row["seq"]), []).append(card)
    return found
