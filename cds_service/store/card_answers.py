"""What became of the cards given: accepted, overridden with which reason, or not answered; and how soon."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from statistics import median
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Table, func, select

from cds_service.store import available
from cds_service.store.database import Database
from cds_service.store.period import within
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
    """The sums of one rule, one family, or all."""

    def __init__(self) -> None:
        self.given = 0
        self.said: Counter[str] = Counter()
        self.seconds: list[float] = []

    def read(self) -> CardAnswers:
        middle = median(self.seconds) if self.seconds else None
        return CardAnswers(self.given, self.said[ACCEPTED], self.said[OVERRIDDEN], middle)


def answers(database: Database, since: str, until: str, client: str | None = None) -> Answers:
    """Of the cards given from ``since`` on, before ``until``. A card is one however often it was sent again, as it was
    last sent, and its last statement counts. Raises StoreUnavailable.
    """
    of_cards, of_statements = within(cards.c.decided_at, since, until), within(feedback.c.received_at, since, "")
    if client is not None:
        of_cards.append(cards.c.client_id == client)
        of_statements.append(feedback.c.client_id == client)
    reason = func.coalesce(func.nullif(feedback.c.reason_display, ""), feedback.c.reason_code, "")
    # Two plain reads: a join and a count of distinct cards take the database longer than all of this.
    sent = select(_name(cards), cards.c.decided_at, cards.c.id, cards.c.rules, cards.c.family)
    said = select(_name(feedback), feedback.c.outcome_at, feedback.c.id, feedback.c.outcome, reason)
    with available.reading(database) as connection:
        return _summed(
            _latest(connection.execute(sent.where(*of_cards)).all()),
            _latest(connection.execute(said.where(*of_statements)).all()),
        )


def _name(of: Table) -> ColumnElement[str]:
    """Card and client as one text, which is read faster than two; no client's id has a space."""
    return of.c.card_uuid + " " + of.c.client_id


def _latest(rows: Iterable[Any]) -> dict[str, Any]:
    """The latest row of each card. A row begins with the card's name, a time and a number."""
    latest: dict[str, Any] = {}
    for row in rows:
        known = latest.setdefault(row[0], row)
        if row is not known and (row[1], row[2]) > (known[1], known[2]):
            latest[row[0]] = row
    return latest


def _summed(given: Mapping[str, Any], last: Mapping[str, Any]) -> Answers:
    """``given`` and ``last``: the cards and the last statements on them, as ``answers`` reads them."""
    alike: dict[tuple[str, ...], list[float]] = {}  # few kinds of statements, many of each
    for card, said in last.items():
        sent = given.get(card)
        if sent is not None:
            waited = alike.setdefault((sent[3], sent[4], said[3], said[4]), [])
            waited.append(_seconds(sent[1], said[1]))
    tallies = _Tallies()
    for group, number in Counter(map(itemgetter(3, 4), given.values())).items():
        for tally in tallies.of(*group):
            tally.given += number
    reasons: Counter[tuple[str, str]] = Counter()
    waits = {label: 0 for _, label in WAITS}
    for (rules, family, outcome, reason), each in alike.items():
        seconds = sorted(each)  # once: the medians then sort what is in order
        seconds = seconds[bisect_left(seconds, 0.0) :]
        for tally in tallies.of(rules, family):
            tally.said[outcome] += len(each)
            tally.seconds += seconds
        before = 0
        for end, label in WAITS:
            until = bisect_left(seconds, end)
            waits[label] += until - before
            before = until
        if outcome == OVERRIDDEN:
            reasons.update({(reason, rule): len(each) for rule in rules_of(rules)})
    rules_read, families_read = ({name: of[name].read() for name in sorted(of)} for of in tallies.named)
    return Answers(tallies.all.read(), rules_read, families_read, reasons, waits)


class _Tallies:
    """The tallies to which a group's cards count."""

    def __init__(self) -> None:
        self.all = _Tally()
        self.named: tuple[dict[str, _Tally], dict[str, _Tally]] = ({}, {})

    def of(self, rules: str, family: str) -> list[_Tally]:
        of_rules, families = self.named
        named = [of_rules.setdefault(rule, _Tally()) for rule in rules_of(rules)]
        return [self.all, families.setdefault(family, _Tally()), *named]


def rules_of(text: str) -> Sequence[str]:
    """The ids of the rules of a card, out of the column."""
    return list(dict.fromkeys(rule["id"] for rule in orjson.loads(text)))


def _seconds(given_at: str, said_at: str) -> float:
    """From the card to what was said of it; negative when it cannot be told, or when that lies before the card."""
    try:
        waited = datetime.fromisoformat(said_at) - datetime.fromisoformat(given_at)
    except ValueError:
        return -1.0
    return waited.total_seconds()
