"""The cards that the pack's own cases bring about, held against the house rules of a card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cds_service.errors import Mistake
from cds_service.hooks.card_text import DETAIL_LIMIT, SUMMARY_LIMIT
from cds_service.hooks.cards import BASIS
from cds_service.hooks.request import HookRequest
from cds_service.hooks.respond import answer
from cds_service.hooks.wording import words
from cds_service.rules.cases import Case, cases_of, record_of, resources_of
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome
from cds_service.rules.texts import BANNED
from cds_service.rules.yaml_source import Source

SECTIONS = ("Why shown", "Suggested", "Not known", "Basis")
_DAY = re.compile(r"\d{4}-\d\d(?:-\d\d)?")
_NUMBER = re.compile(r"(?<![\w\\])\d+(?:\\?\.\d+)?")


def card_problems(library: RuleLibrary, files: Mapping[str, Source]) -> list[Mistake]:
    """Every card of every case in which a rule speaks that breaks a rule of wording."""
    mistakes = []
    for rule in library.rules:
        source = files.get(rule.id)
        for case in cases_of(source) if source is not None else ():
            if case.expect is not Outcome.RECOMMENDED:
                continue
            request = HookRequest("check", "Practitioner/check", "case", None, None, {}, None, False)
            record = record_of(case, library)
            for card in answer(record, request, library, {}, "https://cds.example").body["cards"]:
                for problem in _problems(card, case, library):
                    mistakes.append(Mistake(rule.file, 1, f"case {case.name!r}, line {case.line}: {problem}"))
    return mistakes


def _problems(card: Mapping[str, Any], case: Case, library: RuleLibrary) -> list[str]:
    summary, detail = card["summary"], card["detail"]
    found = []
    if len(summary) > SUMMARY_LIMIT:
        found.append(f"the summary has {len(summary)} characters")
    if words(detail) > DETAIL_LIMIT:
        found.append(f"the detail of the card {card['source']['topic']['code']} has {words(detail)} words")
    titles = re.findall(r"^\*\*([^*]+):\*\*", detail, re.MULTILINE)
    needed = {"Why shown", "Suggested", "Basis"}
    if titles != [title for title in SECTIONS if title in titles] or not needed <= set(titles):
        found.append(f"the sections are {titles}")
    found += [f"{word!r} stands on the card" for word in BANNED.findall(f"{summary} {detail}")]
    unknown = sorted(_numbers_shown(detail) - _numbers_of(card, case, library))
    if unknown:
        found.append(f"{', '.join(unknown)} stands on the card and not in its evidence")
    return found


def _numbers_shown(detail: str) -> set[str]:
    """The numbers under "Why shown" that are values of the record: dates, the age and fixed texts left out."""
    why = detail.split("\n\n")[0]
    facts = why.split("; age ")[0]
    return {number.replace("\\", "") for number in _NUMBER.findall(_DAY.sub("", facts))}


def _numbers_of(card: Mapping[str, Any], case: Case, library: RuleLibrary) -> set[str]:
    """The numbers that the card's evidence and the limits hold, as they would be written."""
    evidence = set(card["extension"][BASIS].get("evidence", ()))
    found: set[str] = set()
    for resource in resources_of(case, library):
        if f"{resource['resourceType']}/{resource['id']}" in evidence:
            numbers = re.findall(r"\d+(?:\.\d+)?", _DAY.sub("", json.dumps(resource)))
            factors = (1.0, *library.reading.duration_units.values())  # a duration is shown in seconds
            found |= {f"{float(number) * factor:g}" for number in numbers for factor in factors}
    for band in library.limits.values():
        found |= {f"{value:g}" for value in band.limit.values()}
    return found
