"""What a search for decisions asks, as its URL says it, and the decisions found as rows of a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from cds_service.record.times import parse_span
from cds_service.rules.library import SILENT
from cds_service.rules.rule import Outcome, Urgency
from cds_service.store.search import Filters, FoundDecision
from cds_service.web.desk.tables import Column, Table

UNNAMED = "-"  # in a URL: the sandbox's caller, who has no name
OUTCOMES = tuple(
    outcome.value + mark for mark in ("", SILENT) for outcome in Outcome if outcome is not Outcome.NOT_APPLICABLE
)
CHOICES: Mapping[str, Sequence[str]] = {
    "outcome": OUTCOMES,
    "indicator": tuple(urgency.indicator for urgency in reversed(Urgency)),
    "feedback": ("accepted", "overridden", "any", "none"),
}
TEXTS = ("rule", "request_id", "family", "workup")
LONGEST = 200
_PSEUDONYM = re.compile(r"[0-9a-f]{24}")


class Asked(NamedTuple):
    """A search. ``wrong``: what of it cannot be searched for, in words; then nothing is searched."""

    filters: Filters
    wrong: tuple[str, ...]


def asked(query: Mapping[str, str]) -> Asked:
    """The search that a URL asks for; ``until`` there is the last day, or the first moment that does not count."""
    said = {key: query.get(key, "").strip()[:LONGEST] for key in (*CHOICES, *TEXTS, "since", "until", "pseudonym")}
    wrong = [
        f"{key}: one of {', '.join(known)}." for key, known in CHOICES.items() if said[key] and said[key] not in known
    ]
    for key in ("since", "until"):
        if said[key] and (len(said[key]) < 10 or parse_span(said[key]) is None):
            wrong.append(f"{key}: a date such as 2026-11-20.")
    if said["pseudonym"] and not _PSEUDONYM.fullmatch(said["pseudonym"]):
        wrong.append("pseudonym: 24 digits from 0 to 9 and a to f. For a patient id use the form below.")
    client = query.get("client", "").strip()[:LONGEST]
    filters = Filters(client=None if not client else "" if client == UNNAMED else client, **said)
    if len(filters.until) == 10 and not wrong:
        filters = filters._replace(until=_next_day(filters.until))
    return Asked(filters, tuple(wrong))


def _next_day(day: str) -> str:
    last = date.fromisoformat(day)
    return (last + timedelta(days=1)).isoformat() if last < date.max else ""


def decision_table(found: Sequence[FoundDecision], urls: Sequence[str]) -> Table:
    """The decisions as rows, in the order given; ``urls``: of each one's trace."""
    columns = (
        Column("decided_at", "When (UTC)", link="url"), Column("recommended", "Rules that spoke"),
        Column("waiting", "Rules waiting", number=True), Column("cards", "Cards"), Column("feedback", "Feedback"),
        Column("pseudonym", "Patient"), Column("client", "Client"), Column("request_id", "Request"),
        Column("rule_set", "Rule set"),
    )  # fmt: skip
    rows = [{**_row(decision), "url": url} for decision, url in zip(found, urls, strict=True)]
    return Table("decisions", "Decisions", columns, rows, searched=False, empty="No decision is as searched for.")


def _row(decision: FoundDecision) -> dict[str, Any]:
    said = list(decision.outcomes.items())
    answers = Counter(card.answer or "unanswered" for card in decision.cards)
    waiting = (Outcome.DATA_REQUIRED.value, Outcome.DATA_REQUIRED.value + SILENT)
    return {
        "decided_at": decision.decided_at[:19].replace("T", " "),
        "request_id": decision.request_id,
        "client": decision.client_id or UNNAMED,
        "pseudonym": decision.pseudonym or None,
        "recommended": [rule for rule, outcome in said if outcome == Outcome.RECOMMENDED.value],
        "waiting": sum(outcome in waiting for _, outcome in said),
        "cards": [f"{card.family} ({card.indicator})" for card in decision.cards],
        "feedback": [f"{count} {answer}" for answer, count in answers.items()],
        "rule_set": f"{decision.rule_set_version} {decision.rule_set_hash[:12]}",
    }
