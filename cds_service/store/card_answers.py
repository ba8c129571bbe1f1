"""What became of the cards given: accepted, overridden with which reason, or not answered; and how soon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from statistics import median
from typing import NamedTuple

import orjson
from sqlalchemy import ColumnElement, distinct, func, select

from cds_service.store import available
from cds_service.store.database import Database
from cds_service.store.schema import cards, feedback

ACCEPTED, OVERRIDDEN = "accepted", "overridden"
WAITS = (
    (60, "under 1 minute"), (300, "1 to 5 minutes"), (1_800, "5 to 30 minutes"), (14_400, "30 minutes to 4 hours"),
    (86_400, "4 hours to 1 day"), (float("inf"), "over 1 day"),
)  # fmt: skip


class CardAnswers(NamedTuple):
    """Cards given, and the last word on each. ``median_seconds``: from card to answer; None without answers."""

    given: int
    accepted: int
    overridden: int
    median_seconds: float | None

    @property
    def unanswered(self) -> int:
        """Cards of which nothing was said."""
        return self.given - self.accepted - self.overridden


class Answers(NamedTuple):
    """By rule on which the card rests, by family, and of all; reasons of overriding by (reason, rule); waits."""

    all: CardAnswers
    rules: Mapping[str, CardAnswers]
    families: Mapping[str, CardAnswers]
    reasons: Mapping[tuple[str, str], int]
    waits: Mapping[str, int]


class _Tally:
    def __init__(self) -> None:
        self.given = self.accepted = self.overridden = 0
        self.seconds: list[float] = []

    def read(self) -> CardAnswers:
        middle = median(self.seconds) if self.seconds else None
        return CardAnswers(max(self.given, self.accepted + self.overridden), self.accepted, self.overridden, middle)


def answers(database: Database, since: str, until: str, client: str | None = None) -> Answers:
    """Of the cards given from ``since`` on, before ``until``. A card is one however often it was sent again, and its
    last statement counts. Raises StoreUnavailable.
    """
    where = _between(since, until, client)
    groups = cards.c.rules, cards.c.family
    given = select(*groups, func.count(distinct(cards.c.card_uuid))).where(*where).group_by(*groups)
    said = (
        select(
            cards.c.card_uuid, cards.c.client_id, cards.c.rules, cards.c.family, cards.c.decided_at,
            feedback.c.outcome, feedback.c.outcome_at, feedback.c.reason_display, feedback.c.reason_code,
        )
        .join(feedback, (feedback.c.card_uuid == cards.c.card_uuid) & (feedback.c.client_id == cards.c.client_id))
        .where(*where)
        .order_by(feedback.c.outcome_at, feedback.c.id, cards.c.id)
    )  # fmt: skip
    everything, rules, families = _Tally(), dict[str, _Tally](), dict[str, _Tally]()
    read: dict[str, tuple[str, ...]] = {}  # few combinations of rules, each on many cards

    def tallies(text: str, family: str) -> Iterable[_Tally]:
        names = read.get(text)
        if names is None:
            names = read[text] = tuple(rule["id"] for rule in orjson.loads(text))
        yield everything
        yield families.setdefault(family, _Tally())
        yield from (rules.setdefault(name, _Tally()) for name in names)

    reasons: dict[tuple[str, str], int] = {}
    waits = dict.fromkeys((label for _, label in WAITS), 0)
    with available.reading(database) as connection:
        for text, family, number in connection.execute(given):
            for tally in tallies(text, family):
                tally.given += number
        last = {(row.client_id, row.card_uuid): row for row in connection.execute(said)}
    for row in last.values():
        seconds = _seconds(row.decided_at, row.outcome_at)
        for tally in tallies(row.rules, row.family):
            tally.accepted += row.outcome == ACCEPTED
            tally.overridden += row.outcome == OVERRIDDEN
            tally.seconds += [] if seconds is None else [seconds]
        if seconds is not None:
            waits[next(label for end, label in WAITS if seconds < end)] += 1
        if row.outcome == OVERRIDDEN:
            for name in read[row.rules]:
                key = row.reason_display or row.reason_code or "", name
                reasons[key] = reasons.get(key, 0) + 1
    return Answers(
        everything.read(), {name: rules[name].read() for name in sorted(rules)},
        {name: families[name].read() for name in sorted(families)}, reasons, waits,
    )  # fmt: skip


def _seconds(given_at: str, said_at: str) -> float | None:
    """From the card to what was said of it; None when the sender's time cannot be read, or lies before the card's."""
    try:
        waited = datetime.fromisoformat(said_at) - datetime.fromisoformat(given_at)
    except ValueError:
        return None
    return waited.total_seconds() if waited.total_seconds() >= 0 else None


def _between(since: str, until: str, client: str | None) -> list[ColumnElement[bool]]:
    where = [cards.c.decided_at >= since] if since else []
    where += [cards.c.decided_at < until] if until else []
    return where + ([cards.c.client_id == client] if client is not None else [])
