"""The code lists held against what a list can be wrong in without anybody knowing the codes by heart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from stdnum import luhn, verhoeff

from cds_service.errors import Mistake
from cds_service.rules.pack import Pack

SNOMED = re.compile(r"[1-9][0-9]{2,14}[01]0[0-9]", re.ASCII)  # partition 00 or 10: a concept
LOINC = re.compile(r"[1-9][0-9]{0,6}-[0-9]", re.ASCII)
ICD = "http://hl7.org/fhir/sid/icd-10-cm"


def snomed_ok(code: str) -> bool:
    """Whether this can be a SNOMED CT concept id: its partition and its check digit (Verhoeff)."""
    return SNOMED.fullmatch(code) is not None and bool(verhoeff.is_valid(code))


def loinc_ok(code: str) -> bool:
    """Whether this can be a LOINC number: its check digit is mod 10 (Luhn)."""
    return LOINC.fullmatch(code) is not None and bool(luhn.is_valid(code.replace("-", "")))


FORM: dict[str, Callable[[str], object]] = {
    "http://snomed.info/sct": snomed_ok,
    "http://loinc.org": loinc_ok,
    ICD: re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?", re.ASCII).fullmatch,
    "http://human-phenotype-ontology.org": re.compile(r"HP:[0-9]{7}", re.ASCII).fullmatch,
    "http://www.whocc.no/atc": re.compile(r"[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}", re.ASCII).fullmatch,
    "http://www.nlm.nih.gov/research/umls/rxnorm": re.compile(r"[1-9][0-9]*", re.ASCII).fullmatch,
}


def code_mistakes(pack: Pack) -> list[Mistake]:
    """Ill-formed codes, codes that mean two things, parents that swallow another list's children, unseen codes."""
    own = f"{pack.single['reading'].data['canonical']}/CodeSystem/finding"
    mistakes = []
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, system, concept in _codings(pack):
        code = concept["code"]
        file = f"cards/valuesets/{name}.json"
        holders[system, code.replace(".", "") if system == ICD else code].append(name)
        form = FORM.get(system)
        if form is None and system != own:
            mistakes.append(Mistake(file, 1, f"{system} is no code system that the service understands"))
        elif form is not None and not form(code):
            mistakes.append(Mistake(file, 1, f"{code} is no code of {system}: its form or check digit is wrong"))
        if system != own and not _seen(concept).startswith("VERIFIED"):
            mistakes.append(Mistake(file, 1, f"{code} does not say where it was verified (extension seen-in)"))
    for (_, code), names in holders.items():
        if len(names) > 1:
            file = f"cards/valuesets/{names[1]}.json"
            mistakes.append(Mistake(file, 1, f"{code} stands in {' and '.join(names)}: keep one"))
    return mistakes + _swallowing(holders)


def _codings(pack: Pack) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, source in pack.valuesets.items():
        for include in source.data["compose"]["include"]:
            for concept in include["concept"]:
                yield name, include["system"], concept


def _seen(concept: dict[str, Any]) -> str:
    return next((e["valueString"] for e in concept.get("extension", ()) if e["url"].endswith("/seen-in")), "")


def _swallowing(holders: dict[tuple[str, str], list[str]]) -> list[Mistake]:
    """ICD codes are hierarchical by their letters: a parent in one list would claim the children of another."""
    codes = {code: names[0] for (system, code), names in holders.items() if system == ICD}
    return [
        Mistake(f"cards/valuesets/{name}.json", 1, f"{parent} is a parent of {child}, which means {codes[child]}")
        for parent, name in codes.items()
        for child in codes
        if child.startswith(parent) and child != parent and codes[child] != name
    ]
