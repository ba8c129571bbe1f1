"""Decisions in chains, cards shown, inputs kept, feedback, clients, tokens seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables. A log of before the first release has no chain: it is set aside, not lost."""
    if sa.inspect(op.get_bind()).has_table("decisions"):
        op.rename_table("decisions", "decisions_before_0001")
    op.create_table(
        "chains",
        sa.Column("writer", sa.String(36), primary_key=True),
        sa.Column("after", sa.String(36), nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("last_seq", NUMBER, nullable=False),
        sa.Column("last_hash", sa.String(64), nullable=False),
        sa.Column("anchor_seq", NUMBER, nullable=False),
        sa.Column("anchor_hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("writer", sa.String(36), nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("decided_at", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("hook_instance", sa.String(256), nullable=False),
        sa.Column("as_of", sa.String(30), nullable=False),
        sa.Column("rule_set_version", sa.String(20), nullable=False),
        sa.Column("rule_set_hash", sa.String(64), nullable=False),
        sa.Column("outcomes", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("card_uuids", sa.Text, nullable=False),
        sa.Column("cards_digest", sa.String(64), nullable=False),
        sa.Column("kept_digest", sa.String(64), nullable=False),
        sa.UniqueConstraint("writer", "seq", name="decisions_place"),
    )
    op.create_index("decisions_time", "decisions", ["decided_at"])
    op.create_table(
        "cards",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("writer", sa.String(36), nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("card_uuid", sa.String(256), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("decided_at", sa.String(32), nullable=False),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("indicator", sa.String(16), nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("workups", sa.Text, nullable=False),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["writer", "seq"], ["decisions.writer", "decisions.seq"], name="cards_decision"),
        sa.UniqueConstraint("writer", "seq", "place", name="cards_place"),
    )
    op.create_index("cards_uuid", "cards", ["card_uuid", "client_id"])
    op.create_table(
        "kept_inputs",
        sa.Column("writer", sa.String(36), primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True),
        sa.Column("decided_at", sa.String(32), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["writer", "seq"], ["decisions.writer", "decisions.seq"], name="kept_inputs_decision"),
    )
    op.create_index("kept_inputs_time", "kept_inputs", ["decided_at"])
    op.create_table(
        "feedback",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("identity", sa.String(64), nullable=False, unique=True),
        sa.Column("received_at", sa.String(32), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("card_uuid", sa.String(256), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("outcome_at", sa.String(32), nullable=False),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("reason_code", sa.String(256)),
        sa.Column("reason_system", sa.String(512)),
        sa.Column("reason_display", sa.String(256)),
        sa.Column("reason_extension", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("comment_cut", sa.Boolean, nullable=False),
    )
    op.create_index("feedback_card", "feedback", ["card_uuid", "client_id"])
    op.create_index("feedback_time", "feedback", ["received_at"])
    op.create_table(
        "clients",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "seen_tokens",
        sa.Column("client_id", sa.String(200), primary_key=True),
        sa.Column("jti", sa.String(256), primary_key=True),
        sa.Column("expires", NUMBER, nullable=False),
    )
    op.create_index("seen_tokens_expiry", "seen_tokens", ["expires"])
