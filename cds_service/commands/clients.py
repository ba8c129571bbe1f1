"""Commands about clients: register one, list them, and see whether one's keys can be had."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from cds_service.commands.database import database_of
from cds_service.errors import InputError
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.registry import registry_of
from cds_service.settings import Settings, load_settings
from cds_service.store.clients import ClientStore
from cds_service.store.database import Database
from cds_service.store.period import written
from cds_service.trust.clients import DEFAULT_ALGORITHMS, Client, ClientRegistry, client_of
from cds_service.trust.fhir_server import load_keys
from cds_service.trust.key_sets import KeySet, read_key_set
from cds_service.trust.tokens import LEEWAY, LONGEST_LIFE

out = Console(highlight=False)


@click.group("client")
def client_commands() -> None:
    """Who may call."""


@client_commands.command("add")
@click.argument("client_id")
@click.option("--name", required=True, help="What people call it.")
@click.option("--issuer", required=True, help="The iss of its tokens.")
@click.option("--jku", help="Where it publishes its keys; fetched ahead of any call.")
@click.option("--jwks", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its keys, as a JWK Set.")
@click.option("--algorithm", "algorithms", multiple=True, help="Default: ES384 and RS384.")
@click.option("--audience", "audiences", multiple=True, help="Another aud that its tokens may have.")
@click.option("--subject", help="The sub that its tokens must have.")
@click.option("--tenant", help="The tenant of its tokens.")
@click.option("--fhir-base", "fhir_bases", multiple=True, help="A FHIR server that may be asked for it.")
@click.option("--network", "networks", multiple=True, help="A private network (CIDR) in which that server may be.")
@click.option("--ca-file", help="Certificates of the authority of that server, when not a public one.")
@click.option("--disabled", is_flag=True, default=None, help="Known, but refused.")
@click.option("--replace", is_flag=True, help="It exists already: replace it.")
def add(client_id: str, jwks: Path | None, replace: bool, **given: Any) -> None:
    """Register CLIENT_ID in the database. Running services follow within 15 seconds."""
    record: dict[str, Any] = {"id": client_id, **{name: value for name, value in given.items() if value}}
    if jwks is not None:
        try:
            record["jwks"] = orjson.loads(jwks.read_bytes())
        except orjson.JSONDecodeError:
            raise InputError(f"{jwks}: it is not JSON") from None
    record = orjson.loads(orjson.dumps(record))  # lists, as a file would have them
    client = client_of(record, "this client")
    settings = load_settings()
    database = database_of(settings, may_upgrade=settings.upgrades_schema)
    registry = registry_of(settings, database)
    if registry.problems:
        raise InputError(f"{client.id}: not registered. {not_whole(registry)}")
    known = registry.get(client.id)
    if known is not None and not replace:
        raise InputError(f"{client.id}: registered already; --replace to change it")
    other = registry.find(client.issuer, client.tenant)
    if other is not None and other.id != client.id:
        raise InputError(f"{client.id}: client {other.id} has the same issuer and tenant")
    if client.jwks is not None:
        _refuse_unusable(read_key_set(client.jwks, client.algorithms))
    ClientStore(database).put(client.id, msgspec.json.encode(client).decode(), written(datetime.now(UTC)))
    click.echo(f"{client.id} is registered. See: cds-service client test {client.id}")


def _refuse_unusable(read: KeySet) -> None:
    if not read.keys:
        raise InputError(f"no key of the JWK Set can be used: {'; '.join(read.problems)}")


@client_commands.command("list")
def list_clients() -> None:
    """All clients of CDS_CLIENTS_FILE and of the database."""
    settings = load_settings()
    registry = registry_of(settings, Database(settings.database_url))
    clients = registry.clients()
    table = Table(title=f"{len(clients)} clients", title_justify="left")
    for title in ("Id", "Name", "Issuer", "Tenant", "Keys", "FHIR servers"):
        table.add_column(title, overflow="fold")
    for client in clients:
        name = f"{client.name} (disabled)" if client.disabled else client.name
        keys = client.jku if client.jwks is None else "given"
        table.add_row(client.id, name, client.issuer, client.tenant or "", keys, "\n".join(client.fhir_bases) or "none")
    out.print(table, markup=False)
    if registry.problems:
        click.echo(not_whole(registry))


def not_whole(registry: ClientRegistry) -> str:
    """That the list of clients is not whole, and why. The registry has problems."""
    return f"The list is not whole: {'; '.join(registry.problems)}"


def registered(client_id: str, registry: ClientRegistry) -> Client:
    """The client of this id. Raises InputError when there is none."""
    client = registry.get(client_id)
    if client is None:
        known = ", ".join(client.id for client in registry.clients()) or "none"
        told = f"{client_id}: no such client. Registered: {known}"
        raise InputError(f"{told}. {not_whole(registry)}" if registry.problems else told)
    return client


@client_commands.command("test")
@click.argument("client_id")
def test_client(client_id: str) -> None:
    """Fetch the keys of CLIENT_ID and say what its tokens need."""
    settings = load_settings()
    client = registered(client_id, registry_of(settings, Database(settings.database_url)))
    if client.jwks is not None:
        document: object = client.jwks
    else:
        try:
            document = orjson.loads(load_keys(client))
        except OSError as problem:
            raise InputError(f"{client.jku}: {problem}") from None
        except orjson.JSONDecodeError:
            raise InputError(f"{client.jku}: the answer is not JSON") from None
    read = read_key_set(document, client.algorithms)
    for left_out in read.problems:
        click.echo(f"left out: {left_out}")
    _refuse_unusable(read)
    for kid, key in read.keys.items():
        click.echo(f"key {kid}: {', '.join(sorted(key.algorithms))}")
    click.echo(f"\nIts tokens are good with\n{_needs(client, settings)}")
    if client.disabled:
        raise InputError(f"{client.id}: disabled; its tokens are refused")


def _needs(client: Client, settings: Settings) -> str:
    service = f"{settings.base_url}/cds-services/{SERVICE_ID}"
    algorithms = ", ".join(client.algorithms or DEFAULT_ALGORITHMS)
    lines = [
        f"  header   alg one of {algorithms}; kid one of the above; typ JWT",
        f"           jku {client.jku}, or left out" if client.jku else "           jku left out",
        f"  iss      {client.issuer}",
        f"  aud      {service} for the service",
        f"           {service}/feedback for feedback",
        *(f"           or {audience} for both" for audience in client.audiences),
        f"  exp iat  whole seconds; exp at most {LONGEST_LIFE} after iat; clocks may differ by {LEEWAY}",
        "  jti      another for every call",
        *([f"  sub      {client.subject}"] if client.subject else []),
        f"  tenant   {client.tenant or 'left out'}",
    ]
    return "\n".join(lines)
