"""From every assertion to what it feeds, and from every rule to what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cds_service.errors import Mistake
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Assertion


class Row(NamedTuple):
    """One assertion with the rules and the texts for families that draw on it, or the reason for neither."""

    assertion: Assertion
    rules: tuple[str, ...]
    texts: tuple[str, ...]
    reason: str


def coverage(library: RuleLibrary) -> dict[str, list[Row]]:
    """Document slug → a row per assertion, in the order of the document."""
    rules: dict[str, list[str]] = {}
    for rule in library.rules:
        for drawn in rule.draws_on:
            rules.setdefault(drawn, []).append(rule.id)
    texts: dict[str, list[str]] = {}
    for guidance in library.guidance.values():
        for text in guidance.texts():
            for drawn in text.draws_on:
                texts.setdefault(drawn, []).append(text.says)
    found: dict[str, list[Row]] = {}
    for assertion in library.assertions.values():
        row = Row(
            assertion, tuple(rules.get(assertion.id, ())), tuple(texts.get(assertion.id, ())),
            library.not_acted_on.get(assertion.id, ""),
        )  # fmt: skip
        found.setdefault(assertion.document, []).append(row)
    return found


REASONS = "cards/not_acted_on.yaml"


def coverage_mistakes(rows: Mapping[str, list[Row]]) -> list[Mistake]:
    """Assertions that ask for action and feed no rule, others that feed nothing unexplained, reasons out of date.

    Of those that ask for action in part, a text for the family is enough (MYO-09: fussiness in the evening).
    """
    mistakes = []
    for document, found in rows.items():
        for row in found:
            name = row.assertion.id
            if row.assertion.actionable == "yes" and not row.rules:
                file = f"cards/documents/{document}.yaml"
                mistakes.append(Mistake(file, 1, f"{name} asks for action and no rule draws on it"))
            elif not (row.rules or row.texts or row.reason):
                mistakes.append(Mistake(REASONS, 1, f"{name} feeds no rule and no text: give the reason"))
            elif row.reason and (row.rules or row.texts):
                mistakes.append(Mistake(REASONS, 1, f"{name} is used now: take its reason away"))
    return mistakes
