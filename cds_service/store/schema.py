"""The tables. What they keep and for how long: docs/store.md. Changed only together with a migration.

``client_id`` is the caller's, and empty where callers are not told apart (the sandbox). Times are ISO 8601 in
UTC with a fixed number of digits, so that text order is time order.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

REVISIONS = ("0001", "0002", "0003")  # oldest first; the last is the schema that this software reads and writes
NUMBER = BigInteger().with_variant(Integer, "sqlite")
metadata = MetaData()

chains = Table(
    "chains",
    metadata,
    Column("writer", String(36), primary_key=True),
    Column("after", String(36), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("last_seq", NUMBER, nullable=False),
    Column("last_hash", String(64), nullable=False),
    Column("anchor_seq", NUMBER, nullable=False),
    Column("anchor_hash", String(64), nullable=False),
)
decisions = Table(
    "decisions",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("writer", String(36), nullable=False),
    Column("seq", NUMBER, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("decided_at", String(32), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("client_id", String(200), nullable=False),
    Column("service", String(64), nullable=False),
    Column("hook_instance", String(256), nullable=False),
    Column("as_of", String(30), nullable=False),
    Column("rule_set_version", String(20), nullable=False),
    Column("rule_set_hash", String(64), nullable=False),
    Column("outcomes", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("card_uuids", Text, nullable=False),
    Column("cards_digest", String(64), nullable=False),
    Column("kept_digest", String(64), nullable=False),
    Column("pseudonym", String(32), nullable=False, server_default=""),
    UniqueConstraint("writer", "seq", name="decisions_place"),
    Index("decisions_time", "decided_at"),
    Index("decisions_pseudonym", "pseudonym", "decided_at"),
    Index("decisions_client", "client_id", "decided_at"),
    Index("decisions_request", "request_id"),
)
cards = Table(
    "cards",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("writer", String(36), nullable=False),
    Column("seq", NUMBER, nullable=False),
    Column("place", Integer, nullable=False),
    Column("card_uuid", String(256), nullable=False),
    Column("client_id", String(200), nullable=False),
    Column("decided_at", String(32), nullable=False),
    Column("family", String(64), nullable=False),
    Column("indicator", String(16), nullable=False),
    Column("rules", Text, nullable=False),
    Column("workups", Text, nullable=False),
    Column("suggestions", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    ForeignKeyConstraint(["writer", "seq"], ["decisions.writer", "decisions.seq"], name="cards_decision"),
    UniqueConstraint("writer", "seq", "place", name="cards_place"),
    Index("cards_uuid", "card_uuid", "client_id"),
    Index("cards_time", "decided_at"),
)
# Derived from the decisions so that they are found and counted fast; no hash covers these two. The key of the counts
# is in the order in which they are summed: month by month (``month`` is the day's), so that old months are not read.
rule_outcomes = Table(
    "rule_outcomes",
    metadata,
    Column("rule", String(200), primary_key=True),
    Column("outcome", String(40), primary_key=True),
    Column("decided_at", String(32), primary_key=True),
    Column("writer", String(36), primary_key=True),
    Column("seq", NUMBER, primary_key=True),
    Index("rule_outcomes_place", "writer", "seq"),
    sqlite_with_rowid=False,
)
daily_counts = Table(
    "daily_counts",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("detail", String(200), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("client_id", String(200), primary_key=True),
    Column("rule_set", String(40), primary_key=True),
    Column("count", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)
kept_inputs = Table(
    "kept_inputs",
    metadata,
    Column("writer", String(36), primary_key=True),
    Column("seq", NUMBER, primary_key=True),
    Column("decided_at", String(32), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    ForeignKeyConstraint(["writer", "seq"], ["decisions.writer", "decisions.seq"], name="kept_inputs_decision"),
    Index("kept_inputs_time", "decided_at"),
)
feedback = Table(
    "feedback",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("identity", String(64), nullable=False, unique=True),
    Column("received_at", String(32), nullable=False),
    Column("client_id", String(200), nullable=False),
    Column("service", String(64), nullable=False),
    Column("card_uuid", String(256), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("outcome_at", String(32), nullable=False),
    Column("suggestions", Text, nullable=False),
    Column("reason_code", String(256)),
    Column("reason_system", String(512)),
    Column("reason_display", String(256)),
    Column("reason_extension", Text),
    Column("comment", Text),
    Column("comment_cut", Boolean, nullable=False),
    Index("feedback_card", "card_uuid", "client_id"),
    Index("feedback_time", "received_at"),
)
clients = Table(
    "clients",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("changed_at", String(32), nullable=False),
)
seen_tokens = Table(
    "seen_tokens",
    metadata,
    Column("client_id", String(200), primary_key=True),
    Column("jti", String(256), primary_key=True),
    Column("expires", NUMBER, nullable=False),
    Index("seen_tokens_expiry", "expires"),
)
# ``lifted_at`` is empty while the rule is stopped: of several who stop it at once, one does.
rule_stops = Table(
    "rule_stops",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("rule", String(200), nullable=False),
    Column("stopped_at", String(32), nullable=False),
    Column("stopped_by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("lifted_at", String(32), nullable=False),
    Column("lifted_by", String(200), nullable=False),
    Column("lift_reason", Text, nullable=False),
    UniqueConstraint("rule", "lifted_at", name="rule_stops_open"),
)
desk_log = Table(
    "desk_log",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("who", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("method", String(8), nullable=False),
    Column("route", String(200), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("status", Integer, nullable=False),
    Index("desk_log_time", "at"),
)
