"""cards/workups and families.yaml → workups with their wording, order code and what counts as done."""

from __future__ import annotations

from cds_service.errors import Mistake
from cds_service.record.reading import Reading
from cds_service.rules.pack import Pack
from cds_service.rules.reading_builder import duration
from cds_service.rules.rule import DoneOrOrdered, Family, Order, Urgency, Workup
from cds_service.rules.yaml_source import Source


def build_families(source: Source, mistakes: list[Mistake]) -> tuple[Family, ...]:
    """The families in the order in which their cards come."""
    displays = source.data["override_displays"]
    families = []
    for place, item in enumerate(source.data["families"]):
        reasons = []
        for spot, code in enumerate(item["override"]):
            if code not in displays:
                mistakes.append(source.mistake(("families", place, "override", spot), f"{code!r} has no display"))
            reasons.append((code, displays.get(code, "")))
        families.append(
            Family(
                item["id"],
                item["title"],
                item.get("urgent_title", item["title"]),
                source.data["override_system"],
                tuple(reasons),
            )
        )
    return tuple(families)


def build_workups(
    pack: Pack, reading: Reading, families: tuple[Family, ...], mistakes: list[Mistake]
) -> dict[str, Workup]:
    """Every workup; unknown families, value sets and concepts go to ``mistakes``."""
    known = {family.id for family in families}
    workups = {}
    for source in pack.workups.values():
        data = source.data
        if data.get("yields_to", data["id"]) not in pack.workups:
            mistakes.append(source.mistake(("yields_to",), f"no workup is called {data['yields_to']!r}"))
        if data["family"] not in known:
            mistakes.append(source.mistake(("family",), f"families.yaml has no family {data['family']!r}"))
        workups[data["id"]] = Workup(
            id=data["id"],
            family=data["family"],
            label=data["label"],
            order=_order(pack, source, mistakes),
            suggest={Urgency[urgency.upper()]: text for urgency, text in data["suggest"].items()},
            yields_to=data.get("yields_to", ""),
            done_or_ordered=_done_or_ordered(source, reading, mistakes),
        )
    return workups


def _order(pack: Pack, source: Source, mistakes: list[Mistake]) -> Order | None:
    data = source.data.get("order")
    if data is None:
        return None
    value_set = pack.valuesets.get(data["valueset"])
    for include in value_set.data["compose"]["include"] if value_set is not None else ():
        for concept in include["concept"]:
            if (include["system"], concept["code"]) == (data["system"], data["code"]):
                return Order(data["system"], data["code"], concept["display"])
    mistakes.append(source.mistake(("order",), "the order code is not in the value set it names"))
    return None


def _done_or_ordered(source: Source, reading: Reading, mistakes: list[Mistake]) -> tuple[DoneOrOrdered, ...]:
    ways = []
    for place, item in enumerate(source.data.get("done_or_ordered", [])):
        key = next(key for key in ("done", "done_all", "ordered") if key in item)
        concepts = [item[key]] if isinstance(item[key], str) else item[key]
        for part, names in ((key, concepts), ("onset_of", item.get("onset_of", []))):
            for spot, name in enumerate(names):
                if name not in reading.vocabulary.concepts:
                    mistakes.append(
                        source.mistake(("done_or_ordered", place, part, spot), f"no value set is called {name!r}")
                    )
        ways.append(
            DoneOrOrdered(
                tuple(concepts), key == "done_all", key == "ordered",
                duration(item["within"]) if "within" in item else None, item.get("not_before"),
                tuple(item.get("onset_of", ())),
            )
        )  # fmt: skip
    return tuple(ways)
