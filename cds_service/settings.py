"""What the environment says, as ``CDS_*``; what is unsafe or impossible is refused at start."""

from __future__ import annotations

from enum import Enum

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

    @property
    def base_url(self) -> str:
        """The URL under which people and EHRs reach us."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def accepts_as_of(self) -> bool:
        """Whether a request may say for which day it asks: only where sample patients live."""
        return self.profile is Profile.SANDBOX

    @property
    def any_origin(self) -> bool:
        """Whether a browser page of any origin may call: only in the sandbox."""
        return self.profile is Profile.SANDBOX


def load_settings(**overrides: object) -> Settings:
    """The settings of the environment with the command line's on top.

    Raises SettingsError for a value that cannot be read, for a sandbox that other machines could reach, and
    for production, which needs callers to be authenticated and rules to be signed: neither is there yet.
    """
    try:
        settings = Settings(**{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as problem:
        names = ", ".join(f"CDS_{str(error['loc'][0]).upper()}" for error in problem.errors())
        raise SettingsError(f"{names}: the value cannot be read. See docs/settings.md.") from None
    if settings.profile is Profile.PRODUCTION:
        raise SettingsError(
            "CDS_PROFILE=production: this release cannot authenticate callers and no rule is signed off, so it "
            "does not start in production. Use the sandbox profile on 127.0.0.1."
        )
    if settings.host not in LOOPBACK:
        raise SettingsError(f"CDS_HOST: the sandbox profile is for this machine only. Use one of {LOOPBACK}.")
    return settings
