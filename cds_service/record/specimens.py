"""Whether a specimen is noted as hemolyzed: then its potassium says nothing (ENCODING §4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from cds_service.record.codes import has_code
from cds_service.record.decode import Observation, Specimen
from cds_service.record.reading import Reading

_HEMOLYZED = re.compile(r"ha?emoly[sz](?:ed|is|ing)", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:no|not|non|without|nil)\b[\s-]*(?:[^\W\d]+\s+){0,2}$", re.IGNORECASE)
HEMOLYZED = "the specimen is noted as hemolyzed"
_REACH = 60  # characters before the word in which a denial counts: keeps the search linear in the text


def spoiled_by(observation: Observation, specimens: Mapping[str, Specimen], answered: bool, reading: Reading) -> str:
    """What a note of the Observation, or the note or condition of its Specimen, says against it; else "".

    A Specimen that is referred to and was not sent, because the query was not answered, may say anything.
    """
    texts = [note.text for note in observation.note]
    written = observation.specimen.reference if observation.specimen is not None else None
    specimen = None
    if written is not None:
        specimen = _contained(observation, written[1:]) if written.startswith("#") else _sent(written, specimens)
        if specimen is None and not answered:
            return "its specimen was not sent, which may be noted as hemolyzed"
    if specimen is not None:
        texts += [note.text for note in specimen.note]
        texts += [condition.text for condition in specimen.condition]
        if any(has_code(condition, reading.hemolyzed_codes) for condition in specimen.condition):
            return HEMOLYZED
    return HEMOLYZED if any(says_hemolyzed(text) for text in texts if text) else ""


def says_hemolyzed(text: str) -> bool:
    """Whether a note says that the specimen was hemolyzed, and does not deny it."""
    return any(
        not _DENIED.search(text[max(0, found.start() - _REACH) : found.start()]) for found in _HEMOLYZED.finditer(text)
    )


def _sent(written: str, specimens: Mapping[str, Specimen]) -> Specimen | None:
    return specimens.get(written) or specimens.get("/".join(written.split("/_history/")[0].split("/")[-2:]))


def _contained(observation: Observation, identity: str) -> Specimen | None:
    for resource in observation.contained:
        if isinstance(resource, dict) and resource.get("id") == identity:
            try:
                return msgspec.convert(resource, Specimen)
            except msgspec.ValidationError:
                return None
    return None
