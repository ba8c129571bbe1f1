"""What the environment says, as ``CDS_*``; what is unsafe or impossible is refused at start."""

from __future__ import annotations

import os
import stat
from enum import Enum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from cds_service.errors import SettingsError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
    database_url: str = "sqlite:///cds-service.sqlite3"
    decision_queue: int = Field(default=10_000, ge=1)
    clients_file: Path | None = None
    discovery_needs_token: bool = False
    discovery_version: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$")
    hook_version: str | None = Field(default=None, pattern=r"^\d+\.\d+$")
    tokens_without_store: Literal["remember", "refuse"] = "remember"
    fhir_seconds: float = Field(default=2.0, gt=0, le=2.0)
    sandbox_fhir_bases: str = ""
    keep_inputs: bool = False
    inputs_key: str | None = Field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        """The URL under which people and EHRs reach us."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def unsigned_callers(self) -> bool:
        """Whether a caller of this machine may come without a token."""
        return self.profile is Profile.SANDBOX

    @property
    def only_signed_rules(self) -> bool:
        """Whether rules that no clinician has signed run silently."""
        return self.profile is Profile.PRODUCTION

    @property
    def fhir_bases_of_sandbox(self) -> tuple[str, ...]:
        """The FHIR servers that a caller without token may have us ask."""
        return tuple(base.strip() for base in self.sandbox_fhir_bases.split(",") if base.strip())

    @property
    def accepts_as_of(self) -> bool:
        """Whether a request may say for which day it asks: only where sample patients live."""
        return self.profile is Profile.SANDBOX

    @property
    def upgrades_schema(self) -> bool:
        """Whether a start may change the database's schema: only where samples live, in a file."""
        return self.profile is Profile.SANDBOX and self.database_url.startswith("sqlite")

    @property
    def any_origin(self) -> bool:
        """Whether a browser page of any origin may call: only in the sandbox."""
        return self.profile is Profile.SANDBOX


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
    if settings.keep_inputs and not settings.inputs_key:
        raise SettingsError(
            "CDS_KEEP_INPUTS: inputs are kept sealed only. Set CDS_INPUTS_KEY; make one with: openssl rand -base64 32"
        )
    if settings.profile is Profile.PRODUCTION:
        refuse_unsafe(settings)
    elif settings.host not in LOOPBACK:
        raise SettingsError(f"CDS_HOST: the sandbox profile is for this machine only. Use one of {LOOPBACK}.")
    return settings


def refuse_unsafe(settings: Settings) -> None:
    """Raises SettingsError for what a service that strangers can reach may not have."""
    public = urlsplit(settings.public_url or "")
    if public.scheme != "https" or not public.hostname or public.query or public.fragment or public.username:
        raise SettingsError("CDS_PUBLIC_URL: production needs the https URL under which clients reach us.")
    if settings.sandbox_fhir_bases:
        raise SettingsError("CDS_SANDBOX_FHIR_BASES: is for the sandbox; register bases with each client instead.")
    if os.environ.get("FLASK_DEBUG", "0").lower() not in ("", "0", "false", "no"):
        raise SettingsError("FLASK_DEBUG: production does not start with a debugger.")
    database = settings.database_url.removeprefix("sqlite:///")
    if database != settings.database_url and _is_open_to_all(Path(database)):
        raise SettingsError(f"CDS_DATABASE_URL: {database} can be read by any user of this machine; chmod o-rwx.")


def _is_open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IRWXO)
    except OSError:
        return False
