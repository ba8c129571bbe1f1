"""What the environment says, as ``CDS_*``; what is unsafe or impossible is refused at start."""

from __future__ import annotations

import os
import re
import stat
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from cds_service.errors import SettingsError
from cds_service.store.database import database_files

_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:.]+\](:\d{1,5})?", re.ASCII)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHORTEST_SESSION_KEY = 32
SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable; it reads it when first imported
ADDRESS_CALLS, CLIENT_CALLS = 200, 100  # a second, for each worker, in production


class Profile(Enum):
    """Where the service runs. The sandbox is for trying out, on this machine only."""

    SANDBOX = "sandbox"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Every setting with its default. docs/settings.md names each."""

    model_config = SettingsConfigDict(env_prefix="CDS_", frozen=True, extra="ignore")

    profile: Profile = Profile.SANDBOX
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    public_url: str | None = None
    database_url: str = Field(default="sqlite:///cds-service.sqlite3", repr=False)  # it may hold a password
    decision_queue: int = Field(default=10_000, ge=1)
    clients_file: Path | None = None
    discovery_needs_token: bool = False
    discovery_version: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$")
    hook_version: str | None = Field(default=None, pattern=r"^\d+\.\d+$")
    tokens_without_store: Literal["remember", "refuse"] = "remember"
    fhir_seconds: float = Field(default=2.0, gt=0, le=2.0)
    sandbox_fhir_bases: str = ""
    keep_inputs: bool | None = None
    inputs_key: str | None = Field(default=None, repr=False)
    pseudonym_key: str | None = Field(default=None, repr=False)
    signoff_file: Path | None = None
    releases_dir: Path | None = None
    cohort_dir: Path | None = None
    cors_origins: str = ""
    calls_per_address: int | None = Field(default=None, ge=0)
    calls_per_client: int | None = Field(default=None, ge=0)
    proxies: str = ""
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = Field(default=None, repr=False)
    oidc_roles_claim: str = "roles"
    oidc_networks: str = ""
    oidc_ca_file: Path | None = None
    session_key: str | None = Field(default=None, repr=False)
    sandbox_page: bool | None = None
    audits_dir: Path | None = None

    @property
    def base_url(self) -> str:
        """The URL under which people and EHRs reach us."""
        return (self.public_url or self.local_url).rstrip("/")

    @property
    def local_url(self) -> str:
        """The URL of the address on which we listen."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def unsigned_callers(self) -> bool:
        """Whether a caller of this machine may come without a token."""
        return self.profile is Profile.SANDBOX

    @property
    def has_login(self) -> bool:
        """Whether people log in at an identity provider; in the sandbox without, whoever comes may do everything."""
        return bool(self.oidc_issuer)

    @property
    def has_sandbox_page(self) -> bool:
        """Whether the desk has a page on which requests are made up and tried out."""
        return self.profile is Profile.SANDBOX if self.sandbox_page is None else self.sandbox_page

    @property
    def networks_of_provider(self) -> tuple[str, ...]:
        """Where else than in public the identity provider may be. Raises ValueError."""
        near = ("127.0.0.0/8", "::1/128") if self.profile is Profile.SANDBOX else ()
        return tuple(str(ip_network(network)) for network in _listed(self.oidc_networks)) + near

    @property
    def only_signed_rules(self) -> bool:
        """Whether rules that no clinician has signed run silently."""
        return self.profile is Profile.PRODUCTION

    @property
    def fhir_bases_of_sandbox(self) -> tuple[str, ...]:
        """The FHIR servers that a caller without token may have us ask."""
        return _listed(self.sandbox_fhir_bases)

    @property
    def accepts_as_of(self) -> bool:
        """Whether a request may say for which day it asks: only where sample patients live."""
        return self.profile is Profile.SANDBOX

    @property
    def upgrades_schema(self) -> bool:
        """Whether a start may change the database's schema: only where samples live, in a file."""
        return self.profile is Profile.SANDBOX and self.database_url.startswith("sqlite")

    @property
    def makes_keys(self) -> bool:
        """Whether keys of the log that are not given are made and kept beside the database (store.made_keys)."""
        return self.upgrades_schema

    @property
    def keeps_inputs(self) -> bool:
        """Whether inputs are kept, where there is a key to seal them: in the sandbox unless it is told not to."""
        return self.makes_keys if self.keep_inputs is None else self.keep_inputs

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose browser pages may call; ``*`` among them means any. The sandbox lets any, unless told."""
        listed = frozenset(_listed(self.cors_origins))
        return listed or frozenset({"*"} if self.profile is Profile.SANDBOX else ())

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Where our own reverse proxies are, whose X-Forwarded-For is believed. Raises ValueError."""
        return tuple(ip_network(proxy) for proxy in _listed(self.proxies))

    @property
    def rate_of_addresses(self) -> int:
        """Calls a second that one address may make in the long run; 0: any number."""
        default = ADDRESS_CALLS if self.profile is Profile.PRODUCTION else 0
        return default if self.calls_per_address is None else self.calls_per_address

    @property
    def rate_of_clients(self) -> int:
        """Calls a second that one client may make in the long run; 0: any number."""
        default = CLIENT_CALLS if self.profile is Profile.PRODUCTION else 0
        return default if self.calls_per_client is None else self.calls_per_client


