"""One decision with all that is kept of it: cards, what was said of each, and its input if that can be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select

from cds_service.store import available
from cds_service.store.append import place_of
from cds_service.store.database import Database
from cds_service.store.schema import cards, decisions, feedback, kept_inputs
from cds_service.store.sealed_inputs import InputKeys, Sealed, UnreadableInput

NOT_KEPT = "its input was not kept, or was removed when its time was over"
NO_KEY = "its input is kept sealed, and this service has no key to open it (CDS_INPUTS_KEY)"


class Said(NamedTuple):
    """A statement on a card. ``comment`` is a clinician's and may speak of the patient."""

    received_at: str
    outcome: str
    outcome_at: str
    suggestions: Sequence[str]
    reason_code: str | None
    reason_system: str | None
    reason_display: str | None
    comment: str | None
    comment_cut: bool


class GivenCard(NamedTuple):
    """A card as the log has it. ``digest``: of the JSON that was sent, which is not kept itself."""

    uuid: str
    place: int
    family: str
    indicator: str
    rules: Sequence[Mapping[str, str]]
    workups: Sequence[Mapping[str, str]]
    suggestions: Sequence[str]
    digest: str
    feedback: tuple[Said, ...]


class StoredDecision(NamedTuple):
    """A decision. ``kept``: the input as hooks.kept_request wrote it; None, and ``why_not`` says why."""

    id: int
    writer: str
    seq: int
    hash: str
    prev_hash: str
    decided_at: str
    request_id: str
    client_id: str
    pseudonym: str
    service: str
    hook_instance: str
    as_of: str
    rule_set_version: str
    rule_set_hash: str
    outcomes: Mapping[str, str]
    inputs: Mapping[str, str]
    cards: tuple[GivenCard, ...]
    kept: bytes | None
    why_not: str


def decision(database: Database, id: int, keys: InputKeys | None) -> StoredDecision | None:
    """The decision of this number; None when there is none. Raises StoreUnavailable."""
    return _one(database, decisions.c.id == id, keys)


def decision_by_request(database: Database, request_id: str, keys: InputKeys | None) -> StoredDecision | None:
    """The newest decision of this request id, which a caller may have given twice. Raises StoreUnavailable."""
    return _one(database, decisions.c.request_id == request_id, keys)


def _one(database: Database, wanted: ColumnElement[bool], keys: InputKeys | None) -> StoredDecision | None:
    same = and_(kept_inputs.c.writer == decisions.c.writer, kept_inputs.c.seq == decisions.c.seq)
    query = select(decisions, kept_inputs.c.key_id, kept_inputs.c.sealed).outerjoin(kept_inputs, same)
    with available.reading(database) as connection:
        query = query.where(wanted).order_by(decisions.c.id.desc()).limit(1)
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        given = _cards(connection, row)
    kept, why_not = _opened(row, keys)
    read = {name: row[name] for name in StoredDecision._fields[:14]}
    outcomes, inputs = orjson.loads(row["outcomes"]), orjson.loads(row["inputs"])
    return StoredDecision(**read, outcomes=outcomes, inputs=inputs, cards=given, kept=kept, why_not=why_not)


def _opened(row: RowMapping, keys: InputKeys | None) -> tuple[bytes | None, str]:
    if row["sealed"] is None:
        return None, NOT_KEPT
    if keys is None:
        return None, NO_KEY
    try:
        return keys.open(Sealed(row["key_id"], bytes(row["sealed"])), place_of(row["writer"], row["seq"])), ""
    except UnreadableInput as problem:
        return None, str(problem)


def _cards(connection: Connection, row: RowMapping) -> tuple[GivenCard, ...]:
    """The decision's cards in their order, each with the statements of its client on it, oldest first."""
    mine = select(cards).where(cards.c.writer == row["writer"], cards.c.seq == row["seq"]).order_by(cards.c.place)
    rows = connection.execute(mine).mappings().all()
    query = select(feedback).where(
        feedback.c.card_uuid.in_([card["card_uuid"] for card in rows]), feedback.c.client_id == row["client_id"]
    )
    said: dict[str, list[Said]] = {}
    for statement in connection.execute(query.order_by(feedback.c.outcome_at, feedback.c.id)).mappings():
        said.setdefault(statement["card_uuid"], []).append(_said(statement))
    return tuple(
        GivenCard(
            card["card_uuid"], card["place"], card["family"], card["indicator"], _list(card["rules"]),
            _list(card["workups"]), _list(card["suggestions"]), card["digest"], tuple(said.get(card["card_uuid"], ())),
        )
        for card in rows
    )  # fmt: skip


def _said(row: RowMapping) -> Said:
    read: dict[str, Any] = {name: row[name] for name in Said._fields}
    return Said(**read | {"suggestions": _list(row["suggestions"])})


def _list(text: str) -> Sequence[Any]:
    return orjson.loads(text)  # type: ignore[no-any-return]
