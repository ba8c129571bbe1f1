"""What an infant can be built of: generated from the vocabulary and the reading, so that no list is kept here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cds_service.record.labs import FLAGS
from cds_service.record.qualifiers import COUNTS, VIGOROUS
from cds_service.record.reading import Reading
from cds_service.record.sources import SOURCES
from cds_service.rules.library import RuleLibrary

Options = Sequence[tuple[str, str]]  # value, words
Groups = Mapping[str, Options]  # heading → options

# Categories of value sets, as people call them.
FINDINGS = {"finding": "Findings", "disorder": "Diagnoses", "risk-factor": "Risks and events"}
WORK = {
    "procedure": "Examinations", "order": "Panels", "lab": "Single tests", "referral": "Referrals",
    "specialty": "Appointments with", "medication": "Medicines", "medication-cause": "Other medicines",
}  # fmt: skip
# How something was done → the key of a case's fact, and the categories that can be done so.
KINDS = {
    "done": ("done", ("procedure", "order", "lab", "referral")),
    "ordered": ("ordered", ("procedure", "order", "lab", "referral")),
    "visited": ("encounter", ("specialty",)),
    "prescribed": ("medication", ("medication", "medication-cause")),
    "given": ("administered", ("medication", "medication-cause")),
}
KIND_WORDS = (
    ("done", "was done"), ("ordered", "is ordered"), ("visited", "was visited (appointments)"),
    ("prescribed", "is prescribed (medicines)"), ("given", "was given (medicines)"),
)  # fmt: skip


class Choices(NamedTuple):
    """Everything that the form offers. ``coded``: qualifier → its values; ``units``: by the words of the analyte."""

    findings: Groups
    coded: Mapping[str, Options]
    counts: Options
    vigorous: str
    durations: Options
    analytes: Options
    units: Groups
    units_of: Mapping[str, frozenset[str]]
    flags: Options
    work: Groups
    categories: Mapping[str, str]
    sources: Options


def choices_of(library: RuleLibrary) -> Choices:
    """The choices of this library."""
    reading = library.reading
    analytes = {concept: analyte for analyte in reading.analytes.values() for concept in analyte.concepts}
    concepts = reading.vocabulary.concepts
    return Choices(
        findings=_groups(reading, FINDINGS),
        coded={name: [(value, words(value)) for value in sorted(values)]
               for name, values in reading.coded_qualifiers.items()},
        counts=[(name, words(name)) for name in COUNTS],
        vigorous=VIGOROUS,
        durations=[(unit, unit) for unit in reading.duration_units],
        analytes=[(name, concepts[name].display) for name in analytes],
        units={analyte.display: [(unit, unit) for unit in analyte.units] for analyte in reading.analytes.values()},
        units_of={name: frozenset(analyte.units) for name, analyte in analytes.items()},
        flags=[(flag, flag) for flag in sorted(FLAGS)],
        work=_groups(reading, WORK),
        categories={name: concept.category for name, concept in concepts.items()},
        sources=[(key, f"{key} ({kind})") for kind, key in SOURCES.items()],
    )  # fmt: skip


def _groups(reading: Reading, categories: Mapping[str, str]) -> Groups:
    concepts = sorted(reading.vocabulary.concepts.values(), key=lambda concept: concept.display.casefold())
    return {
        heading: [(concept.name, concept.display) for concept in concepts if concept.category == category]
        for category, heading in categories.items()
    }


def words(name: str) -> str:
    """A name of a file as people read it."""
    return name.replace("-", " ").replace("_", " ")
