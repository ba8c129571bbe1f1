"""The commands ``cds-service audit`` and ``compare``: the rules over a whole export."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cds_service.commands.engines import ENGINES, Export, engine_of
from cds_service.errors import InputError
from cds_service.population.answers import answer_patient
from cds_service.population.audit import Audited, Options, answer_all, publish, run_of
from cds_service.population.compare import SAME, compare_patient, comparison
from cds_service.population.encounters import ENCOUNTERS, replay_patient, replay_summary
from cds_service.population.made import write_made
from cds_service.population.monthly import MONTHS, monthly_patient
from cds_service.population.ndjson import COMPLETE
from cds_service.population.outputs import write_audit
from cds_service.population.report import replay_page
from cds_service.record.sources import SOURCES
from cds_service.record.times import iso, moment, parse_as_of, parse_span
from cds_service.rules.difference import Difference, difference_as_json, differences
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.rule_sets import read_rule_set
from cds_service.settings import load_settings

EVERY = 5.0  # seconds between plain lines
INCOMPLETE, CHANGED = 3, 4  # exit codes
LONGEST_SHOWN = 160  # characters of a text on the terminal
REPLAYS = {"encounters": (replay_patient, ENCOUNTERS), "monthly": (monthly_patient, MONTHS)}


class Shown:
    """How far a run is: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._name, self._unit, self._total, self._done = "", "", 0, 0
        self._started = self._told = time.monotonic()
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
                       TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()

    def phase(self, name: str, unit: str, total: int) -> None:
        """Something begins that goes to ``total``."""
        self._name, self._unit, self._total, self._done = name, unit, total, 0
        self._started = self._told = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, rate="")
        else:
            self._console.print(f"{name}: {total} {unit}", soft_wrap=True)

    def advance(self, number: int, note: str = "") -> None:
        """It went on by so many."""
        self._done += number
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, advance=number, rate=f"{rate:,.1f} {self._unit}/s")
        elif now - self._told >= EVERY:
            self._told = now
            left = (self._total - self._done) / rate if rate else 0
            self._console.print(
                f"{self._name}: {self._done} of {self._total} {self._unit}, {rate:,.1f}/s, {left:.0f} s left",
                soft_wrap=True,
            )

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def common(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every walk over an export has."""
    for option in reversed((
        click.option("--as-of", "as_of", help="The day or instant the question is about; default: now."),
        click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes."),
        click.option("--memory", type=click.IntRange(8, 4096), default=96, show_default=True,
                     help="Megabytes that the part in a worker may take."),
        click.option("--parts", type=click.IntRange(1, 4096), help="Parts on the disk; default: by --memory."),
        click.option("--exported", multiple=True, type=click.Choice(["all", *SOURCES]),
                     help="A resource type that was exported although the folder holds none of it."),
    )):  # fmt: skip
        command = option(command)
    return command


def options_of(
    as_of: str | None, workers: int, memory: int, parts: int | None, exported: tuple[str, ...],
    since: str | None = None,
) -> Options:  # fmt: skip
    """The options as the audit takes them. Raises InputError when --as-of or --since is no date."""
    when: int | None = moment(datetime.now(UTC))
    if as_of is not None:
        when = parse_as_of(as_of)
    if when is None:
        raise InputError(f"--as-of {as_of}: give a date (2026-11-22) or an instant (2026-11-22T10:00:00Z)")
    return Options(
        as_of=when, public_url=load_settings().base_url, exported=tuple(sorted(exported)), workers=workers,
        memory=memory, parts=parts, since=_beginning(since),
    )  # fmt: skip


def _beginning(since: str | None) -> int | None:
    if since is None:
        return None
    span = parse_span(since)
    if span is None or len(since) < 10:
        raise InputError(f"--since {since}: give a date (2026-11-22) or an instant (2026-11-22T10:00:00Z)")
    return span.lo


@click.command("audit")
@click.argument("folder", type=Export())
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True, help="What does the work.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="An empty or new folder.")
@click.option("--exact", is_flag=True, help="Small numbers of infants are shown, and none is rounded.")
@click.option("--no-parquet", is_flag=True, help="Write NDJSON only.")
@click.option("--at", type=click.Choice(list(REPLAYS)),
              help="Replay: at each encounter, or each end of a month of life, with what was known then.")  # fmt: skip
@click.option("--since", help="Only patients of whom anything was changed or recorded since this date or instant.")
@common
def audit_command(
    folder: Path | str, engine: str, out: Path, exact: bool, no_parquet: bool, at: str | None, since: str | None,
    as_of: str | None, workers: int, memory: int, parts: int | None, exported: tuple[str, ...],
) -> None:  # fmt: skip
    """What every rule says to every patient in FOLDER, an export as FHIR bulk NDJSON or Parquet."""
    began = time.monotonic()
    options = options_of(as_of, workers, memory, parts, exported, since)
    shown = Shown(Console(stderr=True, highlight=False))
    ask = REPLAYS[at][0] if at is not None else answer_patient
    try:
        with engine_of(engine, workers, folder) as used:
            library = load_library()  # while the processes start
            audited = answer_all(folder, out, ask, (None,), (library.hash,), options, shown, used)
    finally:
        shown.stop()
    write_made(audited.results, folder, datetime.now(UTC), time.monotonic() - began)
    if at is None:
        _audit(audited, out, options, library, exact, parquet=not no_parquet)
    else:
        _replay(audited, out, options, library, exact, at)
    sys.exit(_told_incomplete(audited))


def _told_incomplete(audited: Audited) -> int:
    """Say which files ended early; the exit code for it."""
    early = [file.name for file in audited.input.files if file.ending != COMPLETE]
    if early:
        click.echo(f"  incomplete: {', '.join(early)} ended early; their types are unknown for everybody", err=True)
    return INCOMPLETE if early else 0


def _audit(audited: Audited, out: Path, options: Options, library: RuleLibrary, exact: bool, parquet: bool) -> None:
    """The report of all that was answered."""
    run = run_of(audited, (library.hash,), library.reading.pack_version, options, {"exact": exact})
    summary = write_audit(audited, run, library, options.as_of, exact, parquet)
    publish(out)
    click.echo(f"{out}: run {run['id']}")
    for stage, number in summary["attrition"].items():
        click.echo(f"  {stage}: {number}")
    lines = summary["input"]["lines"]
    bad = sum(number for fate, number in lines.items() if fate.startswith("bad"))
    click.echo(f"  {lines['in']} lines, {bad} bad; report.html, summary.json, worklist.csv, evaluations.ndjson")


def _replay(audited: Audited, out: Path, options: Options, library: RuleLibrary, exact: bool, at: str) -> None:
    """The first card of each infant that would have come at one of the moments, and what followed it."""
    asked_at = REPLAYS[at][1]
    run = run_of(audited, (library.hash,), library.reading.pack_version, options, {"at": at, "exact": exact})
    summary = replay_summary(audited.counts, run | {"asOf": iso(options.as_of)}, exact, asked_at)
    (audited.results / "replay.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    (audited.results / "report.html").write_text(replay_page(summary), encoding="utf-8")
    publish(out)
    click.echo(f"{out}: run {run['id']}, {summary[asked_at]} {asked_at} of {summary['patients']} patients")
    for heading in ("firstCard", "orderOrWorkFollowedAfter", "diagnosisFollowedAfter"):
        click.echo(f"  {heading}: " + ", ".join(f"{name} {number}" for name, number in summary[heading].items()))


@click.command("compare")
@click.argument("rules_a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("rules_b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="An empty or new folder.")
@click.option("--exact", is_flag=True, help="Small numbers of infants are shown, and none is rounded.")
@common
def compare_command(
    rules_a: Path, rules_b: Path, folder: Path, out: Path, exact: bool, as_of: str | None, workers: int, memory: int,
    parts: int | None, exported: tuple[str, ...],
) -> None:  # fmt: skip
    """To whom in FOLDER the cards/ folder RULES_B says something else than RULES_A.

    Exit code 0: to nobody. 4: to somebody; so that a review can ask for a look. 3: to nobody, but a file ended early.
    """
    options = options_of(as_of, workers, memory, parts, exported)
    old, new = read_rule_set(rules_a), read_rule_set(rules_b)
    before, after = old.library, new.library
    hashes = (before.hash, after.hash)
    found = differences(old, new)
    shown = Shown(Console(stderr=True, highlight=False))
    try:
        with engine_of("local", workers, folder) as used:
            audited = answer_all(folder, out, compare_patient, (rules_a, rules_b), hashes, options, shown, used)
    finally:
        shown.stop()
    run = run_of(audited, hashes, after.reading.pack_version, options, {"exact": exact}) | {"asOf": iso(options.as_of)}
    compared = comparison(audited.counts, audited.results, run, exact)
    compared["differences"] = [difference_as_json(item) for item in found]
    (audited.results / "compare.json").write_bytes(orjson.dumps(compared, option=orjson.OPT_INDENT_2))
    publish(out)
    _tell_differences(found)
    click.echo("infants: " + ", ".join(f"{name} {number}" for name, number in compared["infants"].items()))
    for name, table in compared["byRule"].items():
        if any(number for kind, number in table.items() if kind != SAME):
            click.echo(f"  {name}: " + ", ".join(f"{kind} {number}" for kind, number in table.items()))
            for change, reasons in compared["byReason"].get(name, {}).items():
                for why, number in list(reasons.items())[:3]:
                    click.echo(f"    {change} {number}: {why}")
    incomplete = _told_incomplete(audited)
    sys.exit(CHANGED if compared["changed"] else incomplete)


def _tell_differences(found: list[Difference]) -> None:
    """What of the rules is otherwise, the weightiest first."""
    click.echo(f"rules: {len(found)} are not the same")
    for item in found:
        versions = " → ".join(version for version in (item.before, item.after) if version)
        click.echo(f"  {item.rule}: {item.change}, {item.severity.word}, version {versions}")
        for part in item.parts:
            click.echo(f"    {part.kind}, {part.what}: {_in_line(part.before)} → {_in_line(part.after)}")


def _in_line(text: str) -> str:
    """One line of at most LONGEST_SHOWN characters; compare.json has the whole."""
    flat = " ".join(text.split()) or "nothing"
    return flat if len(flat) <= LONGEST_SHOWN else f"{flat[:LONGEST_SHOWN]}…"
