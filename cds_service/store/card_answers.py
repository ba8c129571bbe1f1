"""What became of the cards given: accepted, overridden with which reason, or not answered; and how soon."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

import orjson
from sqlalchemy import distinct, func, select

from cds_service.store import available
from cds_service.store.database import Database
from cds_service.store.period import within
from cds_service.store.schema import cards, feedback

ACCEPTED, OVERRIDDEN = "accepted", "overridden"
WAITS = (
    (60, "under 1 minute"), (300, "1 to 5 minutes"), (1_800, "5 to 30 minutes"), (14_400, "30 minutes to 4 hours"),
    (86_400, "4 hours to 1 day"), (float("inf"), "over 1 day"),
)  # fmt: skip
ENDS, LABELS = zip(*WAITS, strict=True)


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
    """The sums of one rule, one family, or all."""

    def __init__(self) -> None:
        self.given = 0
        self.said: Counter[str] = Counter()
        self.seconds: list[float] = []

    def read(self) -> CardAnswers:
        middle = median(self.seconds) if self.seconds else None
        return CardAnswers(self.given, self.said[ACCEPTED], self.said[OVERRIDDEN], middle)


class _Group(NamedTuple):
    """Cards of one family that rest on the same rules (as JSON): few groups, many cards."""

    rules: str
    family: str


def answers(database: Database, since: str, until: str, client: str | None = None) -> Answers:
    """Of the cards given from ``since`` on, before ``until``. A card is one however often it was sent again, and its
    last statement counts. Raises StoreUnavailable.
    """
    where = within(cards.c.decided_at, since, until)
    where += [cards.c.client_id == client] if client is not None else []
    group = cards.c.rules, cards.c.family
    given = select(*group, func.count(distinct(cards.c.card_uuid))).where(*where).group_by(*group)
    said = (
        select(
            cards.c.client_id, cards.c.card_uuid, feedback.c.outcome_at, feedback.c.id, cards.c.id, *group,
            cards.c.decided_at, feedback.c.outcome, feedback.c.reason_display, feedback.c.reason_code,
        )
        .join(feedback, (feedback.c.card_uuid == cards.c.card_uuid) & (feedback.c.client_id == cards.c.client_id))
        .where(*where)
    )  # fmt: skip
    last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    with available.reading(database) as connection:
        numbers = [(_Group(*row[:2]), row[2]) for row in connection.execute(given)]
        for row in map(tuple, connection.execute(said).all()):
            known = last.setdefault(row[:2], row)
            if row[2:5] > known[2:5]:
                last[row[:2]] = row
    return _summed(numbers, last.values())


def _summed(given: Iterable[tuple[_Group, int]], last: Iterable[tuple[Any, ...]]) -> Answers:
    """``given``: cards of each group; ``last``: the last statement on each card, as ``answers`` reads it."""
    tallies = _Tallies()
    for group, number in given:
        for tally in tallies.of(group):
            tally.given += number
    alike: dict[tuple[str, ...], list[float | None]] = {}  # few kinds of statements, many of each
    for row in last:
        alike.setdefault((*row[5:7], *row[8:]), []).append(_seconds(row[7], row[2]))
    reasons: Counter[tuple[str, str]] = Counter()
    waits = dict.fromkeys(LABELS, 0)
    for (rules, family, outcome, display, code), waited in alike.items():
        seconds = [second for second in waited if second is not None]
        for tally in tallies.of(_Group(rules, family)):
            tally.said[outcome] += len(waited)
            tally.seconds += seconds
        for second in seconds:
            waits[LABELS[bisect_right(ENDS, second)]] += 1
        if outcome == OVERRIDDEN:
            reasons.update({(display or code or "", rule): len(waited) for rule in rules_of(rules)})
    rules_read, families_read = ({name: of[name].read() for name in sorted(of)} for of in tallies.named)
    return Answers(tallies.all.read(), rules_read, families_read, reasons, waits)


class _Tallies:
    """The tallies to which a group's cards count, looked up once for each group."""

    def __init__(self) -> None:
        self.all = _Tally()
        self.named: tuple[dict[str, _Tally], dict[str, _Tally]] = ({}, {})
        self._of: dict[_Group, list[_Tally]] = {}

    def of(self, group: _Group) -> list[_Tally]:
        known = self._of.get(group)
        if known is None:
            rules, families = self.named
            known = [self.all, families.setdefault(group.family, _Tally())]
            known += [rules.setdefault(rule, _Tally()) for rule in rules_of(group.rules)]
            self._of[group] = known
        return known


def rules_of(text: str) -> Sequence[str]:
    """The ids of the rules of a card, out of the column."""
    return list(dict.fromkeys(rule["id"] for rule in orjson.loads(text)))


def _seconds(given_at: str, said_at: str) -> float | None:
    """From the card to what was said of it; None when the sender's time cannot be read, or lies before the card's."""
    try:
        waited = datetime.fromisoformat(said_at) - datetime.fromisoformat(given_at)
    except ValueError:
        return None
    seconds = waited.total_seconds()
    return seconds if seconds >= 0 else None
