"""One import from beginning to end: kick-off, waiting, files, the job removed (FHIR Bulk Data Access 2.0)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

import orjson

from cds_service.bulk.backend import SigningKey, Tokens
from cds_service.bulk.downloads import Downloads
from cds_service.bulk.manifest import Manifest, read_manifest
from cds_service.bulk.server import Server, issue_codes, pause_after
from cds_service.bulk.state import Asked, Folder, Part, State
from cds_service.bulk.update import Updated, apply_update
from cds_service.errors import InputError
from cds_service.population.ndjson import SourceFile
from cds_service.trust.exchange import Reply

FHIR_JSON = "application/fhir+json"
_PERCENT = re.compile(r"\d{1,3}(?:\.\d{1,2})? ?%", re.ASCII)


class Progress(Protocol):
    """Who is told how far it is."""

    def waiting(self, seconds: float, share: str) -> None:
        """The server works; it is asked again after so long. ``share``: how far it says it is, such as ``35 %``."""

    def phase(self, name: str, unit: str, total: int) -> None:
        """Something begins that goes to ``total``."""

    def advance(self, number: int, note: str = "") -> None:
        """It went on by so many."""


class Identity(NamedTuple):
    """Who asks: a client registered at the server. ``scope``: empty for what the export needs."""

    client_id: str
    key: SigningKey
    scope: str = ""


class Imported(NamedTuple):
    """What came. ``errors``: the codes that the server says for what it could not export."""

    transaction_time: str
    resources: Counter[str]
    errors: Counter[str]
    updated: Updated
    problems: list[str]
    job_removed: bool


def run_import(
    server: Server, folder: Folder, asked: Asked, identity: Identity | None, patience: float, at_once: int,
    largest: int, progress: Progress,
) -> Imported:  # fmt: skip
    """All that was asked for, in the folder. ``patience``: seconds that the server may take to make it ready.

    Raises InputError saying what is wrong; the same command again goes on from there.
    """
    state = folder.begin(asked)
    if identity is not None:
        server.tokens = _tokens(server, asked, identity)
    if not state.status_url:
        state.status_url = _kick_off(server, asked)
        folder.save()
    manifest = _wait(server, folder, state, patience, progress)
    files = manifest.files()
    progress.phase("download", "files", len(files))
    progress.advance(sum(1 for name, _ in files if state.parts.get(name, Part()).name))
    Downloads(server, folder, state, largest).all_of(
        manifest, at_once, lambda part: progress.advance(1, f"{part.resources} resources")
    )
    updated = apply_update(folder, state)
    state.finished = True
    folder.save()
    return _told(folder, state, updated, _remove(server, state.status_url))


def _remove(server: Server, status_url: str) -> bool:
    """Tell the server that nothing is needed any more; whether it took it. All has come, so a refusal is no failure."""
    try:
        return server.ask("DELETE", status_url, "the export's job").status in (200, 202, 204, 404)
    except InputError:
        return False


def _tokens(server: Server, asked: Asked, identity: Identity) -> Tokens:
    """Where the server says that tokens are given, and what for."""
    url = f"{asked.base}/.well-known/smart-configuration"
    reply = server.ask("GET", url, "the SMART configuration", {"Accept": "application/json"})
    try:
        said = orjson.loads(reply.body) if reply.status == 200 else {}
        endpoint, capabilities = said["token_endpoint"], said.get("capabilities", [])
        if not isinstance(endpoint, str) or not isinstance(capabilities, list):
            raise TypeError
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        raise InputError(f"the SMART configuration names no token endpoint (status {reply.status})") from None
    right = "rs" if "permission-v2" in capabilities and "permission-v1" not in capabilities else "read"
    scope = identity.scope or " ".join(f"system/{kind}.{right}" for kind in asked.types or ("*",))

    def post(where: str, form: Callable[[], bytes]) -> Reply:
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return server.ask("POST", where, "the token endpoint", sent, form, with_token=False)

    return Tokens(identity.client_id, identity.key, endpoint, scope, post, server.now)


def _kick_off(server: Server, asked: Asked) -> str:
    query = {"_outputFormat": "application/fhir+ndjson"}
    if asked.types:
        query["_type"] = ",".join(asked.types)
    if asked.since is not None:
        query["_since"] = asked.since
    level = f"Group/{asked.group}" if asked.group is not None else "Patient"
    url = f"{asked.base}/{level}/$export?{urlencode(query)}"
    reply = server.ask("GET", url, "the export", {"Accept": FHIR_JSON, "Prefer": "respond-async"})
    if reply.status != 202 or not reply.headers.get("content-location"):
        raise InputError(f"the server does not begin the export: status {reply.status}{_codes(reply)}")
    return reply.headers["content-location"]


def _wait(server: Server, folder: Folder, state: State, patience: float, progress: Progress) -> Manifest:
    """Poll until it is ready. What was downloaded of an export that is not the same any more is thrown away."""
    waited, polls = 0.0, 0
    while True:
        reply = server.ask("GET", state.status_url, "the export's status", {"Accept": "application/json"})
        if reply.status == 200:
            break
        if reply.status != 202:
            state.status_url = ""  # the same command again begins anew
            folder.save()
            gone = "the job is gone: cancelled or expired" if reply.status in (404, 410) else "the export failed"
            raise InputError(f"{gone}: status {reply.status}{_codes(reply)}; the same command again asks for a new one")
        seconds = pause_after(reply.headers, polls, server.now())
        if waited + seconds > patience:
            raise InputError(
                f"the export is not ready after {waited:.0f} s; the same command again goes on waiting (--patience)"
            )
        share = _PERCENT.search(reply.headers.get("x-progress", ""))
        progress.waiting(seconds, share[0] if share else "")
        server.pause(seconds)
        waited, polls = waited + seconds, polls + 1
    manifest = read_manifest(reply.body)
    if state.transaction_time not in ("", manifest.transactionTime):
        for name in [part.name for part in state.parts.values() if part.name]:
            (folder.path / name).unlink(missing_ok=True)
        for left in folder.hidden.glob("*.part"):
            left.unlink()
        state.parts = {}
    state.transaction_time = manifest.transactionTime
    folder.save()
    return manifest


def _codes(reply: Reply) -> str:
    codes = ", ".join(sorted(issue_codes(reply.body)))
    return f" ({codes})" if codes else ""


def _told(folder: Folder, state: State, updated: Updated, job_removed: bool) -> Imported:
    resources: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for name, part in sorted(state.parts.items()):
        kind = name.partition(".")[0]
        if kind == "error":
            for line in SourceFile(folder.hidden / part.name, part.name).lines():
                errors.update(issue_codes(line.content) or ["unreadable"])
        elif kind != "deleted":
            resources[kind] += part.resources
    problems = [f"{part.name}: {part.problem}" for _, part in sorted(state.parts.items()) if part.problem]
    problems += updated.early
    return Imported(state.transaction_time, resources, errors, updated, problems, job_removed)
