"""Gestational age at birth, from whichever Observation states it (ENCODING §2.6)."""

from __future__ import annotations

from collections.abc import Sequence

from cds_service.record.ages import NOT_RECORDED, Gestation
from cds_service.record.decode import Observation
from cds_service.record.facts import Evidence
from cds_service.record.observations import When
from cds_service.record.reading import Reading
from cds_service.record.truth import TRUE, UNKNOWN
from cds_service.record.units import interval_of, unit_code


def gestations_of(observation: Observation, reference: str, when: When, reading: Reading) -> list[Gestation]:
    """The gestational ages that an Observation states, readable or not; none of most Observations."""
    found = []
    for concept in reading.vocabulary.of(observation.code):
        if concept.name in reading.gestation_concepts:
            quantity, units = observation.valueQuantity, reading.gestation_units
            interval = interval_of(quantity)
            unit = unit_code(quantity, units) if quantity is not None else None
            evidence = Evidence(reference, "valueQuantity", concept.name, when.text)
            lo, hi = reading.plausible_gestation_days
            if interval is None or unit is None or interval.lo != interval.hi or when.span is None:
                found.append(Gestation(UNKNOWN, 0.0, evidence, "the gestational age cannot be read"))
            elif not lo <= interval.lo * units[unit] <= hi:
                found.append(Gestation(UNKNOWN, 0.0, evidence, "the gestational age is not plausible"))
            else:
                written = evidence._replace(value=f"{interval.lo:g}", unit=unit)
                found.append(Gestation(TRUE, interval.lo * units[unit], written))
    return found


def choose(stated: Sequence[Gestation], answered: bool, reading: Reading) -> Gestation:
    """The one gestation that counts: readable, of the most specific code; unknown when two of a code differ."""
    if not stated:
        if answered:
            return NOT_RECORDED
        return Gestation(UNKNOWN, problem="the observations, which may hold it, were not answered in full")
    readable = [gestation for gestation in stated if gestation.known is TRUE]
    if not readable:
        return min(stated, key=lambda gestation: gestation.problem)
    for name in reading.gestation_concepts:
        of_code = [g for g in readable if g.evidence is not None and g.evidence.concept == name]
        if len({gestation.days for gestation in of_code}) > 1:
            return Gestation(UNKNOWN, 0.0, of_code[0].evidence, "two different gestational ages are recorded")
        if of_code:
            return of_code[0]
    return readable[0]
