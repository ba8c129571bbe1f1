"""Commands of those who keep the rules: coverage, hazards, sign-off."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cds_service.errors import InputError
from cds_service.rules.content_hash import content_hash
from cds_service.rules.coverage import Row, coverage
from cds_service.rules.hazards import hazards_page
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.pack import packaged_cards, read_pack
from cds_service.rules.signoff import sign
from cds_service.rules.signoff_file import change_signoffs

out = Console(highlight=False)
cards_option = click.option(
    "--cards", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A cards/ folder."
)


@click.command("coverage")
@cards_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("names", nargs=-1)
def coverage_command(cards: Path | None, as_json: bool, names: tuple[str, ...]) -> None:
    """What each assertion of the documents feeds, and what each rule rests on.

    NAMES narrow it to documents, assertions (CLONUS-22) or rules.
    """
    library = load_library(cards)
    rows = [row for found in coverage(library).values() for row in found]
    rules = {rule.id: rule for rule in library.rules}
    known = {row.assertion.id for row in rows} | {row.assertion.document for row in rows} | rules.keys()
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(f"{', '.join(unknown)}: no document, assertion or rule is called this")
    if names:
        rows = [
            row for row in rows if {row.assertion.id, row.assertion.document, *row.rules} & set(names)
        ]  # fmt: skip
        rules = {
            name: rule for name, rule in rules.items() if name in names or {rule.document, *rule.draws_on} & set(names)
        }
    if as_json:
        click.echo(json.dumps(_as_data(rows, library, rules), indent=2, ensure_ascii=False))
        return
    _show_assertions(rows)
    table = Table(title="Rules and what they rest on", title_justify="left", expand=True)
    for title in ("Rule", "Basis", "Rests on", "File"):
        table.add_column(title, overflow="fold")
    for rule in rules.values():
        settled = f" ({', '.join(rule.conflicts)})" if rule.conflicts else ""
        table.add_row(rule.id, rule.basis, ", ".join(rule.draws_on) + settled, rule.file)
    out.print(table)


def _show_assertions(rows: list[Row]) -> None:
    document = ""
    table = Table()
    for row in rows:
        if row.assertion.document != document:
            if document:
                out.print(table)
            document = row.assertion.document
            table = Table(title=escape(row.assertion.document_title), title_justify="left", expand=True)
            for title in ("Assertion", "Says", "Rules", "Text for families, or why nothing"):
                table.add_column(title, overflow="fold")
        table.add_row(
            f"{row.assertion.id}\n§ {row.assertion.paragraph}", escape(row.assertion.says), "\n".join(row.rules) or "–",
            escape("\n".join(row.texts) or row.reason or "–"),
        )  # fmt: skip
    if rows:
        out.print(table)


def _as_data(rows: list[Row], library: RuleLibrary, rules: object) -> dict[str, object]:
    shown = set(rules) if isinstance(rules, dict) else set()
    return {
        "assertions": [
            {
                "id": row.assertion.id,
                "document": row.assertion.document,
                "section": row.assertion.section,
                "paragraph": row.assertion.paragraph,
                "says": row.assertion.says,
                "actionable": row.assertion.actionable,
                "rules": list(row.rules),
                "texts": list(row.texts),
                "reason": row.reason,
            }
            for row in rows
        ],
        "rules": [
            {"id": rule.id, "version": rule.version, "basis": rule.basis, "citation": rule.citation,
             "draws_on": list(rule.draws_on), "conflicts": list(rule.conflicts), "file": rule.file}
            for rule in library.rules if rule.id in shown
        ],
    }  # fmt: skip


@click.command("hazards")
@cards_option
def hazards_command(cards: Path | None) -> None:
    """The hazards of each rule in both directions with the case that holds each: the text of docs/hazards.md."""
    click.echo(hazards_page(load_library(cards)), nl=False)


@click.command("sign-off")
@click.argument("rule")
@click.option("--by", required=True, help="Your full name; an author of the rule cannot sign.")
@click.option("--role", required=True, help="One of the roles in the sign-off file.")
@cards_option
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your hospital's sign-off file; default: signoff.yaml of the cards/ folder.",
)  # fmt: skip
def sign_off(rule: str, by: str, role: str, cards: Path | None, file: Path | None) -> None:
    """Sign RULE as it stands now. Two people with different roles, one clinical, let it speak in production.

    The signature is bound to everything that decides what the rule says; when any of it changes, it is void.
    """
    root = cards if cards is not None else packaged_cards()
    pack = read_pack(root)
    target = file if file is not None else Path(str(root / "signoff.yaml"))
    today = datetime.now(UTC).date().isoformat()
    signoffs = change_signoffs(root, target, lambda known: sign(known, pack, rule, by, role, today))
    content = content_hash(pack, rule)
    speaks = signoffs.lets_speak(rule, content)
    click.echo(f"{rule} {pack.rules[rule][1].data['version']} signed by {by} ({role}), content {content[:12]}")
    waiting = "One more signature, of another role, is needed."
    click.echo("It speaks in production from the next start." if speaks else waiting)
