"""The hash chain covers every column, so that none can be changed unseen: also one that is added later."""

from __future__ import annotations

import pytest
from test_store import DECISION

from cds_service.store.append import batch_of, new_chain
from cds_service.store.chain import cards_digest, hash_of
from cds_service.store.schema import cards, decisions

(ROW,) = batch_of([DECISION], new_chain(), None).decisions
(CARD,) = batch_of([DECISION], new_chain(), None).cards
PLACE = ("id", "writer", "seq")  # of a card: by writer and seq it is found, and its digest is in that decision's hash


def test_the_rows_have_the_columns_of_their_tables() -> None:
    assert set(ROW) == {column.name for column in decisions.c} - {"id"}
    assert set(CARD) == {column.name for column in cards.c} - {"id"}


@pytest.mark.parametrize("name", [column.name for column in decisions.c if column.name not in ("id", "hash")])
def test_a_change_to_any_column_of_a_decision_changes_its_hash(name: str) -> None:
    assert hash_of(ROW | {name: "changed"}) != hash_of(ROW) == ROW["hash"]


@pytest.mark.parametrize("name", [column.name for column in cards.c if column.name not in PLACE])
def test_a_change_to_any_column_of_a_card_changes_their_digest(name: str) -> None:
    assert cards_digest([CARD | {name: "changed"}]) != cards_digest([CARD]) == ROW["cards_digest"]
