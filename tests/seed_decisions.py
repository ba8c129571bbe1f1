"""Made-up months of decisions: `python tests/seed_decisions.py URL 100000`. The same numbers give the same log.

Each is what the rules really say of one of the fixtures, for another infant at another time; who answers and how is
made up. They are written as the service writes them, so that chains, outcomes and daily counts hold.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from flask import Flask
from msgspec.structs import replace
from sqlalchemy import insert

from cds_service.errors import RequestError
from cds_service.hooks.kept_request import write_kept
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.store.append import append, batch_of, new_chain
from cds_service.store.database import Database
from cds_service.store.decision import Decision
from cds_service.store.period import written
from cds_service.store.pseudonyms import pseudonym
from cds_service.store.schema import feedback
from cds_service.store.schema_version import upgrade
from cds_service.store.sealed_inputs import InputKeys
from cds_service.web.recording import decision_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
END = datetime(2026, 11, 23, tzinfo=UTC)
QUIET = "nothing-to-say"
QUIET_SHARE = 0.75  # of views of charts of which no rule has anything to say
CLIENTS = {"ehr-north": 0.55, "ehr-south": 0.3, "clinic-lake": 0.12, "clinic-hill": 0.03}
BEFORE = ("0.0.9", "0" * 64)  # the rule set of the first ten weeks in 26
NAME_KEY = bytes(32)
BATCH = 1000
REASONS = (
    ("already-done", "Already done elsewhere"), ("not-relevant", "Not relevant for this infant"),
    ("parents-decline", "Family declines"), ("", ""),
)  # fmt: skip
UNREAD = (
    ("unknown-code", "urn:oid:1.2.3.4|TREMOR1"), ("unknown-code", "http://snomed.info/sct|404684003"),
    ("unknown-unit", "mEq/L"), ("uncoded", "tremor"), ("unreadable", "it has no date that can be read"),
)  # fmt: skip


class Seeded(NamedTuple):
    """How many rows were made."""

    decisions: int
    cards: int
    feedback: int


def seed(
    database: Database, count: int, *, weeks: int = 26, end: datetime = END, number: int = 1,
    keys: InputKeys | None = None, kept: int = 50, library: RuleLibrary | None = None,
) -> Seeded:  # fmt: skip
    """Write so many decisions over the weeks before ``end``. With ``keys`` the last ``kept`` have their inputs."""
    rng = random.Random(number)
    cards = said = 0
    start = end - timedelta(weeks=weeks)
    moments = sorted(start + timedelta(seconds=_second(rng, weeks)) for _ in range(count))
    made = _decisions(rng, moments, start + timedelta(weeks=weeks * 10 / 26), library or load_library())
    chain = new_chain()
    for at in range(0, count, BATCH):
        taken = [next(made) for _ in range(min(BATCH, count - at))]
        first_kept = max(0, count - kept - at) if keys is not None else len(taken)
        taken = [one if place >= first_kept else replace(one, kept=None) for place, one in enumerate(taken)]
        if at % (10 * BATCH) == 0:
            chain = new_chain()
        batch = batch_of(taken, chain, keys)
        append(database, batch)
        chain = batch.end
        statements = list(_statements(rng, taken))
        if statements:
            with database.writing() as connection:
                connection.execute(insert(feedback), statements)
        cards, said = cards + len(batch.cards), said + len(statements)
    return Seeded(count, cards, said)


def templates(library: RuleLibrary) -> dict[str, Decision]:
    """What is logged of each fixture that is answered, by its name."""
    found = {}
    with Flask(__name__).app_context():
        for file in sorted(FIXTURES.glob("*.json")):
            try:
                request = parse_request(file.read_bytes())
                response = respond(request, library, request.as_of or 0, "https://cds.example")
            except (RequestError, json.JSONDecodeError):
                continue
            kept = write_kept(request, response, "https://cds.example")
            found[file.stem] = decision_of(request, response, library, "", END, kept)
    return found


def _second(rng: random.Random, weeks: int) -> float:
    """A moment of the weeks, on a weekday by day more often than at night or on a weekend."""
    while True:
        second = rng.uniform(0, weeks * 7 * 86_400)
        hour, day = second / 3600 % 24, int(second / 86_400) % 7
        if rng.random() < (0.1 if not 7 <= hour < 18 else 0.4 if day > 4 else 1.0):
            return second


def _decisions(
    rng: random.Random, moments: Sequence[datetime], released: datetime, library: RuleLibrary
) -> Iterator[Decision]:
    known = templates(library)
    speaking = [name for name in known if name != QUIET]
    names, shares = list(CLIENTS), list(CLIENTS.values())
    infants = max(1, len(moments) // 4)
    for moment in moments:
        name = QUIET if rng.random() < QUIET_SHARE else rng.choice(speaking)
        client = rng.choices(names, shares)[0]
        one, at = known[name], written(moment)
        version, hash = (one.rule_set_version, one.rule_set_hash) if moment >= released else BEFORE
        yield replace(
            one, decided_at=at, as_of=at[:19] + "Z", request_id=_uuid(rng), client_id=client, hook_instance=_uuid(rng),
            pseudonym=pseudonym(NAME_KEY, client, str(rng.randrange(infants))), rule_set_version=version,
            rule_set_hash=hash, cards=[replace(card, uuid=_uuid(rng)) for card in one.cards],
            unread=[*one.unread, rng.choice(UNREAD)] if rng.random() < 0.03 else one.unread,
        )  # fmt: skip


def _statements(rng: random.Random, taken: Sequence[Decision]) -> Iterator[dict[str, Any]]:
    """What clinicians say of half of the cards; of the info cards they override most."""
    for decision in taken:
        for card in decision.cards:
            if rng.random() < 0.5:
                continue
            accepted = rng.random() < {"critical": 0.8, "warning": 0.6}.get(card.indicator, 0.3)
            outcome = "accepted" if accepted else "overridden"
            code, display = ("", "") if accepted else rng.choices(REASONS, (5, 3, 1, 2))[0]
            waited = timedelta(seconds=rng.lognormvariate(5, 1.8))
            at = datetime.fromisoformat(decision.decided_at) + waited
            yield {
                "identity": _uuid(rng), "received_at": written(at), "client_id": decision.client_id,
                "service": decision.service, "card_uuid": card.uuid, "outcome": outcome,
                "outcome_at": at.isoformat(timespec="microseconds"),
                "suggestions": orjson.dumps(list(card.suggestions) if accepted else []).decode(),
                "reason_code": code or None, "reason_system": "https://ehr.example/reasons" if code else None,
                "reason_display": display or None, "reason_extension": None, "comment": None, "comment_cut": False,
            }  # fmt: skip


def _uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def main() -> None:
    """Seed the database of the URL, with its tables made where they are not there."""
    began = time.perf_counter()
    database = Database(sys.argv[1])
    upgrade(database)
    print(seed(database, int(sys.argv[2])), f"in {time.perf_counter() - began:.1f} s")
    database.close()


if __name__ == "__main__":
    main()
