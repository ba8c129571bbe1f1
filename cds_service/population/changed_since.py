"""Which patients have anything new since a moment; the others need not be asked about again."""

from __future__ import annotations

from cds_service.population.answers import count_faults
from cds_service.population.attrition import UNCHANGED, Counts
from cds_service.population.encounters import known_at
from cds_service.population.infant_request import Chart, Json
from cds_service.record.times import parse_span


def changed_since(chart: Chart, since: int) -> bool:
    """Whether any resource was changed or recorded at the moment or later, or may have been.

    A resource without any date, and a line that could not be read, may have been: not known is not unchanged.
    """
    return bool(chart.lost) or any(_may_be_new(resource, since) for resource in chart.resources)


def _may_be_new(resource: Json, since: int) -> bool:
    meta = resource.get("meta")
    updated = parse_span(meta.get("lastUpdated") if isinstance(meta, dict) else None)
    dated = [span.hi for span in (updated, known_at(resource)) if span is not None]
    if not dated:
        return bool(resource["resourceType"] != "Patient")
    return any(last >= since for last in dated)


def count_unchanged(chart: Chart, counts: Counts) -> None:
    """A patient who is not asked about: their resources are accounted for all the same."""
    counts[UNCHANGED,] += 1
    count_faults(chart, counts)
