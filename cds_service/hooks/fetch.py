"""What the request did not bring is asked for: the same queries, sent to the caller's FHIR server (CHECKLIST §5b, §6).

Only what is absent, and the pages that an incomplete Bundle names. What came as null, empty or failed was asked by
the client already and is not asked again. An answer takes the place of the prefetch value, so that prefetched and
fetched data go the same way from here on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin

from cds_service.errors import MalformedJson
from cds_service.hooks.discovery import prefetch_templates
from cds_service.hooks.request import HookRequest
from cds_service.hooks.strict_json import load
from cds_service.rules.library import RuleLibrary
from cds_service.trust.addresses import Base, parse_base
from cds_service.trust.trouble import Hindrance, Trouble, Unreachable

if TYPE_CHECKING:  # an audit calls nobody, so its workers need not load what could
    from cds_service.trust.fhir_server import FhirAccess, Get

MOST_PAGES = 5
MORE_PAGES = "not every page could be read"
_QUERY = re.compile(r"[!\"$-~]*", re.ASCII)


# What stands for a query that was sent in vain: the same as a client's own failed query (CHECKLIST §5b).
FAILED: Mapping[str, Any] = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "incomplete"}]}


class Gathered(NamedTuple):
    """All that is to be had: ``values`` by prefetch key, and which of them the FHIR server was asked for.

    ``causes``: for each key that is not there in full, why; in fixed words, without a value of anybody's.
    """

    values: Mapping[str, Any]
    fetched: frozenset[str] = frozenset()
    causes: Mapping[str, str] = {}


class _Found(NamedTuple):
    value: Any
    cause: str | None


def gather(request: HookRequest, library: RuleLibrary, access: FhirAccess | None) -> Gathered:
    """The prefetch, completed from the FHIR server where that is allowed."""
    sent = request.prefetch
    if access is None or request.fhir_server is None:
        return Gathered(sent)
    wanted = {key: query for key, query in prefetch_templates(library).items() if key not in sent or _next(sent[key])}
    if not wanted:
        return Gathered(sent)
    server = access.server(request.fhir_server, request.token)
    if isinstance(server, Hindrance):
        return Gathered(sent, causes=dict.fromkeys(wanted, server.text))
    questions: dict[str, Callable[[Get], _Found]] = {}
    for key, template in wanted.items():
        query = template.replace("{{context.patientId}}", request.patient_id)
        questions[key] = partial(_pages, server.base, sent.get(key), query)
    values, causes = dict(sent), {}
    for key, answer in server.ask(questions).items():
        if isinstance(answer, Trouble):
            causes[key] = answer.value
            values.setdefault(key, FAILED)
            continue
        values[key] = answer.value
        if answer.cause is not None:
            causes[key] = answer.cause
    fetched = frozenset(key for key in wanted if values[key] is not sent.get(key))
    return Gathered(values, fetched, causes)


def _pages(base: Base, first: Any, query: str, get: Get) -> _Found:
    """One value out of all pages: those we have, and those that follow on the same server, up to MOST_PAGES."""
    bundle = first if first is not None else _read(get(f"{base.path}/{query}"))
    entries: list[Any] | None = None
    last = bundle
    for _ in range(MOST_PAGES):
        link = _next(last)
        if link is None:
            break
        path = path_on(base, link)
        if path is None:
            return _merged(bundle, entries, complete=False)
        try:
            last = _read(get(path))
        except Unreachable as problem:
            return _merged(bundle, entries, complete=False, cause=problem.trouble.value)
        found = last.get("entry", []) if isinstance(last, dict) and last.get("resourceType") == "Bundle" else None
        if not isinstance(found, list):
            return _merged(bundle, entries, complete=False)
        entries = [*(entries if entries is not None else bundle.get("entry", [])), *found]
    return _merged(bundle, entries, complete=_next(last) is None)


def _merged(bundle: Any, entries: list[Any] | None, *, complete: bool, cause: str = MORE_PAGES) -> _Found:
    """The first page with the entries of all; its link to the next page stays while not all were read."""
    if entries is not None:
        bundle = {**bundle, "entry": entries}
        if complete:
            del bundle["link"]
    return _Found(bundle, None if complete else cause)


def _read(body: bytes) -> Any:
    try:
        return load(body)
    except MalformedJson:
        raise Unreachable(Trouble.CONTENT) from None


def _next(bundle: Any) -> str | None:
    """The URL of a Bundle's next page; empty when it names one that is no URL."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        return None
    links = bundle.get("link")
    if not isinstance(links, list) or not isinstance(bundle.get("entry", []), list):
        return None
    for link in links:
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None


def path_on(base: Base, link: str) -> str | None:
    """Path and query of a next page, when it is on the same origin and below the same base; None for any other."""
    url, _, query = urljoin(f"{base}/", link).partition("?")
    try:
        named = parse_base(url)
    except ValueError:
        return None
    if not link or not base.holds(named) or not _QUERY.fullmatch(query):
        return None
    return f"{named.path or '/'}?{query}" if query else named.path or "/"
