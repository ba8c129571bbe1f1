"""All that an export holds of one patient → the request that the hook would have had for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from operator import itemgetter
from typing import Any, NamedTuple

from cds_service.errors import MalformedJson
from cds_service.explain import INSTANCE, UUID, name_in_transaction
from cds_service.hooks.request import HookRequest
from cds_service.hooks.strict_json import load
from cds_service.population.partition import ANY_TYPE
from cds_service.record.binding import REFERRED_TYPES
from cds_service.record.duplicates import reference_of
from cds_service.record.sources import MEDICATION_SOURCES, PATIENT_KEY, SOURCES

Json = dict[str, Any]
LOST = {"lost": True}  # an entry without its resource: the Bundle that holds it is not complete


class Exported(NamedTuple):
    """Which resource types the export holds, and of which some lines are lost for somebody unknown."""

    types: frozenset[str]
    lost: frozenset[str]


class Chart(NamedTuple):
    """What the export holds of one patient, in one order whatever the order of its lines.

    ``lost``: types of which a line could not be read. ``bad``: where such lines stand and why, found only now.
    """

    patient: str
    resources: Sequence[Json]
    lost: frozenset[str]
    bad: Sequence[tuple[str, str]]
    repeated: int
    conflicting: Sequence[str]

    @property
    def has_patient(self) -> bool:
        """Whether a Patient resource came."""
        return any(resource["resourceType"] == "Patient" for resource in self.resources)


def read_chart_lines(patient: str, lines: Sequence[tuple[bytes, bytes]]) -> Chart:
    """The chart in these (place, content) lines. The strict reading of JSON is the hook's own."""
    lost: set[str] = set()
    once: list[tuple[bytes, bytes]] = []
    whole, last = 0, b""
    for where, content in sorted(lines, key=itemgetter(1, 0)):
        if content[:1] == b"!":
            lost.add(content[1:].decode())
            continue
        whole += 1
        if content != last:
            last = content
            once.append((where, content))
    resources, bad = _load_all(once)
    refused = {place.encode() for place, _ in bad}
    lost.update(_type_of(content) for where, content in once if where in refused)
    return Chart(patient, resources, frozenset(lost), bad, whole - len(once), _conflicting(resources))


def _load_all(once: Sequence[tuple[bytes, bytes]]) -> tuple[list[Json], list[tuple[str, str]]]:
    """Every resource, and the lines that are not acceptable. Together in one list; one by one when that is refused.

    Each line alone is known to be one JSON value, so the list holds nothing else than they do.
    """
    try:
        together: list[Json] = load(b"[" + b",".join([content for _, content in once]) + b"]")
        return together, []
    except MalformedJson:
        resources, bad = [], []
    for where, content in once:
        try:
            resources.append(load(content))
        except MalformedJson as problem:
            bad.append((where.decode(), problem.code))
    return resources, bad


def _type_of(content: bytes) -> str:
    found = [kind for kind in SOURCES if f'"{kind}"'.encode() in content]
    return found[0] if len(found) == 1 else ANY_TYPE


def _conflicting(resources: Sequence[Json]) -> tuple[str, ...]:
    """The resources of one type and id that say different things."""
    names: dict[tuple[Any, Any], Json] = {}
    found = []
    for resource in resources:
        identity = resource.get("id")
        if not isinstance(identity, str):
            continue
        key = (resource["resourceType"], identity)
        known = names.setdefault(key, resource)
        if known is not resource and known != resource:
            found.append(reference_of(resource))
    return tuple(dict.fromkeys(found))


def request_of(chart: Chart, resources: Sequence[Json], medications: Mapping[str, Sequence[Json]], exported: Exported,
               lost: Set[str] = frozenset()) -> HookRequest:  # fmt: skip
    """The hook's request with these of the chart's resources, each type as a search's answer.

    A type that was not exported is a key that is absent; one of which a line is lost is a Bundle that lacks an
    entry. So the hook's own reading decides what is unknown.
    """
    prefetch: Json = {}
    by_type: dict[str, list[Json]] = {}
    for resource in resources:
        by_type.setdefault(resource["resourceType"], []).append(resource)
    if "Patient" in by_type:
        entries = _entries("Patient", by_type["Patient"])
        prefetch[PATIENT_KEY] = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    in_doubt = chart.lost | exported.lost | lost
    for kind, key in SOURCES.items():
        entries = _entries(kind, by_type.get(kind, ()))
        if kind in MEDICATION_SOURCES and medications:
            named = sorted(references_to_medications(by_type.get(kind, ())))
            included = _entries("Medication", [item for name in named for item in medications.get(name, ())])
            entries += [entry | {"search": {"mode": "include"}} for entry in included]
        if kind in in_doubt or ANY_TYPE in in_doubt:
            entries = [*entries, LOST]
        elif kind not in exported.types:
            continue
        prefetch[key] = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    return HookRequest(
        hook_instance=INSTANCE, user_id="Practitioner/audit", patient_id=chart.patient, encounter_id=None,
        fhir_server=None, prefetch=prefetch, as_of=None, authorized=False,
    )  # fmt: skip


def _entries(kind: str, resources: Sequence[Json]) -> list[Json]:
    """Resources of one type as entries, with the names by which those of a transaction refer to them."""
    if kind not in REFERRED_TYPES:
        return [{"resource": resource} for resource in resources]
    urls = [name_in_transaction(resource) for resource in resources]
    return [
        {"resource": resource} if url is None else {"fullUrl": url, "resource": resource}
        for resource, url in zip(resources, urls, strict=True)
    ]


def references_to_medications(resources: Sequence[Json]) -> set[str]:
    """The ids of the Medication resources that a chart's medicines refer to."""
    found = set()
    for about in [resource["medicationReference"] for resource in resources if "medicationReference" in resource]:
        reference = about.get("reference") if isinstance(about, dict) else None
        if isinstance(reference, str) and "Medication/" in reference:
            found.add(reference.split("Medication/", 1)[1].split("/", 1)[0])
        elif isinstance(reference, str) and reference.startswith(UUID):
            found.add(reference.removeprefix(UUID))
    return found
