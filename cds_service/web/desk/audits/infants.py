"""Infants of an audit as people see them: as pseudonyms, with the evidence, without birth date or id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from cds_service.hooks.respond import HookResponse
from cds_service.population.finished import BrokenOutput, Output
from cds_service.population.infants_found import EVALUATIONS
from cds_service.record.facts import Evidence
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome
from cds_service.store.pseudonyms import pseudonym
from cds_service.web.desk.card_view import CardView, card_view
from cds_service.web.desk.hidden import without_patient
from cds_service.web.desk.tables import Column, Table
from cds_service.web.desk.trace import Shown, Writer

CLIENT = "cds-service audit"  # in the place of a client: an export has none, and its ids are nobody else's
SOME = 12  # pieces of evidence in a row of a page; its twins have all
_START = b'{"patient":"'


class StoredReason(NamedTuple):
    """A criterion as the output has it."""

    criterion: str
    answer: str
    shown: tuple[Shown, ...]
    missing: tuple[str, ...]


class StoredRule(NamedTuple):
    """A rule as the output has it."""

    rule: str
    title: str
    version: str
    outcome: str
    stage: str
    missing: tuple[str, ...]
    reasons: tuple[StoredReason, ...]
    workups: tuple[tuple[str, str, str, tuple[Shown, ...]], ...]


class StoredInfant(NamedTuple):
    """An infant as the output has them; ``patient`` is for finding more and stands on no page."""

    patient: str
    row: Mapping[str, Any]
    rules: tuple[StoredRule, ...]
    cards: tuple[CardView, ...]


def pseudonym_of(key: bytes, patient: str) -> str:
    """The infant's pseudonym: the same in every audit of this service."""
    return pseudonym(key, CLIENT, patient)


def infants_table(
    lines: Sequence[bytes], key: bytes, rule: str, library: RuleLibrary, urls: Mapping[str, str], most: int | None
) -> Table:
    """The rows for people. ``urls``: the address of an infant, with PSEUDONYM in its place; ``most`` evidence a row."""
    columns = (
        Column("infant", "Infant", link="url"), Column("age", "Age"), Column("stage", "Left at"),
        Column("card", "Most urgent card"), Column("rules", "Recommended by"), Column("workups", "Workup"),
        Column("evidence", "Evidence"), Column("missing", "Missing, or why not evaluated"),
    )  # fmt: skip
    rows = [_row(line, key, rule, library, urls, most) for line in lines]
    return Table("infants", "Infants", columns, rows, searched=False, empty="No infant.")


def _row(
    line: bytes, key: bytes, rule: str, library: RuleLibrary, urls: Mapping[str, str], most: int | None
) -> dict[str, Any]:
    try:
        said = orjson.loads(line)
        patient = said["patient"]
        own = pseudonym_of(key, patient)
        row = {"infant": own, "url": urls["infant"].replace("PSEUDONYM", own)}
        if said["status"] != "evaluated":
            return row | {"stage": "not evaluated", "missing": [said.get("why", said["status"])], "age": "", "card": "",
                          "rules": [], "workups": [], "evidence": []}  # fmt: skip
        writer = Writer(library, patient)
        spoken = [item for item in said["rules"] if item["outcome"] == Outcome.RECOMMENDED.value]
        chosen = [item for item in said["rules"] if item["rule"] == rule] if rule else spoken
        facts = [fact for item in chosen for reason in item["reasons"] for fact in _shown(reason["evidence"], writer)]
        evidence = list(dict.fromkeys(map(_words, facts)))
        if most is not None and len(evidence) > most:
            evidence = [*evidence[:most], f"and {len(evidence) - most} more"]
        stage = next((item["stage"] for item in chosen), said["stage"]) if rule else said["stage"]
        return row | {
            "age": said["age"], "stage": stage, "card": said["cards"][0]["urgency"] if said["cards"] else "none",
            "rules": [item["rule"] for item in spoken],
            "workups": list(dict.fromkeys(f"{w['id']} ({w['urgency']})" for item in chosen for w in item["workups"])),
            "evidence": evidence,
            "missing": list(dict.fromkeys(writer.reference(text) for item in (chosen if rule else said["rules"])
                                          for text in item["missing"])),
        }  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise BrokenOutput(f"A line of {EVALUATIONS} is not as an audit writes it.") from None


def _shown(evidence: Iterable[Mapping[str, str]], writer: Writer) -> tuple[Shown, ...]:
    return tuple(dict.fromkeys(writer.shown(Evidence(**item)) for item in evidence))


def _words(fact: Shown) -> str:
    return " ".join(part for part in (fact.what, fact.value, fact.judged, fact.when, f"[{fact.reference}]") if part)


def stored_infant(output: Output, key: bytes, name: str, library: RuleLibrary) -> StoredInfant | None:
    """The infant of this pseudonym; None when the output holds none. Raises BrokenOutput."""
    with output.open(EVALUATIONS) as rows:
        found = next((line for line in rows if pseudonym_of(key, _patient(line)) == name), None)
    if found is None:
        return None
    try:
        said = orjson.loads(found)
        patient = said["patient"]
        writer = Writer(library, patient)
        rules = tuple(_stored(item, writer, library) for item in said.get("rules", ()))
        cards = tuple(_cards(output, patient)) if said.get("cards") else ()
        return StoredInfant(patient, {key: said.get(key, "") for key in ("status", "why", "age", "stage", "asOf")},
                            rules, cards)  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise BrokenOutput("The row of this infant is not as an audit writes it.") from None


def _patient(line: bytes) -> str:
    """Whose row it is: a FHIR id, in which nothing is escaped."""
    if not line.startswith(_START):
        raise BrokenOutput("A row says not whose it is.")
    return line[len(_START) :].split(b'"', 1)[0].decode("utf-8", "replace")


def _cards(output: Output, patient: str) -> Iterable[CardView]:
    start = _START + patient.encode() + b'"'
    with output.open("cards.ndjson") as rows:
        for line in rows:
            if line.startswith(start):
                yield card_view(without_patient(orjson.loads(line)["card"], patient))


def _stored(item: Mapping[str, Any], writer: Writer, library: RuleLibrary) -> StoredRule:
    rule = library.rule(item["rule"])
    reasons = tuple(
        StoredReason(reason["criterion"], reason["answer"], _shown(reason["evidence"], writer),
                     tuple(map(writer.reference, reason["missing"])))
        for reason in item["reasons"]
    )  # fmt: skip
    workups = tuple((w["id"], w["urgency"], w["takenCareOf"], _shown(w["by"], writer)) for w in item["workups"])
    return StoredRule(
        item["rule"], rule.title if rule is not None else item["rule"], item["version"], item["outcome"],
        item["stage"], tuple(map(writer.reference, item["missing"])), reasons, workups,
    )  # fmt: skip


def differences(stored: StoredInfant, response: HookResponse) -> list[str]:
    """What comes out otherwise than the output has it, by rule."""
    old = {rule.rule: rule.outcome for rule in stored.rules}
    new = {e.rule.id: e.outcome.value for e in response.evaluations}
    silent = Outcome.NOT_APPLICABLE.value
    return [
        f"{rule}: {old.get(rule, silent)} in the run, {new.get(rule, 'no such rule')} now"
        for rule in sorted({*old, *new}) if old.get(rule, silent) != new.get(rule)
    ]  # fmt: skip
