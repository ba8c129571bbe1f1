"""cards/reading.yaml, limits.yaml and the value sets → what record/ needs to read a chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cds_service.errors import Mistake
from cds_service.record.ages import Age
from cds_service.record.codes import Concept, Vocabulary
from cds_service.record.reading import Analyte, Band, Cluster, Reading
from cds_service.record.times import DAY, HOUR
from cds_service.rules.pack import Pack
from cds_service.rules.yaml_source import Source


def duration(text: str) -> int:
    """Microseconds of ``72 h`` or ``90 d``."""
    amount, unit = text.split()
    return int(amount) * (HOUR if unit == "h" else DAY)


def age(text: str) -> Age:
    """An age limit such as ``28 d`` or ``24 mo``."""
    amount, unit = text.split()
    return Age(int(amount), unit)


def build_vocabulary(pack: Pack, reading: Mapping[str, Any]) -> Vocabulary:
    """Every concept with every code of its value set."""
    concepts, codes = [], []
    for source in pack.valuesets.values():
        value_set = source.data
        name = value_set["id"].replace("-", "_")
        category = next(e["valueCode"] for e in value_set["extension"] if e["url"].endswith("/concept-category"))
        concepts.append(Concept(name, category, value_set["title"]))
        for include in value_set["compose"]["include"]:
            codes += [(include["system"], concept["code"], name) for concept in include["concept"]]
    history = [(item["system"], item["prefix"]) for item in reading["history_codes"]]
    return Vocabulary(concepts, codes, history)


def build_reading(pack: Pack, mistakes: list[Mistake]) -> Reading:
    """How a chart is read; unknown names go to ``mistakes``."""
    source = pack.single["reading"]
    data = source.data
    vocabulary = build_vocabulary(pack, data)
    _check_names(source, data, vocabulary, mistakes)
    analytes = _analytes(pack.single["limits"], vocabulary, mistakes)
    qualifiers, gestation, windows = data["qualifiers"], data["gestation"], data["windows"]
    return Reading(
        canonical=data["canonical"],
        pack_version=data["pack_version"],
        vocabulary=vocabulary,
        analytes=analytes,
        analyte_of={concept: analyte for analyte in analytes.values() for concept in analyte.concepts},
        stale_after=duration(windows["stale_after"]),
        persistent_after_days=duration(windows["persistent_after"]) // DAY,
        event_gap_days=duration(windows["event_gap"]) // DAY,
        cluster=Cluster(
            frozenset(data["cluster"]["findings"]), data["cluster"]["events"], duration(data["cluster"]["within"])
        ),
        lab_window=duration(windows["laboratory"]),
        administered_within=duration(windows["administered"]),
        term_days=duration(gestation["term"]) // DAY,
        preterm_below_days=duration(gestation["preterm_below"]) // DAY,
        plausible_gestation_days=(
            duration(gestation["plausible_from"]) // DAY, duration(gestation["plausible_to"]) // DAY,
        ),
        gestation_concepts=tuple(gestation["concepts"]),
        gestation_units=gestation["units"],
        movement_findings=frozenset(data["movement_findings"]),
        anchor_findings=frozenset(data["anchor_findings"]),
        background_findings=frozenset(data["background_findings"]),
        birth_events=frozenset(data["birth_events"]),
        present_codes=_pairs(data["present_codes"]),
        absent_codes=_pairs(data["absent_codes"]),
        qualifier_system=qualifiers["system"],
        qualifier_extension=qualifiers["extension"],
        coded_qualifiers={name: frozenset(values) for name, values in qualifiers["coded"].items()},
        duration_units=qualifiers["duration_units"],
        count_units=frozenset(qualifiers["count_units"]),
        body_sites={(item["system"], item["code"]): item["value"] for item in qualifiers["body_sites"]},
        severities={(item["system"], item["code"]): item["value"] for item in qualifiers["severities"]},
        flag_systems=frozenset(data["laboratory_flags"]["systems"]),
        hemolyzed_codes=_pairs(data["hemolyzed_codes"]),
        finding_words=tuple(data["finding_words"]),
    )  # fmt: skip


def _pairs(items: Iterable[Mapping[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((item["system"], item["code"]) for item in items)


def _check_names(source: Source, data: Mapping[str, Any], vocabulary: Vocabulary, mistakes: list[Mistake]) -> None:
    for path in (
        ("cluster", "findings"), ("gestation", "concepts"), ("movement_findings",), ("anchor_findings",),
        ("background_findings",), ("birth_events",),
    ):  # fmt: skip
        names: Any = data
        for key in path:
            names = names[key]
        for place, name in enumerate(names):
            if name not in vocabulary.concepts:
                mistakes.append(source.mistake((*path, place), f"no value set is called {name!r}"))


def _analytes(source: Source, vocabulary: Vocabulary, mistakes: list[Mistake]) -> dict[str, Analyte]:
    analytes = {}
    for name, data in source.data.items():
        for place, concept in enumerate(data["concepts"]):
            if concept not in vocabulary.concepts:
                mistakes.append(source.mistake((name, "concepts", place), f"no value set is called {concept!r}"))
        bands: dict[str, list[Band]] = {concept: [] for concept in data["concepts"]}
        for place, limit in enumerate(data["limits"]):
            direction = "low" if "low" in limit else "high"
            stated, families = set(limit[direction]), set(data["families"])
            if stated - families or limit.get("of", data["concepts"][0]) not in bands:
                mistakes.append(
                    source.mistake((name, "limits", place), "it names a unit family or concept that is not above")
                )
                continue
            if stated != families:  # a value in the family left out would never be judged
                mistakes.append(
                    source.mistake((name, "limits", place), "it is not stated in every unit family of its analyte")
                )
            band = Band(
                id=limit["id"], direction=direction, start=age(limit["from"]), end=age(limit["to"]),
                preterm=limit.get("preterm"), limit=limit[direction], inclusive=limit.get("inclusive", False),
                source=limit["source"], confidence=limit["confidence"],
            )  # fmt: skip
            for concept in [limit["of"]] if "of" in limit else data["concepts"]:
                bands[concept].append(band)
        for found in bands.values():
            for place, band in enumerate(found):
                for other in found[:place]:
                    if _overlap(band, other):
                        mistakes.append(
                            source.mistake((name, "limits", _spot(data, band)), f"it overlaps with {other.id}")
                        )
        analytes[name] = Analyte(
            name=name,
            display=data["display"],
            concepts=tuple(data["concepts"]),
            units={
                unit: (family, float(factor))
                for family, units in data["families"].items()
                for unit, factor in units.items()
            },
            bands={concept: tuple(found) for concept, found in bands.items()},
            spoiled_by_hemolysis=data.get("spoiled_by_hemolysis", False),
        )
    return analytes


def _spot(data: Mapping[str, Any], band: Band) -> int:
    return next(place for place, limit in enumerate(data["limits"]) if limit["id"] == band.id)


def _overlap(one: Band, other: Band) -> bool:
    """Whether two limits claim the same infants: same side, same gestation, ages in common."""
    if one.direction != other.direction or {one.preterm, other.preterm} == {True, False}:
        return False
    return _hours(one.start) < _hours(other.end) and _hours(other.start) < _hours(one.end)


MONTH = 730  # hours, near enough to tell which of two ages is the greater


def _hours(limit: Age) -> int:
    return limit.amount * {"h": 1, "d": DAY // HOUR, "mo": MONTH}[limit.unit]
