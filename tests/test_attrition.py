"""In which row of the tables an infant stands, and what of their lines is counted."""

from __future__ import annotations

import pytest
from infants import infant

from cds_service.population.attrition import BAND_NAMES, NO_AGE, age_band
from cds_service.population.infant_request import read_chart_lines

TODAY = "2026-11-22"


@pytest.mark.parametrize(
    ("born", "months"),
    [
        ("2026-11-22", 0), ("2026-10-23", 0), ("2026-10-22", 1), ("2026-08-23", 1), ("2026-08-22", 3),
        ("2026-05-23", 3), ("2026-05-22", 6), ("2025-11-23", 6), ("2025-11-22", 12), ("2024-11-23", 12),
        ("2024-11-22", 24), ("2019-01-01", 24),
        ("2026-10", 1), ("2026-11", 0), ("2025", 12),  # the oldest that it can be
    ],
)  # fmt: skip
def test_an_infant_stands_in_the_row_of_the_months_completed(born: str, months: int) -> None:
    first = {0: "under 1 month", 1: "1 to <3 months", 3: "3 to <6 months", 6: "6 to <12 months",
             12: "12 to <24 months", 24: "24 months and over"}  # fmt: skip
    assert set(first.values()) | {NO_AGE} == set(BAND_NAMES)
    assert age_band(infant(birth=born, as_of=f"{TODAY}T12:00:00Z").record) == first[months]


def test_without_a_birth_date_there_is_a_row_of_its_own() -> None:
    assert age_band(infant(birth=None).record) == NO_AGE


def test_a_line_that_came_twice_is_read_once_and_counted() -> None:
    one, other = b'{"resourceType":"Encounter","id":"1"}', b'{"resourceType":"Encounter","id":"2"}'
    bad = b'{"resourceType":"Encounter","id":"3","id":"4"}'
    chart = read_chart_lines("p", [(b"1:7", bad), (b"0:3", other), (b"0:2", one), (b"0:9", bad), (b"1:1", one)])
    assert [resource["id"] for resource in chart.resources] == ["1", "2"]
    assert chart.repeated == 2
    assert chart.bad == [("0:9", "json.duplicate-key")] and chart.lost == {"Encounter"}
