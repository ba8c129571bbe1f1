"""Codings and the vocabulary: (system, code) → what we call it. Built once, looked up per request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cds_service.record.decode import CodeableConcept, Coding

ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
UCUM = "http://unitsofmeasure.org"


class Concept(NamedTuple):
    """A clinical idea with its codes: ``name`` as in the value set's id with ``_``, and its category."""

    name: str
    category: str
    display: str


def code_key(system: str, code: str) -> tuple[str, str]:
    """The look-up key of a coding; ICD-10-CM codes are the same with and without their dot."""
    return (system, code.replace(".", "").upper()) if system == ICD_10_CM else (system, code)


class Vocabulary:
    """All codes that we understand. Text is never looked up."""

    def __init__(
        self,
        concepts: Iterable[Concept],
        codes: Iterable[tuple[str, str, str]],
        history: Iterable[tuple[str, str]],
    ) -> None:
        """``codes`` are (system, code, concept name); ``history`` are (system, code prefix) of history codes."""
        self.concepts: Mapping[str, Concept] = {concept.name: concept for concept in concepts}
        self._by_code: dict[tuple[str, str], tuple[Concept, ...]] = {}
        self._examples: dict[str, tuple[str, str]] = {}
        for system, code, name in codes:
            self._examples.setdefault(name, (system, code))
            key = code_key(system, code)
            self._by_code[key] = (*self._by_code.get(key, ()), self.concepts[name])
        self._history = tuple(code_key(system, prefix) for system, prefix in history)

    def of_coding(self, coding: Coding) -> tuple[Concept, ...]:
        """The concepts that one coding names; none for an unknown system or code."""
        if coding.system is None or coding.code is None:
            return ()
        return self._by_code.get(code_key(coding.system, coding.code), ())

    def of(self, codeable: CodeableConcept | None) -> tuple[Concept, ...]:
        """The concepts that any coding of this CodeableConcept names, each once."""
        if codeable is None or not codeable.coding:
            return ()
        if len(codeable.coding) == 1:
            return self.of_coding(codeable.coding[0])
        found: dict[Concept, None] = {}
        for coding in codeable.coding:
            found.update(dict.fromkeys(self.of_coding(coding)))
        return tuple(found)

    def example_of(self, name: str) -> tuple[str, str]:
        """The first (system, code) of a concept: how a sample writes it."""
        return self._examples[name]

    def is_history(self, codeable: CodeableConcept | None) -> bool:
        """Whether a history-of or family-history coding makes the whole concept history (ENCODING §7)."""
        if codeable is None:
            return False
        for coding in codeable.coding:
            if coding.system == ICD_10_CM and coding.code is not None:
                _, code = code_key(coding.system, coding.code)
                if any(code.startswith(prefix) for _, prefix in self._history):
                    return True
        return False


def has_code(codeable: CodeableConcept | None, codes: frozenset[tuple[str, str]]) -> bool:
    """Whether any coding of the CodeableConcept is one of these (system, code) pairs."""
    return codeable is not None and any((coding.system, coding.code) in codes for coding in codeable.coding)


def plain_codes(codeable: CodeableConcept | None) -> set[str]:
    """The bare codes of a CodeableConcept whose binding is required, such as a clinical status."""
    return set() if codeable is None else {c.code for c in codeable.coding if c.code}
