"""Codings and the vocabulary: (system, code) → what we call it. Built once, looked up per request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cds_service.record.decode import CodeableConcept

ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
UCUM = "http://unitsofmeasure.org"


class Concept(NamedTuple):
    """A clinical idea with its codes: ``name`` as in the value set's id with ``_``, and its category."""

    name: str
    category: str
    display: str


def spellings(system: str, code: str) -> tuple[str, ...]:
    """The ways in which a code is written: ICD-10-CM codes with and without their dot."""
    return (code, code.replace(".", "")) if system == ICD_10_CM and "." in code else (code,)


class Vocabulary:
    """All codes that we understand: ``codes`` is (system, code) → concepts. Text is never looked up."""

    def __init__(
        self,
        concepts: Iterable[Concept],
        codes: Iterable[tuple[str, str, str]],
        history: Iterable[tuple[str, str]],
    ) -> None:
        """``codes`` are (system, code, concept name); ``history`` are (system, code prefix) of history codes."""
        self.concepts: Mapping[str, Concept] = {concept.name: concept for concept in concepts}
        self.codes: dict[tuple[str | None, str | None], tuple[Concept, ...]] = {}
        self._examples: dict[str, tuple[str, str]] = {}
        for system, code, name in codes:
            self._examples.setdefault(name, (system, code))
            for spelling in spellings(system, code):
                key = (system, spelling)
                self.codes[key] = (*self.codes.get(key, ()), self.concepts[name])
        prefixes: dict[str, list[str]] = {}
        for system, prefix in history:
            prefixes.setdefault(system, []).append(prefix)
        self._history = {system: tuple(found) for system, found in prefixes.items()}

    def of(self, codeable: CodeableConcept | None) -> tuple[Concept, ...]:
        """The concepts that any coding of this CodeableConcept names, each once; none for unknown codes."""
        if codeable is None:
            return ()
        codings = codeable.coding
        if len(codings) == 1:
            return self.codes.get((codings[0].system, codings[0].code), ())
        found: dict[Concept, None] = {}
        for coding in codings:
            found.update(dict.fromkeys(self.codes.get((coding.system, coding.code), ())))
        return tuple(found)

    def example_of(self, name: str) -> tuple[str, str]:
        """The first (system, code) of a concept: how a sample writes it."""
        return self._examples[name]

    def is_history(self, codeable: CodeableConcept | None) -> bool:
        """Whether a history-of or family-history coding makes the whole concept history (ENCODING §7)."""
        if codeable is None:
            return False
        for coding in codeable.coding:
            prefixes = self._history.get(coding.system or "")
            if prefixes is not None and coding.code is not None and coding.code.startswith(prefixes):
                return True
        return False


def has_code(codeable: CodeableConcept | None, codes: frozenset[tuple[str, str]]) -> bool:
    """Whether any coding of the CodeableConcept is one of these (system, code) pairs."""
    return codeable is not None and any((coding.system, coding.code) in codes for coding in codeable.coding)


def plain_codes(codeable: CodeableConcept | None) -> set[str]:
    """The bare codes of a CodeableConcept whose binding is required, such as a clinical status."""
    return set() if codeable is None else {c.code for c in codeable.coding if c.code}
