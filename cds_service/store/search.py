"""Decisions found by filters, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, tuple_

from cds_service.store import available
from cds_service.store.counts import spoken
from cds_service.store.database import Database
from cds_service.store.schema import cards, decisions, feedback, rule_outcomes

MOST = 100_000
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
        return f"{self.decided_at}~{self.id}"


def search(database: Database, filters: Filters, limit: int = 50, before: str = "") -> list[FoundDecision]:
    """The newest decisions that pass, at most ``limit``, older than the one whose ``cursor`` is ``before``.

    A ``before`` that is no cursor is as none. Raises StoreUnavailable.
    """
    query, time = _matching(filters, [decisions])
    moment, _, number = before.partition("~")
    if number.isdecimal():
        query = query.where(time <= moment, or_(time < moment, decisions.c.id < int(number)))
    with available.reading(database) as connection:
        query = query.order_by(time.desc(), decisions.c.id.desc()).limit(limit)
        rows = connection.execute(query).mappings().all()
        given = _cards_of(connection, [(row["writer"], row["seq"]) for row in rows])
    return [
        FoundDecision(
            **{name: row[name] for name in FoundDecision._fields[:8]},
            outcomes=dict(spoken(orjson.loads(row["outcomes"]))),
            cards=tuple(given.get((row["writer"], row["seq"]), ())),
        )
        for row in rows
    ]


def count_found(database: Database, filters: Filters, most: int = MOST) -> int:
    """How many decisions pass; ``most`` when there are as many or more. Raises StoreUnavailable."""
    query, _ = _matching(filters, [decisions.c.id])
    with available.reading(database) as connection:
        return connection.execute(select(func.count()).select_from(query.limit(most).subquery())).scalar_one()


def _matching(filters: Filters, columns: Sequence[Any]) -> tuple[Select[Any], ColumnElement[str]]:
    """The query without order, and the column of its time: that of the index by which the rows are found."""
    query, time = select(*columns), decisions.c.decided_at
    here = and_(rule_outcomes.c.writer == decisions.c.writer, rule_outcomes.c.seq == decisions.c.seq)
    if filters.rule:
        query = query.select_from(rule_outcomes.join(decisions, here)).where(rule_outcomes.c.rule == filters.rule)
        time = rule_outcomes.c.decided_at
        if filters.outcome:
            query = query.where(rule_outcomes.c.outcome == filters.outcome)
    elif filters.outcome:
        query = query.where(exists().where(here, rule_outcomes.c.outcome == filters.outcome))
    query = query.where(*_within(time, filters))
    if filters.client is not None:
        query = query.where(decisions.c.client_id == filters.client)
    for column, wanted in (
        (decisions.c.request_id, filters.request_id),
        (decisions.c.pseudonym, filters.pseudonym),
    ):
        if wanted:
            query = query.where(column == wanted)
    if filters.indicator or filters.feedback or filters.family or filters.workup:
        shown = select(cards.c.writer, cards.c.seq).where(*_of_card(filters), *_within(cards.c.decided_at, filters))
        query = query.where(tuple_(decisions.c.writer, decisions.c.seq).in_(shown))
    return query, time


def _within(time: ColumnElement[str], filters: Filters) -> list[ColumnElement[bool]]:
    return ([time >= filters.since] if filters.since else []) + ([time < filters.until] if filters.until else [])


def _of_card(filters: Filters) -> list[ColumnElement[bool]]:
    """What one row of ``cards`` has to be. Its rules and workups are JSON with the members in order of name."""
    wanted: list[ColumnElement[bool]] = []
    if filters.indicator:
        wanted.append(cards.c.indicator == filters.indicator)
    if filters.family:
        wanted.append(cards.c.family == filters.family)
    for column, name in ((cards.c.workups, filters.workup), (cards.c.rules, filters.rule)):
        if name:
            wanted.append(column.contains(f'"id":{orjson.dumps(name).decode()}', autoescape=True))
    if filters.feedback:
        said = exists().where(feedback.c.card_uuid == cards.c.card_uuid, feedback.c.client_id == cards.c.client_id)
        if filters.feedback not in (ANY, NONE):
            said = said.where(feedback.c.outcome == filters.feedback)
        wanted.append(~said if filters.feedback == NONE else said)
    return wanted


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
