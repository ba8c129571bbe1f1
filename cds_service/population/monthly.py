"""An infant's chart replayed month by month: what the hook would have said at the end of each month of life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cds_service.population.answers import Asking, Rows
from cds_service.population.attrition import Counts
from cds_service.population.encounters import known_at, replay
from cds_service.population.infant_request import Chart, Json
from cds_service.record.times import DAY, add_months, parse_span

MONTHS = "months"


def monthly_patient(chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking, counts: Counts) -> Rows:
    """The first card that would have come, at the end of which month of life, and what work of it followed."""
    return replay(chart, medications, asking, counts, months(chart.resources, asking.as_of), MONTHS)


def months(resources: Sequence[Json], until: int) -> list[int]:
    """The end of each month of life from the first recorded date to the last, and the last itself.

    Nothing before birth and nothing after ``until``; without a birth date to the day only the last recorded date.
    """
    spans = [span for resource in resources if (span := known_at(resource)) is not None and span.lo <= until]
    if not spans:
        return []
    first, last = min(span.lo for span in spans), min(max(span.hi for span in spans), until)
    born = _birth_day(resources)
    if born is None:
        return [last]
    found, number = [], 1
    while (end := add_months(born, number) * DAY - 1) < last:
        if end >= first:
            found.append(end)
        number += 1
    return [*found, last]


def _birth_day(resources: Sequence[Json]) -> int | None:
    for resource in resources:
        if resource["resourceType"] == "Patient":
            born = parse_span(resource.get("birthDate"))
            if born is not None and born.days[0] == born.days[1]:
                return born.days[0]
    return None
