"""A population of made-up infants: who they are, what happened to them, and the files they are written to.

Each infant has its own source of chance, made from the seed and its number: the first thousand of ten thousand
are the same infants as a thousand alone. Companions (a twin, a namesake) follow the infant they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import msgspec
import orjson

from cds_service.errors import InputError
from cds_service.population.synthetic.background import add_background
from cds_service.population.synthetic.content import SyntheticContent
from cds_service.population.synthetic.infant_chart import Identity, InfantChart, Json
from cds_service.population.synthetic.movement_histories import state_gestation, tell_story
from cds_service.population.synthetic.near_misses import plant_near_misses

TRUTH = "truth.ndjson"
TEST_DATA = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
WEEK = 7


def infants(content: SyntheticContent, number: int, seed: int, day: date) -> Iterator[InfantChart]:
    """So many infants as they are on ``day``; the same for the same arguments, content and pack."""
    first: InfantChart | None = None
    kind = ""
    for place in range(number):
        rng = Random(f"{seed}/{place}")
        if first is not None and kind:
            yield _companion(first, kind, f"s{seed}-{place:06}", rng)
            kind = ""
            continue
        first = _infant(content, f"s{seed}-{place:06}", day, rng)
        kind = _companion_kind(first)
        yield _closed(first, multiple=kind == "twin")


def _infant(content: SyntheticContent, identity: str, day: date, rng: Random) -> InfantChart:
    stories = content.data["stories"]
    (story,) = rng.choices(stories, [story["share"] for story in stories])
    born = day - timedelta(days=rng.randint(*story["age_days"]))
    chart = InfantChart(_identity(content, identity, born, story, rng), story["story"], day, content, rng)
    _fill(chart, story)
    return chart


def _identity(
    content: SyntheticContent, identity: str, born: date, story: Mapping[str, Any], rng: Random
) -> Identity:  # fmt: skip
    names, gestation = content.data["names"], content.data["gestation"]
    preterm = story.get("preterm", False) or rng.random() < gestation["preterm_share"]
    weeks = rng.choice(gestation["preterm_weeks" if preterm else "weeks"])
    female = rng.random() < 0.5
    return Identity(
        id=identity, family=rng.choice(names["family"]), given=rng.choice(names["girls" if female else "boys"]),
        female=female, born=born, gestation_days=weeks * WEEK + rng.choice((0, 0, rng.randint(1, WEEK - 1))),
        preterm=preterm,
    )  # fmt: skip


def _fill(chart: InfantChart, story: Mapping[str, Any]) -> None:
    """The whole chart, but for the Patient, which is written last when all is known."""
    chart.birth_date_written = story.get("birth_date") != "none"
    chart.deceased = story.get("deceased", False)
    if story.get("preterm") or chart.chance(chart.content.data["gestation"]["recorded"]):
        state_gestation(chart)
    tell_story(chart, story)
    plant_near_misses(chart)
    add_background(chart)


def _companion_kind(chart: InfantChart) -> str:
    """Whether a twin or a namesake comes next: "" for most infants."""
    shares = chart.content.data["companions"]
    if not chart.birth_date_written:
        return ""
    (kind,) = chart.rng.choices([*shares, ""], [*shares.values(), 1 - sum(shares.values())])
    return str(kind)


def _companion(first: InfantChart, kind: str, identity: str, rng: Random) -> InfantChart:
    """A well infant of the same birth date; a twin has another given name, a namesake the same.

    What the first has is a decoy here: it is the other's.
    """
    own = first.identity
    given = own.given
    if kind == "twin":
        names = first.content.data["names"]["girls" if own.female else "boys"]
        given = rng.choice([name for name in names if name != own.given])
    who = msgspec.structs.replace(own, id=identity, given=given, twin=2 if kind == "twin" else 0)
    chart = InfantChart(who, kind, first.day, first.content, rng)
    _fill(chart, {})
    known = chart.names_planted()
    for item in first.planted:
        if item["status"] == "present" and "finding" in item and item["finding"] not in known:
            chart.plant(f"decoy:{kind}", item["resource"], finding=item["finding"], encoding="other-patient")
    return _closed(chart, multiple=kind == "twin")


def _closed(chart: InfantChart, multiple: bool) -> InfantChart:
    """The chart with its Patient."""
    who = chart.identity
    patient: Json = {
        "resourceType": "Patient", "id": who.id, "meta": {"tag": [TEST_DATA]},
        "name": [{"family": who.family, "given": [who.given]}], "gender": "female" if who.female else "male",
    }  # fmt: skip
    if chart.birth_date_written:
        patient["birthDate"] = who.born.isoformat()
    if chart.deceased:
        patient["deceasedBoolean"] = True
    if multiple:
        patient["multipleBirthInteger"] = max(who.twin, 1)
    chart.resources.insert(0, patient)
    return chart


def truth_of(chart: InfantChart) -> Json:
    """What was planted in the chart and what was not, in one line."""
    return {"patient": chart.identity.id, "story": chart.story, "planted": chart.planted}


def write_population(charts: Iterable[InfantChart], folder: Path) -> dict[str, int]:
    """Write one NDJSON file per resource type and the truth; how many lines each has.

    Raises InputError when the folder holds anything: a population is never mixed with another.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: it is not an empty folder; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, int] = {}
    files: dict[str, BinaryIO] = {}
    try:
        for chart in charts:
            for resource in chart.resources:
                _line(files, lines, folder, f"{resource['resourceType']}.ndjson", resource)
            _line(files, lines, folder, TRUTH, truth_of(chart))
    finally:
        for file in files.values():
            file.close()
    return dict(sorted(lines.items()))


def _line(files: dict[str, BinaryIO], lines: dict[str, int], folder: Path, name: str, data: Json) -> None:
    if name not in files:
        files[name] = (folder / name).open("wb")
    files[name].write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    lines[name] = lines.get(name, 0) + 1
