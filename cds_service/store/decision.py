"""A decision as the log keeps it: outcomes, cards and how each input arrived; no name, no value of a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

FETCHED = " (fetched)"  # ends the state of an input that was not sent along and was asked of the FHIR server


class CardShown(Struct, frozen=True, kw_only=True):
    """A card as it was given. ``rules``: id and version; ``workups``: id and urgency; ``digest``: of its JSON."""

    uuid: str
    family: str
    indicator: str
    rules: Sequence[Mapping[str, str]]
    workups: Sequence[Mapping[str, str]]
    suggestions: Sequence[str]
    digest: str

    def row(self) -> dict[str, str]:
        """The card as a row of ``cards``, without its decision."""
        return {
            "card_uuid": self.uuid,
            "family": self.family,
            "indicator": self.indicator,
            "rules": _text(self.rules),
            "workups": _text(self.workups),
            "suggestions": _text(self.suggestions),
            "digest": self.digest,
        }


class Decision(Struct, frozen=True, kw_only=True):
    """One decision. ``outcomes``: rule id → outcome (marked if silent); ``inputs``: key → state (marked if FETCHED);
    ``kept``: to seal.

    Only counted: ``missing``, what each rule waited for; ``unread``, pairs of what was not understood (uncoded,
    unknown-code, unknown-unit, unreadable) and our word, system|code, unit or reason.
    """

    decided_at: str
    request_id: str
    client_id: str
    service: str
    hook_instance: str
    as_of: str
    rule_set_version: str
    rule_set_hash: str
    outcomes: Mapping[str, str]
    inputs: Mapping[str, str]
    cards: Sequence[CardShown]
    kept: bytes | None = None
    pseudonym: str = ""
    missing: Mapping[str, Sequence[str]] = {}
    unread: Sequence[tuple[str, str]] = ()

    def row(self) -> dict[str, Any]:
        """The decision as a row of ``decisions``, without its place in the chain."""
        return {
            "decided_at": self.decided_at,
            "request_id": self.request_id,
            "client_id": self.client_id,
            "service": self.service,
            "hook_instance": self.hook_instance.replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL refuses NUL
            "as_of": self.as_of,
            "rule_set_version": self.rule_set_version,
            "rule_set_hash": self.rule_set_hash,
            "outcomes": _text(self.outcomes),
            "inputs": _text(self.inputs),
            "card_uuids": _text([card.uuid for card in self.cards]),
            "pseudonym": self.pseudonym,
        }


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
