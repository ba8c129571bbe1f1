"""The command ``cds-service synthesize``: a made-up population with the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.infant_chart import InfantChart
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards


@click.command()
@click.option("--patients", type=click.IntRange(1, 1_000_000), required=True, help="How many infants.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same infants.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="An empty or new folder.")
@click.option("--as-of", "as_of", type=click.DateTime(["%Y-%m-%d"]), help="The day the charts end; default: today.")
def synthesize(patients: int, seed: int, out: Path, as_of: datetime | None) -> None:
    """Write a made-up population as FHIR R4 NDJSON, with truth.ndjson saying what was planted in it."""
    day = (as_of or datetime.now(UTC)).date()
    content = load_content(packaged_cards(), load_library().reading)
    columns = (TextColumn("infants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("infants", total=patients)

        def counted() -> Iterator[InfantChart]:
            for chart in infants(content, patients, seed, day):
                yield chart
                progress.advance(task)

        lines = write_population(counted(), out)
    click.echo(_told(lines, day, out))


def _told(lines: dict[str, int], day: date, out: Path) -> str:
    files = "\n".join(f"  {name}: {count}" for name, count in lines.items())
    return f"{out}, as of {day.isoformat()}:\n{files}"
