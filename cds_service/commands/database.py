"""Commands on what is stored: the schema, the decision log, feedback."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cds_service.errors import InputError, SettingsError
from cds_service.log_keys import log_keys
from cds_service.replay import Difference, replay
from cds_service.rules.library import load_library
from cds_service.settings import Settings, load_settings
from cds_service.store.database import Database
from cds_service.store.feedback import FeedbackStore
from cds_service.store.logged import count_since, logged_since
from cds_service.store.period import written
from cds_service.store.prune import prune as prune_store
from cds_service.store.readiness import condition_of
from cds_service.store.schema_version import require_schema, upgrade
from cds_service.store.seen_tokens import SeenTokens
from cds_service.store.verify import Head, verify

out = Console(highlight=False)
since_option = click.option("--since", help="From this day or instant on (UTC), as 2026-11-22; default: all.")
TOLD = (  # of a statement, by feedback --json; a clinician's free text is not among them
    "received_at", "client_id", "service", "card_uuid", "outcome", "outcome_at", "suggestions", "reason_code",
    "reason_system", "reason_display", "comment_cut", "family", "indicator", "rules", "workups", "decided_at",
    "request_id", "rule_set_version", "rule_set_hash",
)  # fmt: skip


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def database_of(settings: Settings, *, may_upgrade: bool) -> Database:
    """The database of the settings, with our schema. Raises InputError when it cannot be reached, and SettingsError."""
    database = Database(settings.database_url)
    if not require_schema(database, may_upgrade=may_upgrade):
        raise InputError("CDS_DATABASE_URL: the database cannot be reached")
    return database


def _open() -> Database:
    return database_of(load_settings(), may_upgrade=False)


def _from(since: str | None) -> str:
    """The text from which the times of the tables are compared; a day begins at 00:00 UTC."""
    if since is None:
        return ""
    try:
        when = datetime.fromisoformat(since)
    except ValueError:
        raise InputError(f"--since {since}: give a date (2026-11-22) or an instant (2026-11-22T10:00:00Z)") from None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return written(when)


@click.group("db")
def database_commands() -> None:
    """The database: schema, verification, retention."""


@database_commands.command("upgrade")
def upgrade_command() -> None:
    """Bring the schema to the one of this release; repeating it changes nothing."""
    database = Database(load_settings().database_url)
    try:
        revision = upgrade(database)
    except SettingsError:
        raise
    except Exception as problem:  # of the driver; its text names server and user, which the operator has written
        raise InputError(f"CDS_DATABASE_URL: {type(problem).__name__}; see docs/store.md") from None
    finally:
        database.close()
    click.echo(f"schema {revision}")


@database_commands.command("check")
def check_command() -> None:
    """Say whether the service can start on this database, and write to it."""
    database = _open()
    problem = condition_of(database).problem
    database.close()
    if problem:
        raise InputError(f"CDS_DATABASE_URL: {problem}; see docs/store.md")
    click.echo("the schema is current and the database can be written")


@database_commands.command("verify")
@click.option(
    "--heads", type=click.Path(dir_okay=False, path_type=Path),
    help="A file of chain ends: those noted in it are checked too, then it is renewed. Keep it on another machine.",
)  # fmt: skip
def verify_command(heads: Path | None) -> None:
    """Find rows of the decision log that were changed, removed or inserted."""
    noted = _noted(heads)
    database = _open()
    with _progress() as progress:
        task = progress.add_task("decisions", total=count_since(database, "")[0])
        verdict = verify(database, noted, lambda done: progress.update(task, completed=done))
    database.close()
    for found in verdict.breaks:
        click.echo(str(found), err=True)
    click.echo(f"{verdict.decisions} decisions in {len(verdict.heads)} chains, {len(verdict.breaks)} breaks")
    if verdict.breaks:
        raise click.ClickException("the log is not as it was written")
    if heads is not None:
        heads.write_text(json.dumps([head._asdict() for head in verdict.heads], indent=1), encoding="utf-8")


def _noted(heads: Path | None) -> tuple[Head, ...]:
    if heads is None or not heads.exists():
        return ()
    try:
        return tuple(Head(**head) for head in json.loads(heads.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{heads}: it was not written by cds-service db verify --heads") from None


@database_commands.command("prune")
@click.option("--keep-days", type=click.IntRange(1), required=True, help="Days that decisions and feedback are kept.")
@click.option("--keep-inputs-days", type=click.IntRange(0), help="Days that kept inputs are kept; default: the same.")
@click.option(
    "--keep-desk-log-days", type=click.IntRange(1), help="Days that looks at the desk are kept; default: all."
)
def prune_command(keep_days: int, keep_inputs_days: int | None, keep_desk_log_days: int | None) -> None:
    """Remove what is older than it may be, and the ids of expired tokens. The log can still be verified."""
    database = _open()
    now = datetime.now(UTC)
    before, inputs_before, desk_log_before = (
        "" if days is None else written(now - timedelta(days=days))
        for days in (keep_days, keep_days if keep_inputs_days is None else keep_inputs_days, keep_desk_log_days)
    )
    gone = prune_store(database, before, inputs_before, desk_log_before)
    tokens = SeenTokens(database).forget_expired(int(now.timestamp()))
    database.close()
    click.echo(
        f"removed {gone.decisions} decisions, {gone.kept_inputs} kept inputs, {gone.feedback} feedback, "
        f"{tokens} expired token ids, {gone.desk_log} looks at the desk"
    )


@click.command("replay")
@since_option
def replay_command(since: str | None) -> None:
    """Decide logged decisions again from their kept inputs and report what comes out otherwise."""
    settings = load_settings()
    keys, start = log_keys(settings, may_make=False).inputs, _from(since)
    if keys is None:
        raise SettingsError("CDS_INPUTS_KEY: set it to the key with which the inputs were sealed.")
    database = _open()
    logged, kept = count_since(database, start)
    library = load_library(signoff_file=settings.signoff_file, only_signed=settings.only_signed_rules)
    with _progress() as progress:
        task = progress.add_task("decisions", total=kept)
        found = replay(logged_since(database, start, keys), library, lambda done: progress.update(task, completed=done))
    database.close()
    for difference in (*found.differences, *found.unreadable):
        click.echo(_line(difference))
    click.echo(
        f"{logged} logged, {found.decisions} with their input ({found.by_other_rules} decided by other rules than "
        f"now): {len(found.differences)} differ, {len(found.unreadable)} cannot be read"
    )
    if found.differences or found.unreadable:
        raise click.ClickException("not every decision comes out as it was logged")


def _line(difference: Difference) -> str:
    return f"{difference.decided_at} {difference.request_id}: {'; '.join(difference.what)}"


@click.command("feedback")
@since_option
@click.option(
    "--json", "as_json", is_flag=True,
    help="Each statement with its card and rules, one per line; without its comment and extension.",
)  # fmt: skip
def feedback_command(since: str | None, as_json: bool) -> None:
    """What clinicians did with cards: shown, accepted, overridden and why, per family of cards."""
    database = _open()
    store, start = FeedbackStore(database), _from(since)
    statements = list(store.joined(start))
    shown = store.shown(start)
    database.close()
    if as_json:
        for statement in statements:
            told = {name: statement[name] for name in TOLD}
            told["commented"] = statement["comment"] is not None
            told["extended"] = statement["reason_extension"] is not None
            click.echo(json.dumps(told).replace("\x7f", r"\u007f"))
        return
    table = Table()
    for title in ("Cards", "Given", "Accepted", "Overridden", "Reasons"):
        table.add_column(title)
    unknown = "(not in the log)"
    families = sorted({*shown, *(statement["family"] or unknown for statement in statements)})
    for family in families:
        own = [statement for statement in statements if (statement["family"] or unknown) == family]
        outcomes = Counter(statement["outcome"] for statement in own)
        reasons = Counter(_printable(statement["reason_code"]) for statement in own if statement["reason_code"])
        named = ", ".join(f"{code} {count}" for code, count in reasons.most_common(3))
        counts = [str(shown.get(family, 0)), str(outcomes["accepted"]), str(outcomes["overridden"])]
        table.add_row(family, *counts, named, style=None)
    out.print(table, markup=False) if families else click.echo("no card was given and no feedback came")


def _printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
