"""What the commands on the store print: listed columns only, nothing that steers a terminal; what prune removes."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import insert, select
from test_store import run

from cds_service.store.database import Database
from cds_service.store.feedback import FeedbackStore
from cds_service.store.schema import feedback, seen_tokens
from cds_service.store.seen_tokens import SeenTokens

STATEMENT: dict[str, Any] = {
    "identity": "i", "received_at": "2026-11-20T10:00:00.000+00:00", "client_id": "ehr", "service": "s",
    "card_uuid": "c", "outcome": "overridden", "outcome_at": "2026-11-20T10:00:00Z", "suggestions": "[]",
    "comment_cut": False,
}  # fmt: skip
TOLD = {
    "received_at", "client_id", "service", "card_uuid", "outcome", "outcome_at", "suggestions", "reason_code",
    "reason_system", "reason_display", "comment_cut", "family", "indicator", "rules", "workups", "decided_at",
    "request_id", "rule_set_version", "rule_set_hash", "commented", "extended",
}  # fmt: skip


def keep(database: Database, **more: Any) -> None:
    with database.writing() as connection:
        connection.execute(insert(feedback), [STATEMENT | more])


def test_feedback_as_json_has_the_listed_columns_and_no_free_text(url: str, database: Database) -> None:
    keep(database, comment="CANARY", reason_extension='{"title":"CANARY"}', reason_code="seen")
    code, output = run("feedback", "--json", url=url)
    told = json.loads(output)
    assert (code, set(told), "CANARY" in output) == (0, TOLD, False)
    assert (told["commented"], told["extended"], told["reason_code"]) == (True, True, "seen")


def test_a_column_that_is_new_is_not_told_unless_listed(url: str, database: Database, monkeypatch: Any) -> None:
    keep(database)
    joined = FeedbackStore.joined
    monkeypatch.setattr(
        FeedbackStore, "joined", lambda *given: ({**row, "patient": "CANARY"} for row in joined(*given))
    )
    code, output = run("feedback", "--json", url=url)
    assert (code, set(json.loads(output)), "CANARY" in output) == (0, TOLD, False)


def test_what_a_caller_wrote_cannot_steer_the_terminal(url: str, database: Database) -> None:
    keep(database, reason_code="a\x1b[2J\x07\x9b31m\u202eb\x7f")
    code, table = run("feedback", url=url, COLUMNS="120")
    assert (code, "a�[2J��31m�b� 1" in table) == (0, True)
    assert all(sign.isprintable() for sign in table.replace("\n", ""))
    code, line = run("feedback", "--json", url=url)
    assert (code, all(sign.isprintable() for sign in line.replace("\n", ""))) == (0, True)


def test_prune_forgets_the_tokens_that_have_expired(url: str, database: Database) -> None:
    seen = SeenTokens(database)
    assert seen.use("ehr", "old", 1) and seen.use("ehr", "young", 2**40)
    code, output = run("db", "prune", "--keep-days", "30", url=url)
    removed = "removed 0 decisions, 0 kept inputs, 0 feedback, 1 expired token ids, 0 looks at the desk\n"
    assert (code, output) == (0, removed)
    with database.reading() as connection:
        assert connection.execute(select(seen_tokens.c.jti)).scalars().all() == ["young"]
