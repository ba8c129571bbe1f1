"""One patient or none: every resource is shown to be about the patient of the context before any rule runs.

One resource of another patient refuses the whole request (threat I7): a chart that mixes two babies cannot
be trusted in any part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cds_service.errors import WrongPatient

_LOCAL = re.compile(r"Patient/([A-Za-z0-9\-.]+)(?:/_history/[A-Za-z0-9\-.]+)?", re.ASCII)
_ABSOLUTE = re.compile(r"(https?://[^\s?#]+?)/Patient/([A-Za-z0-9\-.]+)(?:/_history/[A-Za-z0-9\-.]+)?", re.ASCII)

# About nobody: they carry no fact of a patient.
NEUTRAL_TYPES = frozenset(
    {"Practitioner", "PractitionerRole", "Organization", "OrganizationAffiliation", "Location", "Medication",
     "HealthcareService", "Endpoint", "Substance", "OperationOutcome"}
)  # fmt: skip
# The only types whose Bundle entry's fullUrl matters: others refer to them by it.
REFERRED_TYPES = frozenset({"Patient", "Medication", "Specimen"})

Json = dict[str, Any]


class Batch(NamedTuple):
    """Resources of one type as they came, in parsed JSON, and the place they came from.

    ``urls`` holds each one's fullUrl for REFERRED_TYPES, and nothing for others.
    """

    kind: str
    resources: Sequence[Json]
    urls: Sequence[str | None]
    place: str


class Bound(NamedTuple):
    """The resources shown to be this patient's or nobody's, and those of which it cannot be told whose they are."""

    own: tuple[Batch, ...]
    unattributed: tuple[Batch, ...]


class Binder:
    """Decides for one patient whether a reference names them.

    A reference is this patient's when it is ``Patient/<id>``, the same on the FHIR server of the request, or
    the fullUrl under which the Patient itself was sent. An absolute reference without a known server binds
    to the first server seen.
    """

    def __init__(self, patient_id: str, fhir_server: str | None, batches: Iterable[Batch]) -> None:
        self._id = patient_id
        self._base = fhir_server.rstrip("/") if fhir_server else None
        self._aliases: set[str] = set()
        for batch in batches:
            if batch.kind == "Patient":
                self._aliases.update(url for url in batch.urls if url)

    def is_own(self, reference: str) -> bool | None:
        """True: this patient. False: somebody else. None: it does not say whom."""
        if reference in self._aliases:
            return True
        local = _LOCAL.fullmatch(reference)
        if local is not None:
            return local[1] == self._id
        absolute = _ABSOLUTE.fullmatch(reference)
        if absolute is not None:
            if self._base is None:
                self._base = absolute[1]
            return absolute[1] == self._base and absolute[2] == self._id
        return False if "Patient/" in reference else None


def subject_of(resource: Mapping[str, Any]) -> str | None:
    """The written reference to whom a resource is about; None when there is none to read."""
    subject = resource.get("subject", resource.get("patient"))
    reference = subject.get("reference") if isinstance(subject, dict) else None
    return reference if isinstance(reference, str) else None


def bind(batches: Sequence[Batch], patient_id: str, fhir_server: str | None = None) -> Bound:
    """The resources, all of them shown to be about ``patient_id`` or about nobody in particular.

    Raises WrongPatient when one of them is another patient's, with the place but no id.
    """
    for batch in batches:
        if batch.kind == "Patient" and any(resource.get("id") != patient_id for resource in batch.resources):
            raise _mismatch(batch.place, "it holds a Patient other than the one of the context")
    binder = Binder(patient_id, fhir_server, batches)
    plain = {f"Patient/{patient_id}"}
    own: list[Batch] = []
    unattributed: list[Batch] = []
    for batch in batches:
        if batch.kind == "Patient" or _subjects(batch.resources) == plain:
            own.append(batch)
            continue
        mine = [_is_own(resource, batch, binder) for resource in batch.resources]
        own.append(_part(batch, mine, wanted=True))
        if None in mine:
            unattributed.append(_part(batch, mine, wanted=None))
    return Bound(tuple(own), tuple(unattributed))


def _subjects(resources: Sequence[Json]) -> set[str] | None:
    """Whom the resources are about, when each says so in the usual way; the common case, and a fast one."""
    try:
        return {resource["subject"]["reference"] for resource in resources}
    except (KeyError, TypeError):
        return None


def _is_own(resource: Json, batch: Batch, binder: Binder) -> bool | None:
    reference = subject_of(resource)
    if reference is None:
        return True if batch.kind in NEUTRAL_TYPES else None
    mine = binder.is_own(reference)
    if mine is False:
        raise _mismatch(batch.place, "it holds a resource whose subject is not the patient of the context")
    return mine


def _part(batch: Batch, mine: Sequence[bool | None], wanted: bool | None) -> Batch:
    chosen = [place for place, own in enumerate(mine) if own is wanted]
    return batch._replace(
        resources=[batch.resources[place] for place in chosen],
        urls=[batch.urls[place] for place in chosen] if batch.urls else (),
    )


def _mismatch(place: str, what: str) -> WrongPatient:
    return WrongPatient("patient.mismatch", f"{what}; nothing of this request was used", place)
