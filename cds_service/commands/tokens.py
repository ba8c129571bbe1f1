"""Commands about tokens: make keys and a token for trying out, and see what the service would say of a token."""

from __future__ import annotations

import json
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cds_service.commands.clients import not_whole, registered
from cds_service.errors import InputError, StoreUnavailable
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.registry import registry_of
from cds_service.settings import load_settings
from cds_service.store.database import Database
from cds_service.store.seen_tokens import SeenTokens
from cds_service.trust.fhir_server import load_keys
from cds_service.trust.key_sets import PrivateKey, public_jwk
from cds_service.trust.keys import KeyRing
from cds_service.trust.tokens import EXPLAINED, Cause, Refused, TokenCheck

CURVES: dict[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
ALGORITHMS = [*CURVES, "RS256", "RS384", "RS512"]
RSA_BITS = 3072


@click.group("token")
def token_commands() -> None:
    """What shows who a client is."""


@token_commands.command("keys")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--algorithm", type=click.Choice(ALGORITHMS), default="ES384", show_default=True)
def make_keys(folder: Path, algorithm: str) -> None:
    """Make a key pair in FOLDER: private.pem, for the client alone, and jwks.json, for us."""
    folder.mkdir(parents=True, exist_ok=True)
    private_file = folder / "private.pem"
    if private_file.exists():
        raise InputError(f"{private_file}: it exists already; keys are not overwritten")
    private: PrivateKey
    if algorithm in CURVES:
        private = ec.generate_private_key(CURVES[algorithm]())
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    with open(os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    jwks = {"keys": [{**public_jwk(private), "alg": algorithm, "use": "sig"}]}
    (folder / "jwks.json").write_text(json.dumps(jwks, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{private_file} (keep it secret) and {folder / 'jwks.json'} (register it)")


def _fitting(private: PrivateKey) -> str:
    if isinstance(private, rsa.RSAPrivateKey):
        return "RS384"
    return next(name for name, curve in CURVES.items() if isinstance(private.curve, curve))


@token_commands.command("make")
@click.argument("client_id")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="The client's private key, PEM.")  # fmt: skip
@click.option("--kid", help="Default: the key's thumbprint, as 'token keys' writes it.")
@click.option("--algorithm", type=click.Choice(ALGORITHMS), help="Default: what fits the key; RS384 for RSA.")
@click.option("--url", help="The URL that will be called. Default: our service.")
@click.option("--lifetime", type=int, default=300, show_default=True, help="Seconds.")
def make(client_id: str, key: Path, kid: str | None, algorithm: str | None, url: str | None, lifetime: int) -> None:
    """A token for one call, as client CLIENT_ID would sign it."""
    settings = load_settings()
    client = registered(client_id, registry_of(settings, Database(settings.database_url)))
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        raise InputError(f"{key}: it is not a private key in PEM without password") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InputError(f"{key}: it is neither an RSA nor an EC key")
    now = int(datetime.now(UTC).timestamp())
    claims: dict[str, Any] = {
        "iss": client.issuer, "aud": url or f"{settings.base_url}/cds-services/{SERVICE_ID}", "iat": now,
        "exp": now + lifetime, "jti": str(uuid.uuid4()),
    }  # fmt: skip
    claims.update({name: value for name, value in (("tenant", client.tenant), ("sub", client.subject)) if value})
    header: dict[str, Any] = {"kid": kid or public_jwk(private)["kid"], "typ": "JWT"}
    if client.jku is not None:
        header["jku"] = client.jku
    click.echo(jwt.encode(claims, private, algorithm or _fitting(private), headers=header))


@token_commands.command("check")
@click.argument("written", metavar="TOKEN")
@click.option("--url", help="The URL that is called with it. Default: our service.")
def check(written: str, url: str | None) -> None:
    """What the service would say of TOKEN now, and why; - reads it from standard input. Uses nothing up."""
    settings = load_settings()
    text = sys.stdin.read().strip() if written == "-" else written
    authorization = text if " " in text else f"Bearer {text}" if text else None
    endpoint = url or f"{settings.base_url}/cds-services/{SERVICE_ID}"
    now = int(datetime.now(UTC).timestamp())
    database = Database(settings.database_url)
    registry = registry_of(settings, database)
    keys = KeyRing(registry, load_keys)
    tokens = TokenCheck(registry, keys, SeenTokens(database))
    try:
        try:
            client = tokens.look(authorization, endpoint, now)
        except Refused as refused:
            if refused.cause is not Cause.KEY or refused.client is None or refused.client.jwks is not None:
                raise
            keys.refresh(refused.client)
            client = tokens.look(authorization, endpoint, now)
    except Refused as refused:
        whose = f" (client {refused.client.id})" if refused.client is not None else ""
        told = f"401, {refused.cause.value}{whose}: {EXPLAINED[refused.cause]}"
        if refused.client is None and registry.problems:
            told += f". {not_whole(registry)}"
        raise click.ClickException(told) from None
    except StoreUnavailable:
        raise click.ClickException("the token is good, but the database does not say whether it was used") from None
    click.echo(f"good: client {client.id}")
