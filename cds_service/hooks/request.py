"""A CDS Hooks 2.0.1 request for patient-view: its members checked one by one, unknown ones let through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from cds_service.errors import InvalidRequest
from cds_service.hooks.strict_json import load
from cds_service.record.times import parse_as_of
from cds_service.trust.access_token import AccessToken

HOOK = "patient-view"
AS_OF = "example.infant-motor-cds.as-of"
FHIR_ID_LENGTH = 64
_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}", re.ASCII)  # FHIR says 64; vendors are seen to send longer ones
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson)/[\w\-.]{1,256}", re.ASCII)
_URL = re.compile(r"https?://[^\s]+", re.ASCII)
_BEARER = re.compile(r"[!-~]{1,16384}", re.ASCII)
LONGEST_INSTANCE = 256


class HookRequest(NamedTuple):
    """What the caller asks, for whom, and the data that came along. ``as_of``: microseconds, when given."""

    hook_instance: str
    user_id: str
    patient_id: str
    encounter_id: str | None
    fhir_server: str | None
    prefetch: Mapping[str, Any]
    as_of: int | None
    authorized: bool
    token: AccessToken | None = None

    @property
    def by_clinician(self) -> bool:
        """Whether a professional is looking, not the family."""
        return self.user_id.startswith("Practitioner")


def parse_request(body: bytes) -> HookRequest:
    """The request in these bytes.

    Raises MalformedJson, or InvalidRequest with the element path of the first member that is not as CDS
    Hooks 2.0.1 "Calling a CDS Service" and patient-view "Context" say.
    """
    data = load(body)
    if not isinstance(data, dict):
        raise InvalidRequest("request.not-an-object", "The body is not a JSON object.")
    if _text(data, "hook") != HOOK:
        raise InvalidRequest("request.hook", f"This service answers the hook {HOOK} only.", "hook")
    context = _object(data, "context", required=True)
    authorization = data.get("fhirAuthorization")
    if authorization is not None:
        if not isinstance(authorization, dict):
            raise _wrong("fhirAuthorization", "an object")
        if data.get("fhirServer") is None:
            raise InvalidRequest(
                "request.field", "fhirServer is required when fhirAuthorization is sent.", "fhirServer"
            )
    server = data.get("fhirServer")
    if server is not None and (not isinstance(server, str) or not _URL.fullmatch(server)):
        raise _wrong("fhirServer", "a base URL")
    patient_id = _identity(context, "patientId", "Patient")
    _same_patient(authorization, patient_id)
    user_id = _text(context, "userId", "context.")
    if not _USER.fullmatch(user_id):
        raise _wrong("context.userId", "Practitioner, PractitionerRole, Patient or RelatedPerson, a slash and an id")
    instance = _text(data, "hookInstance")
    if len(instance) > LONGEST_INSTANCE:
        raise _wrong("hookInstance", "a UUID")
    return HookRequest(
        hook_instance=instance,
        user_id=user_id,
        patient_id=patient_id,
        encounter_id=_identity(context, "encounterId", "Encounter") if context.get("encounterId") is not None else None,
        fhir_server=server,
        prefetch=_object(data, "prefetch", required=False),
        as_of=_as_of(_object(data, "extension", required=False)),
        authorized=authorization is not None,
        token=_token(authorization or {}),
    )


def _token(authorization: Mapping[str, Any]) -> AccessToken | None:
    """The access token if it can be used: text for a header, of type Bearer, and not said to have expired."""
    text = authorization.get("access_token")
    kind, lasts = authorization.get("token_type", "Bearer"), authorization.get("expires_in", 1)
    if not isinstance(text, str) or not _BEARER.fullmatch(text):
        return None
    if not isinstance(kind, str) or kind.lower() != "bearer" or not isinstance(lasts, int | float) or lasts <= 0:
        return None
    return AccessToken(text)


def _same_patient(authorization: Mapping[str, Any] | None, patient_id: str) -> None:
    granted = (authorization or {}).get("patient")
    if granted is not None and granted not in (patient_id, f"Patient/{patient_id}"):
        raise InvalidRequest(
            "patient.mismatch", "fhirAuthorization.patient is not the patient of the context.",
            "fhirAuthorization.patient",
        )  # fmt: skip


def _as_of(extension: Mapping[str, Any]) -> int | None:
    written = extension.get(AS_OF)
    if written is None:
        return None
    moment = parse_as_of(written) if isinstance(written, str) else None
    if moment is None:
        raise InvalidRequest(
            "request.as-of", "The as-of date is neither a date nor an instant.", f"extension['{AS_OF}']"
        )
    return moment


def _text(data: Mapping[str, Any], name: str, prefix: str = "") -> str:
    value = data.get(name)
    if value is None:
        raise InvalidRequest("request.field", f"{prefix}{name} is missing.", f"{prefix}{name}")
    if not isinstance(value, str) or not value.strip():
        raise _wrong(f"{prefix}{name}", "a text that is not blank")
    return value


def _identity(context: Mapping[str, Any], name: str, kind: str) -> str:
    """The id; clients are seen that write the resource type before it, which says the same."""
    value = _text(context, name, "context.").removeprefix(f"{kind}/")
    if not _FHIR_ID.fullmatch(value):
        raise _wrong(f"context.{name}", "a FHIR id")
    return value


def _object(data: Mapping[str, Any], name: str, *, required: bool) -> Mapping[str, Any]:
    value = data.get(name)
    if value is None:
        if required:
            raise InvalidRequest("request.field", f"{name} is missing.", name)
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object")
    return value


def _wrong(expression: str, expected: str) -> InvalidRequest:
    return InvalidRequest("request.field", f"{expression} is not {expected}.", expression)
