"""The infants behind a number of an audit's summary, found in its rows by the way the number was counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import orjson
from msgspec import Struct

from cds_service.population.attrition import (
    DONE,
    EXCLUDED,
    NO_FINDING,
    NOT_EVALUABLE,
    NOT_EVALUATED,
    OTHER_AGE,
    RANK,
    URGENCY_RANK,
    cause,
)
from cds_service.population.finished import BrokenOutput

EVALUATIONS = "evaluations.ndjson"
NO_CARD, DECEASED = "none", "deceased"


class _Workup(Struct, gc=False):
    id: str
    urgency: str
    takenCareOf: str


class _Rule(Struct, gc=False):
    rule: str
    stage: str
    missing: list[str]
    workups: list[_Workup]
    decidedBy: list[str] = []


class _Card(Struct, gc=False):
    family: str
    urgency: str


class Infant(Struct, gc=False):
    """What a row says, as far as numbers are counted of it; the evidence is passed over."""

    patient: str
    status: str
    why: str = ""
    age: str = ""
    stage: str = NOT_EVALUATED
    rules: list[_Rule] = []
    cards: list[_Card] = []
    otherAge: list[str] | None = None


class Wanted(NamedTuple):
    """Which infants: all that is said here holds of each. ``card``: their most urgent one; ``why``: not evaluated."""

    rule: str = ""
    stage: str = ""
    age: str = ""
    document: str = ""
    workup: str = ""
    urgency: str = ""
    family: str = ""
    card: str = ""
    missing: str = ""
    excluded_by: str = ""
    why: str = ""


class Found(NamedTuple):
    """How many they are, the rows of those asked for, and how many infants were looked at."""

    number: int
    rows: list[bytes]
    all: int


def find(rows: Iterable[bytes], wanted: Wanted, documents: Mapping[str, str], skip: int, take: int) -> Found:
    """Count them all; ``documents`` says of each rule its document. Raises BrokenOutput for a row that is none."""
    number, kept = 0, list[bytes]()
    decode = msgspec.json.Decoder(Infant).decode
    signs = signs_of(wanted)
    place, line = 0, b"\n"
    for place, line in enumerate(rows, 1):
        for sign in signs:
            if sign not in line:
                break
        else:
            try:
                infant = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise BrokenOutput(f"Line {place} of {EVALUATIONS} is not as an audit writes it.") from None
            if infant.status == "evaluated" and infant.otherAge is None:
                raise BrokenOutput(f"{EVALUATIONS} was written by an earlier version. Run the audit again.")
            if is_wanted(infant, wanted, documents):
                number += 1
                if skip < number <= skip + take:
                    kept.append(line)
    if not line.endswith(b"\n"):
        raise BrokenOutput(f"{EVALUATIONS} is cut short: line {place} has no end.")
    return Found(number, kept, place)


def signs_of(wanted: Wanted) -> list[bytes]:
    """Bytes that stand in the row of every infant who is wanted, so that most rows need no decoding."""
    said = {"age": wanted.age, "why": "" if wanted.why == DECEASED else wanted.why, "family": wanted.family,
            "id": wanted.workup, "urgency": wanted.card if wanted.card != NO_CARD else ""}  # fmt: skip
    if wanted.stage not in (NOT_EVALUATED, NO_FINDING, OTHER_AGE):
        said |= {"rule": wanted.rule, "stage": wanted.stage}
    elif not wanted.rule and not wanted.document and wanted.stage != NOT_EVALUATED:
        said["stage"] = wanted.stage
    return [b'"%b":%b' % (key.encode(), orjson.dumps(value)) for key, value in said.items() if value]


def is_wanted(infant: Infant, wanted: Wanted, documents: Mapping[str, str]) -> bool:
    """Whether the infant is one of them."""
    rules = [rule for rule in infant.rules if rule.rule == wanted.rule] if wanted.rule else infant.rules
    return (
        wanted.age in ("", infant.age)
        and (not wanted.why or _why(infant) == wanted.why)
        and (not wanted.stage or _stage(infant, wanted, documents) == wanted.stage)
        and (not wanted.rule or bool(rules) or bool(wanted.stage))
        and (not wanted.missing or any(_lacks(rule, wanted.missing) for rule in rules))
        and (not wanted.excluded_by or any(_excluded(rule, wanted.excluded_by) for rule in rules))
        and (not wanted.workup or _asked(rules, wanted))
        and (not wanted.family or _has_card(infant, wanted))
        and (not wanted.card or wanted.card == (infant.cards[0].urgency if infant.cards else _no_card(infant)))
    )


def _why(infant: Infant) -> str:
    return infant.why or ("" if infant.status == "evaluated" else infant.status)


def _no_card(infant: Infant) -> str:
    return NO_CARD if infant.status == "evaluated" else ""


def _stage(infant: Infant, wanted: Wanted, documents: Mapping[str, str]) -> str:
    if infant.status != "evaluated":
        return NOT_EVALUATED if not wanted.document else ""
    said = {rule.rule: rule.stage for rule in infant.rules}
    if wanted.rule:
        return _silent(infant, wanted.rule, said) if wanted.rule in documents else ""
    if wanted.document:
        stages = [_silent(infant, rule, said) for rule, document in documents.items() if document == wanted.document]
        return max(stages, key=RANK.__getitem__, default="")
    return infant.stage


def _silent(infant: Infant, rule: str, said: Mapping[str, str]) -> str:
    return said.get(rule) or (OTHER_AGE if rule in (infant.otherAge or ()) else NO_FINDING)


def _lacks(rule: _Rule, what: str) -> bool:
    return rule.stage == NOT_EVALUABLE and any(cause(item) == what for item in rule.missing)


def _excluded(rule: _Rule, by: str) -> bool:
    return rule.stage == EXCLUDED and by in rule.decidedBy


def _asked(rules: Iterable[_Rule], wanted: Wanted) -> bool:
    """Whether it is asked for; an infant counts where the most urgent of the rules has it, done only if all say so."""
    found = [DONE if item.takenCareOf == "true" else item.urgency
             for rule in rules for item in rule.workups if item.id == wanted.workup]  # fmt: skip
    most = max(found, key=lambda word: URGENCY_RANK.get(word, 0), default="")
    return bool(found) and wanted.urgency in ("", most)


def _has_card(infant: Infant, wanted: Wanted) -> bool:
    return any(card.family == wanted.family and wanted.urgency in ("", card.urgency) for card in infant.cards)
