"""Who is calling: before anything under /cds-services is looked at, the caller is known or refused.

Every refusal looks the same: 401 without a body. The cause goes into the log and a counter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address

from flask import g, request
from prometheus_client import Counter

from cds_service.errors import Overloaded, SettingsError, Unauthenticated
from cds_service.registry import registry_of
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.seen_tokens import SeenTokens as StoredTokens
from cds_service.trust.clients import Client
from cds_service.trust.fhir_server import KEYS_SECONDS, FhirAccess, FhirCalls, load_keys
from cds_service.trust.keys import KeyRing
from cds_service.trust.seen_tokens import SeenInMemory, SeenTokens, SeenWithFallback
from cds_service.trust.tokens import Refused, TokenCheck
from cds_service.web.health import Health
from cds_service.web.logs import logger

ROOT = "/cds-services"
API = ("hooks", "feedback")  # the blueprints that are reached below it, however the path is written
FORGET_EVERY = 1000  # accepted tokens of this worker
MAY_WAIT = "cds.may_wait"  # in the WSGI environment; False where waiting would hold other callers
NO_THREAD = "cds.no_thread"  # likewise; True for a call that has to wait and got no thread for it
UNREAD = "clients: those of the database have not been read since the start"


class Callers:
    """The callers of one worker."""

    def __init__(self, settings: Settings, database: Database, health: Health, now: Callable[[], datetime]) -> None:
        """Raises SettingsError when production has no client to serve."""
        self._settings = settings
        self._now = now
        registry = registry_of(settings, database)
        if settings.profile is Profile.PRODUCTION and not len(registry):
            told = "".join(f" Now {problem}." for problem in registry.problems)
            raise SettingsError(
                "CDS_CLIENTS_FILE: production needs at least one registered client, in this file or by "
                f"cds-service client add. See docs/trust.md.{told}"
            )
        self._registry = registry
        self.keys = KeyRing(registry, load_keys)
        self._stored = StoredTokens(database)
        self.seen: SeenTokens = self._stored
        if settings.tokens_without_store == "remember":
            self.seen = SeenWithFallback(self._stored, SeenInMemory(lambda: now().timestamp()), time.monotonic)
        self._check = TokenCheck(registry, self.keys, self.seen)
        self._accepted = 0
        health.problem_sources.append(self.problems)
        health.warning_sources.append(self.warnings)
        self._calls = FhirCalls(settings.fhir_seconds)
        self._refused = Counter("cds_tokens_refused", "Callers refused, by cause", ["cause"], registry=health.registry)
        self._visitor = Client(
            id="", name="Unsigned callers of the sandbox", issuer="sandbox",
            fhir_bases=settings.fhir_bases_of_sandbox, networks=("127.0.0.0/8", "::1/128"), fhir_without_token=True,
        )  # fmt: skip
        self.keys.preload(KEYS_SECONDS)

    def know(self) -> None:
        """Before a request: find out who calls. Raises Unauthenticated, and Overloaded before anything is done."""
        if request.environ.get(NO_THREAD, False):
            raise Overloaded("overloaded", "The service cannot take this call now. Try again.")
        path = request.path
        if request.blueprint not in API and path != ROOT and not path.startswith(ROOT + "/"):
            return
        discovery = path == ROOT and request.method in ("GET", "HEAD")
        if request.method != "POST" and not discovery:
            return
        authorization = request.headers.get("Authorization")
        if authorization is None and discovery and not self._settings.discovery_needs_token:
            return
        if authorization is None and self._is_visitor():
            g.client = self._visitor
            return
        self.keys.start()
        moment = int(self._now().timestamp())
        try:
            g.client = self._check.accept(authorization, self._settings.base_url + path, moment)
        except Refused as refused:
            self._refused.labels(refused.cause.value).inc()
            logger.warning("token-refused", cause=refused.cause.value, client=refused.client and refused.client.id)
            raise Unauthenticated from None
        self._accepted += 1
        if self._accepted % FORGET_EVERY == 0:
            with suppress(RuntimeError):  # no thread to be had: the next time removes more
                threading.Thread(target=self._forget, args=(moment,), name="forget-tokens", daemon=True).start()

    def _forget(self, moment: int) -> None:
        """Remove expired tokens; should it fail, the next time removes more."""
        with suppress(Exception):
            self._stored.forget_expired(moment)

    def problems(self) -> list[str]:
        """Why this worker is not ready: in production, clients whom it would refuse though they are registered."""
        needed = self._settings.profile is Profile.PRODUCTION
        return [UNREAD] if needed and not self._registry.is_whole else []

    def warnings(self) -> list[str]:
        """What an operator may want to know of callers; none of it stops the service."""
        unsure = self.seen.unsure if isinstance(self.seen, SeenWithFallback) else 0
        told = [f"tokens: {unsure} were accepted while the database did not answer"] if unsure else []
        return told + self.keys.problems()

    def _is_visitor(self) -> bool:
        """Whether a caller without token is one of the sandbox: on this machine."""
        try:
            near = ip_address(request.remote_addr or "").is_loopback
        except ValueError:
            near = False
        return self._settings.unsigned_callers and near

    def access(self) -> FhirAccess | None:
        """Whom the caller of this request may have us ask; None where waiting for an answer is not possible."""
        if not request.environ.get(MAY_WAIT, True):
            return None
        return FhirAccess(self._calls, g.client)
