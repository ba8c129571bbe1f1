"""A few kills on each database; `make faults` does sixty."""

from __future__ import annotations

from databases import PostgreSQL
from kill9 import Result, run


def holds(result: Result) -> None:
    assert (result.lost, result.twice, result.breaks) == (0, 0, 0)
    assert result.acknowledged > 0
    assert result.decisions > 0


def test_nothing_acknowledged_is_lost_on_sqlite() -> None:
    holds(run("sqlite", 3))


def test_nothing_acknowledged_is_lost_on_postgresql(postgresql: PostgreSQL) -> None:
    """``postgresql`` says what is missing where no server is installed; the one that is killed is another."""
    holds(run("postgresql", 4))
