"""The command ``cds-service import``: a hospital's bulk export, fetched into a folder that an audit reads."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from cds_service.bulk.backend import read_signing_key
from cds_service.bulk.importing import Identity, Imported, run_import
from cds_service.bulk.server import Server
from cds_service.bulk.state import HIDDEN, Asked, Folder
from cds_service.commands.audit import INCOMPLETE, Shown
from cds_service.errors import InputError
from cds_service.population.partition import READ_TYPES
from cds_service.trust.exchange import Origins

pause, now = time.sleep, time.time
LAST, ALL = "last", "all"
GIGABYTE = 1 << 30
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_KIND = re.compile(r"[A-Z][A-Za-z]{0,63}", re.ASCII)


class ShownImport(Shown):
    """How far an import is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._say = console.print

    def waiting(self, seconds: float, share: str) -> None:
        """The server works; it is asked again after so long."""
        far = f", {share} done" if share else ""
        self._say(f"the server prepares the export{far}; asked again in {seconds:.0f} s", soft_wrap=True)


@click.command("import")
@click.option("--base", required=True, help="The FHIR server, such as https://ehr.example/fhir/r4.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder, or one to go on with.")
@click.option("--client-id", help="Who we are there. Without, no token is asked for.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Our private key: P-384 or RSA, as PEM, JWK or JWK Set.")  # fmt: skip
@click.option("--kid", help="Its id there; default: the JWK's own, else its thumbprint.")
@click.option("--scope", help="Default: reading what is exported, as system/Patient.read.")
@click.option("--group", help="The id of a Group; default: all patients.")
@click.option(
    "--type", "types", multiple=True, help="A resource type; default: those that rules read. all: every type."
)
@click.option("--since", help="Only what changed since this instant; last: since the last import into this folder.")
@click.option("--also", multiple=True, help="Another server that may be called: for tokens or files.")
@click.option("--network", "networks", multiple=True, help="A private network (CIDR) in which they may be.")
@click.option("--ca-file", help="Certificates of their authority, when not a public one.")
@click.option("--at-once", type=click.IntRange(1, 16), default=4, show_default=True, help="Files side by side.")
@click.option("--largest", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Gigabytes of a file.")
@click.option("--patience", type=click.IntRange(1, 240), default=24, show_default=True, help="Hours to wait for it.")
def import_command(
    base: str, out: Path, client_id: str | None, key: Path | None, kid: str | None, scope: str | None,
    group: str | None, types: tuple[str, ...], since: str | None, also: tuple[str, ...], networks: tuple[str, ...],
    ca_file: str | None, at_once: int, largest: int, patience: int,
) -> None:  # fmt: skip
    """Fetch a FHIR Bulk Data export. Interrupted, the same command goes on.

    Exit code 3: something is missing, and is said.
    """
    if (client_id is None) != (key is None):
        raise InputError("--client-id and --key belong together")
    if group is not None and not _ID.fullmatch(group):
        raise InputError("--group: it is no FHIR id")
    identity = Identity(client_id, read_signing_key(key, kid), scope or "") if client_id and key else None
    base = base.rstrip("/")
    server = Server(Origins([base, *also], networks, ca_file), pause, now)
    folder = Folder(out)
    asked = Asked(base, group, _types(types), _since(since, folder))
    shown = ShownImport(Console(stderr=True, highlight=False))
    try:
        done = run_import(server, folder, asked, identity, patience * 3600.0, at_once, largest * GIGABYTE, shown)
    finally:
        shown.stop()
    _tell(done, out)


def _types(given: tuple[str, ...]) -> tuple[str, ...]:
    if ALL in given:
        return ()
    for kind in given:
        if not _KIND.fullmatch(kind):
            raise InputError(f"--type {kind}: it is no resource type")
    return tuple(sorted(set(given or (*READ_TYPES, "Medication"))))


def _since(given: str | None, folder: Folder) -> str | None:
    if given != LAST:
        if given is not None and not _INSTANT.fullmatch(given):
            raise InputError(f"--since {given}: give an instant (2026-11-22T10:00:00Z) or {LAST}")
        return given
    if folder.state is None:
        raise InputError(f"--since {LAST}: nothing was imported into {folder.path} yet")
    return folder.state.transaction_time if folder.state.finished else folder.state.asked.since


def _tell(done: Imported, out: Path) -> None:
    click.echo(f"{out}: as of {done.transaction_time}")
    for kind, number in sorted(done.resources.items()):
        click.echo(f"  {kind}: {number}")
    if done.updated.deleted or done.updated.removed:
        click.echo(
            f"  deleted there: {done.updated.deleted}; lines of earlier imports taken out: {done.updated.removed}"
        )
    if not done.job_removed:
        click.echo("  the server did not take the removal of its job")
    for code, number in sorted(done.errors.items()):
        click.echo(f"  not exported, says the server: {code} {number}; see {out / HIDDEN}", err=True)
    for problem in done.problems:
        click.echo(f"  incomplete: {problem}", err=True)
    if done.errors or done.problems:
        sys.exit(INCOMPLETE)
