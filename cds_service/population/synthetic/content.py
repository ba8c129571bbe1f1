"""cards/synthetic.yaml → what made-up infants are made of, checked against the vocabulary.

It is read apart from the knowledge pack: no rule reads it and it is no part of the pack's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from msgspec import Struct

from cds_service.errors import ContentError, Mistake
from cds_service.record.codes import ICD_10_CM
from cds_service.record.reading import Reading
from cds_service.rules.pack import schema_mistakes, validators
from cds_service.rules.yaml_source import Source, parse

FILE = "synthetic.yaml"


class Coding(Struct, frozen=True):
    """A code of a concept, and its style: the short name of the system, for ICD with or without its dot."""

    system: str
    code: str
    style: str

    def coded(self, display: str) -> dict[str, Any]:
        """The CodeableConcept that says it."""
        return {"coding": [{"system": self.system, "code": self.code}], "text": display}


class SyntheticContent(Struct, frozen=True, kw_only=True):
    """The parsed file, how a chart is read, and every code by which a concept may be written."""

    data: Mapping[str, Any]
    reading: Reading
    codings: Mapping[str, tuple[Coding, ...]]


def load_content(root: Traversable | Path, reading: Reading) -> SyntheticContent:
    """The content under ``root``. Raises ContentError with every mistake: form, unknown names, foreign codes."""
    name = f"cards/{FILE}"
    source, mistakes = parse(name, (root / FILE).read_text(encoding="utf-8"))
    mistakes = mistakes or schema_mistakes(source, validators(root)["synthetic"])
    if not mistakes:
        mistakes = [*_unknown_names(source, reading), *_foreign_codes(source, reading)]
    if mistakes:
        raise ContentError(mistakes)
    return SyntheticContent(data=source.data, reading=reading, codings=_codings(reading))


def _codings(reading: Reading) -> dict[str, tuple[Coding, ...]]:
    """Per concept all codes that mean it alone, in the order of the value set."""
    found: dict[str, list[Coding]] = {}
    for (system, code), concepts in reading.vocabulary.codes.items():
        if system is not None and code is not None and len(concepts) == 1:
            found.setdefault(concepts[0].name, []).append(Coding(system, code, _style(system, code, reading)))
    return {name: tuple(codings) for name, codings in found.items()}


def _style(system: str, code: str, reading: Reading) -> str:
    if system.startswith(reading.canonical):
        return "project"
    if system == ICD_10_CM:
        return "icd-dotted" if "." in code else "icd-undotted"
    return system.rsplit("/", 1)[-1]


def _unknown_names(source: Source, reading: Reading) -> Iterator[Mistake]:
    """Findings, work, medicines, labs and qualifiers that the pack does not know."""
    concepts, data = reading.vocabulary.concepts, source.data
    for place, story in enumerate(data["stories"]):
        for number, fact in enumerate(story.get("facts", ())):
            path = ("stories", place, "facts", number)
            names = [name for key in ("finding", "done", "ordered", "medication", "result")
                     for name in listed(fact.get(key, []))]  # fmt: skip
            unknown = [name for name in names if name not in concepts]
            unknown += [name for name in listed(fact.get("lab", [])) if name not in reading.analytes]
            for qualifier, values in fact.get("with", {}).items():
                known = reading.coded_qualifiers.get(qualifier)
                if known is not None:
                    unknown += [value for value in listed(values) if value not in known]
            for name in unknown:
                yield source.mistake(path, f"the pack does not know {name!r}")
    for key in ("findings", "work", "medicines"):
        for name in data["near_misses"][key]:
            if name not in concepts:
                yield source.mistake(("near_misses", key), f"the pack does not know {name!r}")


def _foreign_codes(source: Source, reading: Reading) -> Iterator[Mistake]:
    """Codes of results that are not of their concept, and background codes that a rule would read."""
    codes = reading.vocabulary.codes
    for analyte, ways in source.data["labs"].items():
        for place, way in enumerate(ways):
            known = {code for (_, code), concepts in codes.items() if way["concept"] in {c.name for c in concepts}}
            if way["code"] not in known or way["unit"] not in reading.analytes[analyte].units:
                yield source.mistake(("labs", analyte, place), "the code or unit is not one of this analyte")
    read = {code for _, code in codes}
    for code in sorted(set(_codes_in([source.data["background"], source.data["questions"]])) & read):
        yield source.mistake(("background",), f"a rule reads the code {code}")


def _codes_in(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "codes":
                yield from value.values()
            elif key == "code":
                yield value
            else:
                yield from _codes_in(value)
    elif isinstance(part, list):
        for item in part:
            yield from _codes_in(item)


def listed(value: Any) -> list[Any]:
    """The value as a list: what the file writes as one value or as several to choose from."""
    return list(value) if isinstance(value, list | tuple) else [value]
