"""Texts of the chart that look like a finding and have no code that we know: they are reported, and fire nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cds_service.record.binding import Json
from cds_service.record.codes import has_code
from cds_service.record.decode import CodeableConcept
from cds_service.record.duplicates import reference_of
from cds_service.record.observations import COUNTED
from cds_service.record.patient_record import Uncoded
from cds_service.record.qualifiers import is_qualifier
from cds_service.record.reading import Reading


class Texts:
    """The texts without a known code of one chart, and the codes that nobody knows beside them."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._passed_over: list[Json] = []
        self._texts: list[tuple[str, str, str]] = []
        self._unknown_codes: dict[tuple[str, str], None] = {}

    def note(self, reference: str, element: str, concept: CodeableConcept | None) -> None:
        """Remember a text without a code that we know; whether it looks like a finding is asked at the end."""
        if concept is None or self._reading.vocabulary.of(concept):
            return
        texts = [concept.text or "", *(coding.display or "" for coding in concept.coding)]
        self._texts.append((reference, element, " ".join(texts).casefold()))
        if not _understood_elsewhere(concept, self._reading):
            self._unknown_codes.update({(c.system or "", c.code): None for c in concept.coding if c.code})

    def pass_over(self, observations: Iterable[Json]) -> None:
        """Remember Observations of which nothing but their texts is looked at (record/triage.py)."""
        self._passed_over += observations

    def unknown_codes(self) -> tuple[tuple[str, str], ...]:
        """The (system, code) pairs that were noted and are not ours, each once."""
        return tuple(self._unknown_codes)

    def uncoded(self) -> tuple[Uncoded, ...]:
        """The texts that look like a finding; those of Observations passed over are searched all at once."""
        words = self._reading.finding_words
        together = "\n".join(dict.fromkeys(map(str, _texts_of(self._passed_over)))).casefold()
        if any(word in together for word in words):
            for observation in sorted(self._passed_over, key=reference_of):
                if observation.get("status") in COUNTED:
                    text = " ".join(map(str, _texts_of([observation]))).casefold()
                    self._texts.append((reference_of(observation), "code", text))
        found = (
            Uncoded(reference, element, word)
            for reference, element, text in self._texts
            if (word := next((word for word in words if word in text), None))
        )
        return tuple(dict.fromkeys(found))


def _understood_elsewhere(concept: CodeableConcept, reading: Reading) -> bool:
    """Whether it is no finding's code and yet one of ours: of a qualifier, or the words present and absent."""
    known = has_code(concept, reading.present_codes) or has_code(concept, reading.absent_codes)
    return known or is_qualifier(concept, reading)


def _texts_of(observations: Iterable[Json]) -> list[Any]:
    """The texts and displays of the codes of Observations that triage passed over, and their text values."""
    items = list(observations)
    codes = [observation["code"] for observation in items]
    texts = [code.get("text") for code in codes] + [observation.get("valueString") for observation in items]
    return texts + [coding.get("display") for code in codes for coding in code["coding"]]
