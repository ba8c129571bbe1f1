"""Findings that are present: a fact of a story becomes one Observation, several, or a Condition.

What several resources show together (a cluster, both sides, that it lasts) is written in the truth as ``shows``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from cds_service.population.synthetic.encodings import (
    AGES,
    FORMS,
    ONSETS,
    TIMES,
    VAGUE_ONSETS,
    Said,
    Say,
    Time,
    answer,
    components,
    extensions,
    native,
)
from cds_service.population.synthetic.infant_chart import InfantChart, Json

CONDITION_STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CATEGORY = "http://terminology.hl7.org/CodeSystem/condition-category"
CLINICAL = ("active", "active", "active", "recurrence", "relapse", "")
VERIFIED = ("confirmed", "confirmed", "")
SUSPECTED = ("unconfirmed", "provisional", "differential")
STATUSES = ("final", "final", "final", "amended", "corrected", "preliminary")
RECENT = (0, 2)  # days before the as-of day, where a story says nothing else
BRIEF_SECONDS = (2, 15)
LONG_AGO = 60  # days: from here on people remember the month or the age in months
SMALL_AGE = 200  # days: nobody gives a greater age in days


def state_finding(chart: InfantChart, fact: Mapping[str, Any]) -> None:
    """Plant one finding of a story in one of its legal encodings."""
    name = chart.drawn(fact["finding"])
    said = draw(chart, fact)
    ago = fact.get("days_ago", RECENT)
    form = fact.get("as") or ("observation" if "repeated" in fact or chart.chance(0.65) else "condition")
    if form == "birth-procedure":
        _birth_procedure(chart, name)
    elif form == "condition":
        _diagnosed(chart, name, said, chart.day_ago(ago), fact.get("confirmed", False))
    elif "repeated" in fact:
        _repeated(chart, name, said, int(chart.between(fact["repeated"])))
    else:
        _observed(chart, name, said, chart.day_ago(ago))


def draw(chart: InfantChart, fact: Mapping[str, Any]) -> Said:
    """The qualifiers of a fact: chosen from what it lists, or any at all."""
    known = chart.reading.coded_qualifiers
    said: Said = {}
    for name, values in fact.get("with", {}).items():
        if name in known or isinstance(values, bool):
            said[name] = chart.drawn(values)
        else:
            said[name] = chart.between(values)
    for name in chart.rng.sample(sorted(known), fact.get("anything_said", 0)):
        said[name] = chart.one_of(sorted(known[name]))
    return said


def _observed(chart: InfantChart, name: str, said: Said, day: date) -> None:
    """One Observation; where a qualifier can also be shown by several, sometimes several."""
    cluster, apart = chart.reading.cluster, chart.reading.persistent_after_days
    if said.get("frequency") == "clustered" and name in cluster.findings and chart.chance(0.35):
        rest = _without(said, "frequency")
        start = chart.clock()
        for place in range(cluster.events):
            minutes = place * 50 // cluster.events
            clock = (start[0], start[1] * 9 // 60 + minutes, start[2])
            observe(chart, name, rest, day, clock=clock, shows={"frequency": "clustered"})
    elif said.get("laterality") == "bilateral" and chart.chance(0.3):
        for side in ("left", "right"):
            observe(chart, name, said | {"laterality": side}, day, shows={"laterality": "bilateral"})
    elif said.get("course") == "persistent" and chart.age_days > 2 * apart and chart.chance(0.5):
        rest = _without(said, "course")
        for when in (day - timedelta(days=apart + chart.rng.randint(0, apart // 2)), day):
            observe(chart, name, rest, max(when, chart.identity.born), shows={"course": "persistent"})
    else:
        observe(chart, name, said, day)


def _repeated(chart: InfantChart, name: str, said: Said, times: int) -> None:
    """Distinct events on as many days, two days apart."""
    for place in range(times):
        observe(chart, name, said, chart.day - timedelta(days=2 * place), shows={"event-count": times})


def _without(said: Said, name: str) -> Said:
    return {key: value for key, value in said.items() if key != name}


def observe(
    chart: InfantChart, name: str, said: Said, day: date, *, clock: tuple[int, int, int] | None = None,
    shows: Said | None = None,
) -> str:  # fmt: skip
    """Plant an Observation that states the finding present; its reference."""
    form = chart.one_of(list(FORMS))
    time = chart.one_of([key for key in TIMES if key != "date"] if clock else list(TIMES))
    coding = chart.coding(name)
    code = coding.coded(chart.display(name))
    if local := chart.chance(0.15):
        unknown = {"system": chart.content.data["local_system"], "code": f"N{chart.rng.randint(100, 999)}"}
        code["coding"].insert(0, unknown)
    seconds = said.get("duration", chart.between(BRIEF_SECONDS))
    elements: Json = {"status": chart.one_of(STATUSES)}
    elements |= FORMS[form](Say(code, True, answer(chart, True), chart.question()))
    elements |= TIMES[time](Time(day, clock or chart.clock(), seconds))
    natively: list[str] = []
    written = dict(said)
    if time == "Period" and name in chart.reading.movement_findings:
        said = said | {"duration": seconds}
        written.pop("duration", None)
        natively.append("duration")
    if (site := _natively(chart, chart.reading.body_sites, "laterality", written, natively)) is not None:
        elements["bodySite"] = site
    if written:
        elements["component"] = [*elements.get("component", ()), *components(chart, written)]
    reference = chart.add("Observation", elements)
    more: Json = {"natively": natively} if natively else {}
    if shows:
        more["shows"] = shows
    chart.plant("present", reference, finding=name, qualifiers=said, encoding=form,
                coding=coding.style + ("+local" if local else ""), time=time, **more)  # fmt: skip
    return reference


def _diagnosed(chart: InfantChart, name: str, said: Said, day: date, confirmed: bool) -> None:
    apart = chart.reading.persistent_after_days
    shown = dict(said)
    if said.get("course") == "persistent" and chart.age_days > 2 * apart and chart.chance(0.5):
        shown = _without(said, "course")
        day = chart.day - timedelta(days=chart.rng.randint(apart, 2 * apart))
        diagnose(chart, name, shown, day, confirmed, onset="onset-day")
    else:
        diagnose(chart, name, shown, day, confirmed)


def diagnose(
    chart: InfantChart, name: str, said: Said, day: date, confirmed: bool = False, onset: str | None = None
) -> str:
    """Plant a Condition that states the finding present; its reference."""
    onset = onset or _onset_for(chart, day)
    began = ONSETS[onset](day, chart.identity.born)
    clinical = chart.one_of(CLINICAL)
    verified = chart.one_of(VERIFIED if confirmed or chart.chance(0.7) else SUSPECTED)
    coding = chart.coding(name)
    elements: Json = {"code": coding.coded(chart.display(name)), **began.elements}
    if clinical:
        elements["clinicalStatus"] = coded(CONDITION_STATUS, clinical)
    if verified:
        elements["verificationStatus"] = coded(VERIFICATION, verified)
    if chart.chance(0.7):
        elements["category"] = [coded(CATEGORY, "problem-list-item")]
    natively: list[str] = []
    written = dict(said)
    if (site := _natively(chart, chart.reading.body_sites, "laterality", written, natively)) is not None:
        elements["bodySite"] = [site]
    if (severity := _natively(chart, chart.reading.severities, "severity", written, natively)) is not None:
        elements["severity"] = severity
    if written:
        elements["extension"] = extensions(chart, written)
    reference = chart.add("Condition", elements)
    more: Json = {"natively": natively} if natively else {}
    if began.latest is not None and (chart.day - began.latest).days >= chart.reading.persistent_after_days:
        more["shows"] = {"course": "persistent"}
    chart.plant("present", reference, finding=name, qualifiers=said, encoding="condition", coding=coding.style,
                time=onset, verification=verified or "none", clinical=clinical or "none", **more)  # fmt: skip
    return reference


def _natively(
    chart: InfantChart, table: Mapping[tuple[str, str], str], name: str, written: Said, natively: list[str]
) -> Json | None:  # fmt: skip
    """Half the time, where the standard has an element for it: its value, moved from ``written`` to ``natively``."""
    concept = native(table, written.get(name, ""))
    if concept is None or not chart.chance(0.5):
        return None
    del written[name]
    natively.append(name)
    return concept


def _onset_for(chart: InfantChart, day: date) -> str:
    """A way to write the onset that a person would use for something that began on this day."""
    old = (chart.day - day).days >= LONG_AGO
    ways = [way for way in ONSETS if old or way not in VAGUE_ONSETS]
    if not chart.birth_date_written:
        ways = [way for way in ways if way not in AGES]
    if (day - chart.identity.born).days > SMALL_AGE:
        ways = [way for way in ways if way != "onset-age"]
    return chart.one_of(ways)


def _birth_procedure(chart: InfantChart, name: str) -> None:
    coding = chart.coding(name)
    elements = {
        "status": "completed", "code": coding.coded(chart.display(name)),
        "performedDateTime": chart.identity.born.isoformat(),
    }  # fmt: skip
    reference = chart.add("Procedure", elements)
    chart.plant("present", reference, finding=name, qualifiers={}, encoding="birth-procedure", coding=coding.style,
                time="date")  # fmt: skip


def coded(system: str, code: str) -> Json:
    """A CodeableConcept of one code."""
    return {"coding": [{"system": system, "code": code}]}
