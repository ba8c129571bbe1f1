"""Pseudonyms; outcomes by rule and counts by day, made for the decisions that are there; stops and the desk's log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STEP = 500


def upgrade() -> None:
    """Add what the audit desk reads. No row that is there is changed."""
    op.add_column("decisions", sa.Column("pseudonym", sa.String(32), nullable=False, server_default=""))
    op.create_index("decisions_pseudonym", "decisions", ["pseudonym", "decided_at"])
    op.create_index("decisions_client", "decisions", ["client_id", "decided_at"])
    op.create_index("decisions_request", "decisions", ["request_id"])
    op.create_index("cards_time", "cards", ["decided_at"])
    rule_outcomes = op.create_table(
        "rule_outcomes",
        sa.Column("rule", sa.String(200), primary_key=True),
        sa.Column("outcome", sa.String(40), primary_key=True),
        sa.Column("decided_at", sa.String(32), primary_key=True),
        sa.Column("writer", sa.String(36), primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("rule_outcomes_place", "rule_outcomes", ["writer", "seq"])
    daily_counts = op.create_table(
        "daily_counts",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("client_id", sa.String(200), primary_key=True),
        sa.Column("rule_set", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("detail", sa.String(200), primary_key=True),
        sa.Column("count", NUMBER, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rule_stops",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("stopped_at", sa.String(32), nullable=False),
        sa.Column("stopped_by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("lifted_at", sa.String(32), nullable=False),
        sa.Column("lifted_by", sa.String(200), nullable=False),
        sa.Column("lift_reason", sa.Text, nullable=False),
        sa.UniqueConstraint("rule", "lifted_at", name="rule_stops_open"),
    )
    op.create_table(
        "desk_log",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("route", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
    )
    op.create_index("desk_log_time", "desk_log", ["at"])
    _derive(op.get_bind(), rule_outcomes, daily_counts)


def _derive(connection: sa.Connection, rule_outcomes: sa.Table, daily_counts: sa.Table) -> None:
    """Outcomes and counts of the decisions that were logged before; what they lacked to be read was not kept."""
    counts: Counter[tuple[str, ...]] = Counter()
    at = 0
    while True:
        page = sa.text(
            "SELECT id, writer, seq, decided_at, client_id, rule_set_version, rule_set_hash, outcomes, inputs,"
            " card_uuids FROM decisions WHERE id > :at ORDER BY id LIMIT :step"
        )
        rows = connection.execute(page, {"at": at, "step": STEP}).mappings().all()
        if not rows:
            break
        at = rows[-1]["id"]
        spoken = []
        for row in rows:
            outcomes = {
                rule: outcome
                for rule, outcome in json.loads(row["outcomes"]).items()
                if not outcome.startswith("not-applicable")
            }
            spoken += [
                {"rule": rule, "outcome": outcome} | {name: row[name] for name in ("decided_at", "writer", "seq")}
                for rule, outcome in outcomes.items()
            ]
            counted = [("rule", rule, outcome) for rule, outcome in outcomes.items()]
            counted += [("state", key, state) for key, state in json.loads(row["inputs"]).items()]
            counted.append(("views", "", "with-card" if json.loads(row["card_uuids"]) else "silent"))
            counts.update((key[0], *_place(row), *key[1:]) for key in counted)
        if spoken:
            connection.execute(sa.insert(rule_outcomes), spoken)
    cards = sa.text(
        "SELECT decisions.decided_at, decisions.client_id, rule_set_version, rule_set_hash, family, indicator, rules,"
        " workups FROM cards JOIN decisions ON decisions.writer = cards.writer AND decisions.seq = cards.seq"
    )
    for row in connection.execute(cards).mappings():
        counts.update((key[0], *_place(row), *key[1:]) for key in _of_card(row))
    names = [column.name for column in daily_counts.primary_key]
    rows_of_counts = [dict(zip(names, key, strict=True)) | {"count": count} for key, count in sorted(counts.items())]
    if rows_of_counts:
        connection.execute(sa.insert(daily_counts), rows_of_counts)


def _place(row: sa.RowMapping) -> tuple[str, str, str]:
    return row["decided_at"][:10], row["client_id"], f"{row['rule_set_version']} {row['rule_set_hash'][:12]}"


def _of_card(card: sa.RowMapping) -> Iterable[tuple[str, str, str]]:
    yield "card", card["family"], card["indicator"]
    yield from (("workup", workup["id"], workup["urgency"]) for workup in json.loads(card["workups"]))
    yield from (("shown", rule["id"], card["indicator"]) for rule in json.loads(card["rules"]))
