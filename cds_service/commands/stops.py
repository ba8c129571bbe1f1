"""The commands ``cds-service stop`` and ``lift``: a rule silenced in an emergency without a browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click

from cds_service.commands.database import database_of
from cds_service.errors import InputError
from cds_service.rules.library import load_library
from cds_service.settings import load_settings
from cds_service.store.database import Database
from cds_service.store.desk_log import note
from cds_service.store.period import written
from cds_service.store.stops import lift, reason_problem, stop, stopped

Change = Callable[[Database, str, str, str, str], bool]


def _options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--by", required=True, help="Your full name.")(command)
    return click.option("--reason", required=True, help="Why; kept, and shown to those who govern the rules.")(command)


@click.command("stop")
@click.argument("rule")
@_options
def stop_command(rule: str, reason: str, by: str) -> None:
    """Stop RULE: within five seconds no running worker puts it on a card, nor does any after a restart."""
    if load_library().rule(rule) is None:
        raise InputError(f"{rule}: no rule is called this; see cds-service check")
    if not _change(stop, "stop", rule, reason, by):
        raise InputError(f"{rule} is stopped already; nothing was changed")
    click.echo(f"{rule} is stopped by {by}. It speaks again after: cds-service lift {rule}")


@click.command("lift")
@click.argument("rule")
@_options
def lift_command(rule: str, reason: str, by: str) -> None:
    """Let the stopped RULE speak again, where it is signed or drafts may speak."""
    if not _change(lift, "lift", rule, reason, by):
        raise InputError(f"{rule} is not stopped; nothing was changed. Stopped: {', '.join(_stopped()) or 'none'}")
    click.echo(f"The stop of {rule} is lifted by {by}.")


def _change(change: Change, route: str, rule: str, reason: str, by: str) -> bool:
    """Write it down, and who did it beside what people did in the browser."""
    reason, by = " ".join(reason.split()), " ".join(by.split())
    problem = reason_problem(reason)
    if problem or not by:
        raise InputError(problem or "--by: give your name")
    database = _database()
    at = written(datetime.now(UTC))
    done = change(database, rule, by, reason, at)
    if done:
        note(database, at=at, who=by, role="operator", method="command", route=f"cds-service {route}", subject=rule,
             status=0)  # fmt: skip
    return done


def _database() -> Database:
    settings = load_settings()
    return database_of(settings, may_upgrade=settings.upgrades_schema)


def _stopped() -> list[str]:
    return sorted(stopped(_database()))


stop_commands = (stop_command, lift_command)
