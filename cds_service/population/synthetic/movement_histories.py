"""A story's facts → resources: one entry of FACTS per kind of fact that a story in cards/synthetic.yaml may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cds_service.population.synthetic.findings import state_finding
from cds_service.population.synthetic.infant_chart import InfantChart
from cds_service.population.synthetic.results import quantity, state_lab
from cds_service.population.synthetic.work_and_medicines import (
    state_done,
    state_medication,
    state_ordered,
    state_result,
)

FACTS: Mapping[str, Callable[[InfantChart, Mapping[str, Any]], None]] = {
    "finding": state_finding, "lab": state_lab, "result": state_result, "done": state_done,
    "ordered": state_ordered, "medication": state_medication,
}  # fmt: skip


def tell_story(chart: InfantChart, story: Mapping[str, Any]) -> None:
    """Plant what the story tells of the infant; a fact with a chance only in that share of infants."""
    for fact in story.get("facts", ()):
        if chart.chance(fact.get("chance", 1.0)):
            for kind, state in FACTS.items():
                if kind in fact:
                    state(chart, fact)


def state_gestation(chart: InfantChart) -> None:
    """Plant the gestational age at birth, in one of its codes, in weeks or days."""
    days = chart.identity.gestation_days
    lengths = {unit: int(length) for unit, length in chart.reading.gestation_units.items()}
    unit = chart.one_of([unit for unit, length in lengths.items() if days % length == 0])
    name = chart.one_of(chart.reading.gestation_concepts)
    elements = {
        "status": "final", "code": chart.code(name), "effectiveDateTime": chart.identity.born.isoformat(),
        "valueQuantity": quantity(days // lengths[unit], unit),
    }  # fmt: skip
    chart.plant("present", chart.add("Observation", elements), gestation=days, encoding=f"gestation-{unit}")
