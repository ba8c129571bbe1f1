"""Units and limits against independent converters: ucum-lhc (NLM, by Node) and ucumvert (Python)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ucumvert

from cds_service.rules.library import load_library

# Molar masses in g/mol and charges, as everyone's periodic table has them; used in this test only.
MOLAR = {
    "glucose": 180.156, "calcium": 40.078, "magnesium": 24.305, "sodium": 22.990, "potassium": 39.098, "lead": 207.2,
}  # fmt: skip
CHARGE = {"calcium": 2, "magnesium": 2, "sodium": 1, "potassium": 1}
MASS_AND_AMOUNT = (("mg/dL", "mmol/L"), ("ug/dL", "umol/L"))
ANALYTES = load_library().reading.analytes
ROUNDING = 0.04  # sources round each family's limit on its own; more than 4 % apart is no rounding


def convert(questions: list[dict[str, Any]]) -> list[float | None]:
    """Every value converted by ucum-lhc; None where it sees no conversion."""
    folder = Path(__file__).parent / "units"
    done = subprocess.run(
        ["node", "convert.mjs"], cwd=folder, input=json.dumps(questions), capture_output=True, text=True, check=True
    )
    answers: list[float | None] = json.loads(done.stdout)
    return answers


def table() -> Iterator[tuple[str, str, str, float]]:
    """Every (analyte, unit, family, factor) of limits.yaml."""
    for name, analyte in ANALYTES.items():
        for unit, (family, factor) in analyte.units.items():
            yield name, unit, family, factor


def test_every_factor_agrees_with_ucum_lhc() -> None:
    rows = list(table())
    questions = [
        {"value": 10, "from": unit, "to": family, **({"charge": CHARGE[name]} if "eq" in unit else {})}
        for name, unit, family, _ in rows
    ]
    for (name, unit, family, factor), answer in zip(rows, convert(questions), strict=True):
        assert answer == pytest.approx(10 * factor), f"{name}: {unit} to {family}"


@pytest.mark.parametrize(("name", "unit", "family", "factor"), [row for row in table() if "eq" not in row[1]])
def test_every_factor_agrees_with_ucumvert(name: str, unit: str, family: str, factor: float) -> None:
    registry = ucumvert.PintUcumRegistry()
    value = registry.Quantity(1, registry.from_ucum(unit).units).to(registry.from_ucum(family).units).magnitude
    assert value == pytest.approx(factor), f"{name}: {unit} to {family}"


def test_limits_given_in_mass_and_in_amount_are_the_same_limit() -> None:
    pairs = [
        (name, band.id, mass, amount, band.limit[mass], band.limit[amount])
        for name, analyte in ANALYTES.items()
        for bands in analyte.bands.values()
        for band in bands
        for mass, amount in MASS_AND_AMOUNT
        if {mass, amount} <= set(band.limit)
    ]
    assert len({limit for _, limit, *_ in pairs}) == 10
    asked = [
        {"value": value, "from": mass, "to": amount, "molar": MOLAR[name]} for name, _, mass, amount, value, _ in pairs
    ]
    for (_, limit, *_, expected), answer in zip(pairs, convert(asked), strict=True):
        assert answer == pytest.approx(expected, rel=ROUNDING), limit


@pytest.mark.parametrize("name", ["lactate", "ammonia"])
def test_an_analyte_without_a_limit_is_still_read_in_mass_and_in_amount(name: str) -> None:
    analyte = ANALYTES[name]
    assert not any(analyte.bands.values())
    assert {family for family, _ in analyte.units.values()} in [set(pair) for pair in MASS_AND_AMOUNT]


def test_fever_is_the_same_on_both_thermometers() -> None:
    (fever,) = ANALYTES["temperature"].bands["body_temperature"]
    (fahrenheit,) = convert([{"value": fever.limit["Cel"], "from": "Cel", "to": "[degF]"}])
    assert fahrenheit == pytest.approx(fever.limit["[degF]"])


@pytest.mark.parametrize("unit", ["mEq/L", "mg", "mg%", "", "mmol", "MG/DL"])
def test_units_outside_the_table_are_not_understood(unit: str) -> None:
    assert all(unit not in analyte.units for analyte in ANALYTES.values())


def test_calcium_in_equivalents_is_not_evaluated() -> None:
    assert not {"meq/L", "meq/l"} & set(ANALYTES["calcium"].units)
