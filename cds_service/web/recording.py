"""What is logged of a call, and for whom: outcomes, cards, how each input arrived; nothing that names the patient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from flask import g

from cds_service.hooks.cards import BASIS
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.hooks.request import HookRequest
from cds_service.hooks.respond import HookResponse
from cds_service.record.patient_record import Facts
from cds_service.record.times import iso
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome
from cds_service.store.chain import digest
from cds_service.store.decision import FETCHED, CardShown, Decision
from cds_service.store.period import written
from cds_service.store.pseudonyms import pseudonym

WITHOUT_BLANK = re.compile("[!-~]{1,120}")
MOST_UNREAD = 20


def client_id() -> str:
    """The id of the client that calls; empty where callers are not told apart."""
    client = g.get("client")
    return "" if client is None else str(client.id)


def decision_of(
    hook_request: HookRequest, response: HookResponse, library: RuleLibrary, request_id: str, now: datetime,
    kept: bytes | None = None, pseudonym_key: bytes | None = None,
) -> Decision:  # fmt: skip
    """What the decision log keeps of a call. ``kept``: the input, where the settings say that it is kept."""
    caller = client_id()
    return Decision(
        decided_at=written(now),
        request_id=request_id,
        client_id=caller,
        service=SERVICE_ID,
        hook_instance=hook_request.hook_instance,
        as_of=iso(response.record.as_of),
        rule_set_version=library.reading.pack_version,
        rule_set_hash=library.hash,
        outcomes=library.outcomes(response.evaluated),
        inputs={key: state + FETCHED if key in response.fetched else state for key, state in response.inputs.items()},
        cards=[card_shown(card) for card in response.body["cards"]],
        kept=kept,
        pseudonym=pseudonym(pseudonym_key, caller, hook_request.patient_id) if pseudonym_key is not None else "",
        missing={e.rule.id: e.missing for e in response.pertinent if e.outcome is Outcome.DATA_REQUIRED},
        unread=unread_of(response.record.facts),
    )


def unread_of(facts: Facts) -> Sequence[tuple[str, str]]:
    """What was not understood, each once: our words for texts, codes and units as written, our reasons.

    A code or a unit with a blank in it is a text, which may speak of the patient: it is left out.
    """
    unknown_units = [lab.unknown_unit for results in facts.labs.values() for lab in results if lab.unknown_unit]
    if not (facts.uncoded or facts.unknown_codes or unknown_units or facts.unreadable):
        return ()
    codes = [f"{system}|{code}" for system, code in facts.unknown_codes]
    found = [("uncoded", text.word) for text in facts.uncoded]
    found += [("unknown-code", code) for code in codes if WITHOUT_BLANK.fullmatch(code)]
    found += [("unknown-unit", unit) for unit in unknown_units if WITHOUT_BLANK.fullmatch(unit)]
    found += [("unreadable", item.reason) for item in facts.unreadable]
    return list(dict.fromkeys(found))[:MOST_UNREAD]


def card_shown(card: Mapping[str, Any]) -> CardShown:
    """What the log keeps of a card: what it asks and why, not what it says of the patient."""
    basis = card["extension"][BASIS]
    return CardShown(
        uuid=card["uuid"],
        family=card["source"]["topic"]["code"],
        indicator=card["indicator"],
        rules=basis["rules"],
        workups=basis["workups"],
        suggestions=[suggestion["uuid"] for suggestion in card.get("suggestions", ())],
        digest=digest(orjson.dumps(card)),
    )
