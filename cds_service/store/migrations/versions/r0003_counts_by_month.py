"""The daily counts in the order in which they are summed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = ["kind", "month", "name", "detail", "day", "client_id", "rule_set"]


def upgrade() -> None:
    """Give each count its month, and the table a key that begins with kind and month. No count is changed."""
    if op.get_bind().dialect.name == "postgresql":  # in place, so that what is granted on the table stays granted
        op.add_column("daily_counts", sa.Column("month", sa.String(7)))
        op.execute("UPDATE daily_counts SET month = substr(day, 1, 7)")
        op.drop_constraint("daily_counts_pkey", "daily_counts", type_="primary")
        op.create_primary_key("daily_counts_pkey", "daily_counts", KEY)
        return
    op.rename_table("daily_counts", "daily_counts_before_0003")  # SQLite cannot change a key
    op.create_table(
        "daily_counts",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("detail", sa.String(200), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("client_id", sa.String(200), primary_key=True),
        sa.Column("rule_set", sa.String(40), primary_key=True),
        sa.Column("count", NUMBER, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO daily_counts (kind, month, name, detail, day, client_id, rule_set, count) SELECT kind,"
        " substr(day, 1, 7), name, detail, day, client_id, rule_set, count FROM daily_counts_before_0003"
    )
    op.drop_table("daily_counts_before_0003")
