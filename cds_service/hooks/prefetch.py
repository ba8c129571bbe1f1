"""What a request brings: each prefetch key's state and the resources in it (CHECKLIST §5b).

Only a query that was answered in full may let a fact count as not recorded; every other state is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any, NamedTuple

from cds_service.record.binding import NEUTRAL_TYPES, REFERRED_TYPES, Batch, Json
from cds_service.record.sources import PATIENT_KEY, SOURCES


class KeyState(Enum):
    """How a prefetch key arrived."""

    ANSWERED = "answered"
    ABSENT = "absent"
    NULL = "null"
    EMPTY = "empty"
    NO_RESULTS = "no-results"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    MALFORMED = "malformed"


IN_FULL = frozenset({KeyState.ANSWERED, KeyState.NULL, KeyState.EMPTY, KeyState.NO_RESULTS})
COMPANIONS = NEUTRAL_TYPES | {"Specimen"}


class Supplied(NamedTuple):
    """The state of every key we ask for, the resource types answered in full, and all resources sent."""

    states: Mapping[str, KeyState]
    answered: frozenset[str]
    sent: tuple[Batch, ...]


def read_prefetch(prefetch: Mapping[str, Any], types: Iterable[str], fetched: Set[str] = frozenset()) -> Supplied:
    """What came for the patient and for each of these resource types; keys we did not ask for are not read.

    ``fetched``: keys whose value came from the FHIR server.
    """
    states: dict[str, KeyState] = {}
    sent: list[Batch] = []
    answered: set[str] = set(SOURCES) - set(types)
    for kind, key in [("Patient", PATIENT_KEY), *((kind, SOURCES[kind]) for kind in SOURCES if kind in types)]:
        if key not in prefetch:
            states[key] = KeyState.ABSENT
            continue
        place = f"fetched.{key}" if key in fetched else f"prefetch.{key}"
        state, found = _read_key(prefetch[key], kind, place)
        states[key] = state
        sent += found
        if state in IN_FULL:
            answered.add(kind)
    return Supplied(states, frozenset(answered), tuple(sent))


def _read_key(value: Any, kind: str, place: str) -> tuple[KeyState, list[Batch]]:
    if value is None:
        return KeyState.NULL, []
    if not isinstance(value, dict):
        return KeyState.MALFORMED, []
    match value.get("resourceType"):
        case "OperationOutcome":
            return KeyState.FAILED if _is_error(value) else KeyState.NO_RESULTS, []
        case "Bundle":
            return _read_bundle(value, kind, place)
        case str() as other:
            alone = KeyState.ANSWERED if other == kind == "Patient" else KeyState.MALFORMED
            return alone, [Batch(other, [value], [None], place)]
    return KeyState.MALFORMED, []


def _read_bundle(bundle: Mapping[str, Any], kind: str, place: str) -> tuple[KeyState, list[Batch]]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        return KeyState.MALFORMED, []
    if not entries and not _has_next(bundle) and not _claims_more(bundle, 0):
        return KeyState.EMPTY, []
    try:
        resources = [entry["resource"] for entry in entries]
        plain = {resource["resourceType"] for resource in resources} == {kind}
    except (KeyError, TypeError):
        plain = False
    if not plain or kind in REFERRED_TYPES:
        return _read_mixed(bundle, entries, kind, place)
    incomplete = _has_next(bundle) or _claims_more(bundle, len(entries))
    return KeyState.INCOMPLETE if incomplete else KeyState.ANSWERED, [Batch(kind, resources, (), place)]


def _read_mixed(
    bundle: Mapping[str, Any], entries: Sequence[Any], kind: str, place: str
) -> tuple[KeyState, list[Batch]]:
    """A Bundle that holds more than the resources asked for: outcomes, companions, or things of no use."""
    found: dict[str, tuple[list[Json], list[str | None]]] = {}
    matches = 0
    failed = lost = outcome = False
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            lost = True
            continue
        if resource["resourceType"] == "OperationOutcome":
            outcome = True
            failed = failed or _is_error(resource)
            continue
        url = entry.get("fullUrl")
        resources, urls = found.setdefault(resource["resourceType"], ([], []))
        resources.append(resource)
        urls.append(url if isinstance(url, str) else None)
        search = entry.get("search")
        matches += not (isinstance(search, dict) and search.get("mode") == "include")
    batches = [Batch(name, resources, urls, place) for name, (resources, urls) in found.items()]
    if failed:
        return KeyState.FAILED, batches
    if found and not any(name in (kind, *COMPANIONS) for name in found):
        return KeyState.MALFORMED, batches
    if lost or _has_next(bundle) or _claims_more(bundle, matches):
        return KeyState.INCOMPLETE, batches
    if not found:
        return KeyState.NO_RESULTS if outcome else KeyState.EMPTY, []
    return KeyState.ANSWERED, batches


def _is_error(outcome: Mapping[str, Any]) -> bool:
    """Whether the query failed; an outcome that does not say how severe it is counts as a failure."""
    issues = outcome.get("issue")
    if not isinstance(issues, list) or not issues:
        return True
    return any(
        not isinstance(issue, dict) or issue.get("severity") not in ("information", "warning") for issue in issues
    )


def _has_next(bundle: Mapping[str, Any]) -> bool:
    links = bundle.get("link")
    return isinstance(links, list) and any(isinstance(link, dict) and link.get("relation") == "next" for link in links)


def _claims_more(bundle: Mapping[str, Any], matches: int) -> bool:
    total = bundle.get("total")
    return isinstance(total, int) and not isinstance(total, bool) and total > matches
