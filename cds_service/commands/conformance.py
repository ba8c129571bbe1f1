"""Command on what the last recorded test run said of each requirement of CDS Hooks."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cds_service.errors import InputError

WORST_FIRST = ("failed", "not run", "skipped")
STYLES = {**dict.fromkeys((*WORST_FIRST, "none"), "bold red"), "passed": "green", "not applicable": "dim"}


@click.command("conformance")
@click.argument("group", required=False)
@click.option("--level", help="Only this level: SHALL, SHOULD, MAY, ours, ...")
@click.option("--json", "as_json", is_flag=True, help="One line per requirement, for programs.")
def conformance_command(group: str | None, level: str | None, as_json: bool) -> None:
    """What CDS Hooks asks of a service, with the test of each and its result in the last recorded run.

    GROUP: CARD, JWT, ... or one id as CARD-2.
    """
    record = json.loads(files("cds_service.commands").joinpath("conformance.json").read_bytes())
    chosen = [
        line for section in record["sections"] for line in section["requirements"]
        if (group is None or line["id"] == group or line["id"].startswith(f"{group}-"))
        and (level is None or line["level"] == level)
    ]  # fmt: skip
    if not chosen:
        raise InputError("no requirement is of this group and level")
    if as_json:
        for line in chosen:
            click.echo(json.dumps({**line, "result": result_of(line)}, ensure_ascii=False))
        return
    table = Table(title=f"{record['specification']}, run of {record['run']}", title_justify="left", expand=True)
    table.add_column("Id", no_wrap=True)
    for title in ("Level", "What", "Test, or why none", "Result"):
        table.add_column(title, overflow="fold")
    for line in chosen:
        result = result_of(line)
        tests = "\n".join(test["test"] for test in line.get("tests", ()))
        table.add_row(
            line["id"],
            line["level"],
            line["what"],
            line.get("notApplicable", tests),
            f"[{STYLES[result]}]{result}[/]",
        )
    Console(highlight=False).print(table)


def result_of(line: dict[str, Any]) -> str:
    """A requirement's result: that of its worst test."""
    if "notApplicable" in line:
        return "not applicable"
    results = {test["result"] for test in line["tests"]}
    return next((result for result in WORST_FIRST if result in results), "passed" if results else "none")
