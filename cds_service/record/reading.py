"""How a chart is read: the windows, groups and limits that cards/ states and record/ applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from cds_service.record.ages import Age
from cds_service.record.codes import Vocabulary


class Band(Struct, frozen=True, kw_only=True):
    """The limit of an analyte on one side for an age band [start, end).

    ``limit`` maps a scale's unit to the limit in it; an ``inclusive`` limit is itself abnormal.
    ``preterm`` None: for every gestation.
    """

    id: str
    direction: str
    start: Age
    end: Age
    preterm: bool | None
    limit: Mapping[str, float]
    inclusive: bool
    source: str
    confidence: str


class Analyte(Struct, frozen=True, kw_only=True):
    """A laboratory analyte or vital sign that rules ask about.

    ``concepts`` in the order in which they decide (ionised calcium before total). ``units`` is
    UCUM code → (family, factor): value × factor is in the unit that names the family.
    """

    name: str
    display: str
    concepts: tuple[str, ...]
    units: Mapping[str, tuple[str, float]]
    bands: Mapping[str, tuple[Band, ...]]
    spoiled_by_hemolysis: bool


class Cluster(NamedTuple):
    """So many events of these findings that start within so short a time are one cluster."""

    findings: frozenset[str]
    events: int
    within: int


class Reading(Struct, frozen=True, kw_only=True):
    """All that cards/ says about how a chart is read. Times are microseconds unless named otherwise."""

    canonical: str
    pack_version: str
    vocabulary: Vocabulary
    analytes: Mapping[str, Analyte]
    analyte_of: Mapping[str, Analyte]
    stale_after: int
    persistent_after_days: int
    event_gap_days: int
    cluster: Cluster
    lab_window: int
    administered_within: int
    term_days: int
    preterm_below_days: int
    plausible_gestation_days: tuple[int, int]
    gestation_concepts: tuple[str, ...]
    gestation_units: Mapping[str, float]
    movement_findings: frozenset[str]
    anchor_findings: frozenset[str]
    background_findings: frozenset[str]
    birth_events: frozenset[str]
    present_codes: frozenset[tuple[str, str]]
    absent_codes: frozenset[tuple[str, str]]
    qualifier_system: str
    qualifier_extension: str
    coded_qualifiers: Mapping[str, frozenset[str]]
    duration_units: Mapping[str, float]
    count_units: frozenset[str]
    body_sites: Mapping[tuple[str, str], str]
    severities: Mapping[tuple[str, str], str]
    flag_systems: frozenset[str]
    hemolyzed_codes: frozenset[tuple[str, str]]
    finding_words: tuple[str, ...]