def load_settings(**overrides: object) -> Settings:
    """The settings of the environment with the command line's on top.

    Raises SettingsError for a value that cannot be read, for a sandbox that other machines could reach, and for
    a production that would be unsafe (docs/settings.md).
    """
    try:
        settings = Settings(**{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as problem:
        names = ", ".join(f"CDS_{str(error['loc'][0]).upper()}" for error in problem.errors())
        raise SettingsError(f"{names}: the value cannot be read. See docs/settings.md.") from None
    if settings.keep_inputs and not settings.inputs_key and not settings.makes_keys:
        raise SettingsError(
            "CDS_KEEP_INPUTS: inputs are kept sealed only. Set CDS_INPUTS_KEY; make one with: openssl rand -base64 32"
        )
    try:
        _ = settings.proxy_networks
    except ValueError:
        raise SettingsError("CDS_PROXIES: give addresses or networks, as 10.0.0.0/8, separated by commas.") from None
    for origin in settings.origins - {"*"}:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"CDS_CORS_ORIGINS: {origin} is no origin; give scheme and host, as https://ehr.example."
            )
    refuse_half_a_login(settings)
    if settings.profile is Profile.PRODUCTION:
        refuse_unsafe(settings)
    elif settings.host not in LOOPBACK:
        raise SettingsError(f"CDS_HOST: the sandbox profile is for this machine only. Use one of {LOOPBACK}.")
    return settings


def refuse_half_a_login(settings: Settings) -> None:
    """Raises SettingsError for a login that lacks a part, or that somebody on the way could read or forge."""
    parts = {
        "CDS_OIDC_ISSUER": settings.oidc_issuer,
        "CDS_OIDC_CLIENT_ID": settings.oidc_client_id,
        "CDS_OIDC_CLIENT_SECRET": settings.oidc_client_secret,
    }
    lacking = [name for name, value in parts.items() if not value]
    if len(lacking) == len(parts):
        return
    if lacking:
        raise SettingsError(f"{', '.join(lacking)}: a login needs issuer, client id and secret; give all or none.")
    issuer = urlsplit(settings.oidc_issuer or "")
    near = settings.profile is Profile.SANDBOX and issuer.scheme == "http" and issuer.hostname in LOOPBACK
    if (issuer.scheme != "https" and not near) or not issuer.hostname or issuer.query or issuer.fragment:
        raise SettingsError("CDS_OIDC_ISSUER: give the provider's https URL, as its configuration document names it.")
    try:
        _ = settings.networks_of_provider
    except ValueError:
        raise SettingsError("CDS_OIDC_NETWORKS: give networks, as 10.0.0.0/8, separated by commas.") from None
    key = settings.session_key or ""
    if len(key) < SHORTEST_SESSION_KEY and (key or settings.profile is Profile.PRODUCTION):
        raise SettingsError(
            "CDS_SESSION_KEY: a login needs a key of 32 characters or more, the same for all workers and machines; "
            "make one with: openssl rand -base64 32"
        )


def refuse_unsafe(settings: Settings) -> None:
    """Raises SettingsError for what a service that strangers can reach may not have."""
    public = urlsplit(settings.public_url or "")
    if public.scheme != "https" or not public.hostname or public.query or public.fragment or public.username:
        raise SettingsError("CDS_PUBLIC_URL: production needs the https URL under which clients reach us.")
    if settings.sandbox_fhir_bases:
        raise SettingsError("CDS_SANDBOX_FHIR_BASES: is for the sandbox; register bases with each client instead.")
    if os.environ.get("FLASK_DEBUG", "0").lower() not in ("", "0", "false", "no"):
        raise SettingsError("FLASK_DEBUG: production does not start with a debugger.")
    if "*" in settings.origins:
        raise SettingsError("CDS_CORS_ORIGINS: production does not let pages of any origin call; list the origins.")
    insecure = [origin for origin in sorted(settings.origins) if not origin.startswith("https://")]
    if insecure:
        raise SettingsError(f"CDS_CORS_ORIGINS: {insecure[0]} is not https.")
    for file in database_files(settings.database_url):
        if _others_may(file, stat.S_IRWXO):
            raise SettingsError(f"CDS_DATABASE_URL: {file} can be read by any user of this machine; chmod o-rwx.")
    signed = settings.signoff_file
    if signed is not None and _others_may(signed, stat.S_IWOTH):
        raise SettingsError(f"CDS_SIGNOFF_FILE: {signed} can be written by any user of this machine; chmod o-w.")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _others_may(path: Path, what: int) -> bool:
    try:
        return bool(path.stat().st_mode & what)
    except OSError:
        return False
