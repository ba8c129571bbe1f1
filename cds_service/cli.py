"""The command ``cds-service``: serve, explain, check, mutate; more in commands/."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from cds_service.commands.audit import audit_command, compare_command
from cds_service.commands.bulk_import import import_command
from cds_service.commands.clients import client_commands
from cds_service.commands.conformance import conformance_command
from cds_service.commands.database import database_commands, feedback_command, replay_command
from cds_service.commands.population import synthesize
from cds_service.commands.rules import coverage_command, hazards_command, sign_off
from cds_service.commands.stops import stop_commands
from cds_service.commands.tokens import token_commands
from cds_service.errors import CdsError, InputError
from cds_service.explain import as_json, read_request
from cds_service.hooks.respond import HookResponse, respond
from cds_service.knowledge.rule_proof import RECORD, mutants_record, recorded_mutants
from cds_service.record.times import moment, parse_as_of
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.governance import LOCK, check, lock_text, locked
from cds_service.rules.library import compile_pack, load_library
from cds_service.rules.mutate import Trial, describe
from cds_service.rules.pack import packaged_cards, read_cases, read_pack
from cds_service.rules.rule import Outcome
from cds_service.settings import load_settings
from cds_service.store.database import Database
from cds_service.store.schema_version import require_schema

out = Console(highlight=False)
COLOURS = {
    Outcome.RECOMMENDED: "bold green", Outcome.SATISFIED: "green", Outcome.EXCLUDED: "yellow",
    Outcome.DATA_REQUIRED: "bold yellow", Outcome.INTERNAL_ERROR: "bold red", Outcome.NOT_APPLICABLE: "dim",
}  # fmt: skip


class _Group(click.Group):
    """Shows a deliberate error as its message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CdsError as problem:
            raise click.ClickException(str(problem)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cds-service")
def main() -> None:
    """CDS Hooks service that suggests workup for infants with unusual movements."""


@main.command()
@click.option("--host", help="Address to listen on; the sandbox takes loopback addresses only.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes.")
@click.option("--profile", type=click.Choice(["sandbox", "production"]), help="Where it runs.")
@click.option("--quiet", is_flag=True, help="Do not show the sample request and its card.")
def serve(host: str | None, port: int | None, workers: int | None, profile: str | None, quiet: bool) -> None:
    """Start the service."""
    from cds_service.serve import run  # a server is loaded only by whoever serves

    settings = load_settings(host=host, port=port, workers=workers, profile=profile)
    load_library()
    # Refused here, once: a worker that refuses to start is started again.
    require_schema(Database(settings.database_url), may_upgrade=settings.upgrades_schema)
    run(settings, out, show_sample=not quiet)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--as-of", "as_of", help="The day or instant the question is about; default: the file's, else now.")
@click.option("--json", "as_json_", is_flag=True, help="For programs.")
def explain(file: Path, as_of: str | None, as_json_: bool) -> None:
    """What every rule says of the one patient in FILE (request, Bundle or NDJSON), and the cards."""
    request = read_request(file.name, file.read_bytes())
    when = request.as_of if request.as_of is not None else moment(datetime.now(UTC))
    if as_of is not None:
        chosen = parse_as_of(as_of)
        if chosen is None:
            raise InputError(f"--as-of {as_of}: give a date (2026-11-22) or an instant (2026-11-22T10:00:00Z)")
        when = chosen
    response = respond(request, load_library(), when, load_settings().base_url)
    if as_json_:
        click.echo(json.dumps(as_json(response), indent=2, ensure_ascii=False))
        return
    _show(response)


def _show(response: HookResponse) -> None:
    table = Table(title=f"What {len(response.evaluations)} rules say", title_justify="left", expand=True)
    for title in ("Rule", "Outcome", "Why"):
        table.add_column(title, overflow="fold")
    order = list(Outcome)
    for evaluation in sorted(response.evaluations, key=lambda e: order.index(e.outcome)):
        style = COLOURS[evaluation.outcome]
        table.add_row(evaluation.rule.id, f"[{style}]{evaluation.outcome.value}[/]", escape(_why(evaluation)))
    out.print(table)
    cards = response.body["cards"]
    out.print(f"\n{len(cards)} card{'' if len(cards) == 1 else 's'}", style="bold")
    for card in cards:
        out.print(f"\n[{card['indicator']}] {card['summary']}", style="bold", markup=False)
        out.print(Markdown(card["detail"]))


def _why(evaluation: Evaluation) -> str:
    if evaluation.outcome is Outcome.INTERNAL_ERROR:
        return "the rule raised: a defect of this service"
    parts = []
    reasons = {reason.name: reason for reason in evaluation.reasons}
    silent = evaluation.outcome in (Outcome.NOT_APPLICABLE, Outcome.EXCLUDED)
    for reason in [reasons[name] for name in evaluation.decided_by] if silent else reasons.values():
        shown = sorted(
            {item.reference + (f" {item.value} {item.unit}" if item.value else "") for item in reason.evidence}
        )
        text = f"{reason.name}: {reason.truth.word}"
        if shown and reason.truth.word == "true":
            text += f" ({', '.join(shown[:3])}{', …' if len(shown) > 3 else ''})"
        if reason.missing:
            text += f" (missing: {', '.join(reason.missing[:3])})"
        parts.append(text)
    done = [item for item in evaluation.suggested if item.taken_care_of.truth.word == "true"]
    parts += [f"{item.workup.id} is done or ordered ({item.taken_care_of.evidence[0].reference})" for item in done]
    return "; ".join(parts)


@main.command("check")
@click.option("--cards", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A cards/ folder.")
@click.option("--lock", is_flag=True, help="Write rules.lock.json for the rules as they are.")
def check_command(cards: Path | None, lock: bool) -> None:
    """Check the knowledge pack: schemas, references, lock, cases, draft orders."""
    from cds_service.knowledge.card_texts import card_problems
    from cds_service.knowledge.draft_orders import order_problems  # fhir.resources takes a second to load

    root = cards if cards is not None else packaged_cards()
    if lock:
        text, refused = lock_text(load_library(root), locked(root))
        if refused:
            raise click.ClickException("\n".join(map(str, refused)))
        Path(str(root / LOCK)).write_text(text, encoding="utf-8")
    report = check(root, order_problems, card_problems)
    for mistake in report.mistakes:
        click.echo(str(mistake), err=True)
    click.echo(", ".join(f"{count} {name}" for name, count in report.counts.items()))
    click.echo(", ".join(f"{name}: {figure:g}" for name, figure in report.figures.items()))
    if report.mistakes:
        raise click.ClickException(f"{len(report.mistakes)} mistakes")


@main.command()
@click.option("--cards", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A cards/ folder.")
@click.option("--record", is_flag=True, help="Write mutants.json, which the pages of the rules show.")
@click.argument("rules", nargs=-1)
def mutate(cards: Path | None, record: bool, rules: tuple[str, ...]) -> None:
    """Change every threshold, list item, name and joint of the rules; each change has to fail a case.

    With RULES, only the files of these rules are changed; without, the whole pack.
    """
    root = cards if cards is not None else packaged_cards()
    pack = read_pack(root)
    library = compile_pack(pack)
    for name in rules:
        if library.rule(name) is None:
            raise InputError(f"{name}: no rule is called this")
    files, limit_cases = read_cases(root)
    trial = Trial(pack, files, limit_cases)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("mutants", total=None)
        count, survivors = trial.survivors(lambda done: progress.update(task, completed=done), rules or None)
    for line in describe(survivors):
        click.echo(line)
    click.echo(f"{count} mutants, {len(survivors)} survive")
    if survivors:
        raise click.ClickException("add a case that tells each survivor from the true rule")
    if not rules:
        _record_mutants(root, mutants_record(pack, library, survivors), record)


def _record_mutants(root: Traversable | Path, found: dict[str, dict[str, Any]], write: bool) -> None:
    if write:
        (Path(str(root)) / RECORD).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif found != recorded_mutants(root):
        raise click.ClickException(f"{RECORD} tells of other rules or numbers: cds-service mutate --record")


for command in (audit_command, compare_command, coverage_command, hazards_command, sign_off, synthesize):
    main.add_command(command)

for stored in (database_commands, replay_command, feedback_command):
    main.add_command(stored)

for trusted in (client_commands, token_commands):
    main.add_command(trusted)

main.add_command(conformance_command)
main.add_command(import_command)

for stopping in stop_commands:
    main.add_command(stopping)

if __name__ == "__main__":
    sys.exit(main())
