"""One patient or none: every resource is shown to be about the patient of the context before any rule runs.

One resource of another patient refuses the whole request (threat I7): a chart that mixes two babies cannot
be trusted in any part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cds_service.errors import WrongPatient

_LOCAL = re.compile(r"Patient/([A-Za-z0-9\-.]+)(?:/_history/[A-Za-z0-9\-.]+)?", re.ASCII)
_ABSOLUTE = re.compile(r"(https?://[^\s?#]+?)/Patient/([A-Za-z0-9\-.]+)(?:/_history/[A-Za-z0-9\-.]+)?", re.ASCII)

# About nobody: they carry no fact of a patient.
NEUTRAL_TYPES = frozenset(
    {"Practitioner", "PractitionerRole", "Organization", "OrganizationAffiliation", "Location", "Medication",
     "HealthcareService", "Endpoint", "Substance", "OperationOutcome"}
)  # fmt: skip


class Sent(NamedTuple):
    """A resource as it came: its JSON, the Bundle entry's fullUrl and the place it came from."""

    resource: dict[str, Any]
    full_url: str | None
    place: str


class Bound(NamedTuple):
    """The resources shown to be this patient's, and those of which nobody knows whose they are."""

    own: tuple[Sent, ...]
    unattributed: tuple[Sent, ...]


class Binder:
    """Decides for one patient whether a reference names them.

    A reference is this patient's when it is ``Patient/<id>``, the same on the FHIR server of the request, or
    the fullUrl under which the Patient itself was sent. An absolute reference without a known server binds
    to the first server seen.
    """

    def __init__(self, patient_id: str, fhir_server: str | None, sent: Iterable[Sent]) -> None:
        self._id = patient_id
        self._base = fhir_server.rstrip("/") if fhir_server else None
        self._aliases: set[str] = set()
        self._foreign: set[str] = set()
        for item in sent:
            if item.resource.get("resourceType") == "Patient" and item.full_url:
                (self._aliases if item.resource.get("id") == patient_id else self._foreign).add(item.full_url)

    def is_own(self, reference: str) -> bool | None:
        """True: this patient. False: somebody else. None: it does not say whom."""
        if reference in self._aliases:
            return True
        if reference in self._foreign:
            return False
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


def bind(sent: Iterable[Sent], patient_id: str, fhir_server: str | None = None) -> Bound:
    """The sent resources, all of them shown to be about ``patient_id`` or about nobody in particular.

    Raises WrongPatient when one of them is another patient's, with the place but no id.
    """
    items = list(sent)
    binder = Binder(patient_id, fhir_server, items)
    own: list[Sent] = []
    unattributed: list[Sent] = []
    for item in items:
        kind = item.resource.get("resourceType")
        if kind == "Patient":
            if item.resource.get("id") != patient_id:
                raise _mismatch(item.place, "it holds a Patient other than the one of the context")
            own.append(item)
            continue
        reference = subject_of(item.resource)
        if reference is None:
            (own if kind in NEUTRAL_TYPES else unattributed).append(item)
            continue
        mine = binder.is_own(reference)
        if mine is False:
            raise _mismatch(item.place, "it holds a resource whose subject is not the patient of the context")
        (own if mine else unattributed).append(item)
    return Bound(tuple(own), tuple(unattributed))


def _mismatch(place: str, what: str) -> WrongPatient:
    return WrongPatient("patient.mismatch", f"{what}; nothing of this request was used", place)
