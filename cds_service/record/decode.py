"""One FHIR R4 resource as parsed JSON → the typed elements we read, or the reason why it cannot be read.

Each resource is decoded on its own: a bad one is dropped and reported, the others stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import Struct, field


class Element(Struct, frozen=True, gc=False):
    """A FHIR element of which we read only what we need."""


class Coding(Element, frozen=True):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(Element, frozen=True):
    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Reference(Element, frozen=True):
    reference: str | None = None


class Quantity(Element, frozen=True):
    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Period(Element, frozen=True):
    start: str | None = None
    end: str | None = None


class Annotation(Element, frozen=True):
    text: str | None = None


class Range(Element, frozen=True):
    low: Quantity | None = None
    high: Quantity | None = None


class ReferenceRange(Element, frozen=True):
    low: Quantity | None = None
    high: Quantity | None = None
    type: CodeableConcept | None = None
    appliesTo: tuple[CodeableConcept, ...] = ()
    age: Range | None = None


class Extension(Element, frozen=True):
    url: str | None = None
    extension: tuple[Extension, ...] = ()
    valueCode: str | None = None
    valueBoolean: bool | None = None
    valueInteger: int | None = None
    valueQuantity: Quantity | None = None
    valueCodeableConcept: CodeableConcept | None = None


class Valued(Struct, frozen=True, kw_only=True):
    """What Observation and its components share: a code, a value[x] and why there is none."""

    code: CodeableConcept
    valueQuantity: Quantity | None = None
    valueCodeableConcept: CodeableConcept | None = None
    valueBoolean: bool | None = None
    valueInteger: int | None = None
    valueString: Any = None
    valueRange: Any = None
    valueRatio: Any = None
    valueSampledData: Any = None
    valueTime: Any = None
    valueDateTime: Any = None
    valuePeriod: Any = None
    withheld_boolean: Any = field(default=None, name="_valueBoolean")
    withheld_integer: Any = field(default=None, name="_valueInteger")
    withheld_string: Any = field(default=None, name="_valueString")
    dataAbsentReason: CodeableConcept | None = None
    interpretation: tuple[CodeableConcept, ...] = ()
    referenceRange: tuple[ReferenceRange, ...] = ()

    @property
    def has_value(self) -> bool:
        """Whether any value[x] or an interpretation stands here: without one there is no result."""
        given = self.valueQuantity is not None or self.valueBoolean is not None or self.valueInteger is not None
        return given or self.valueCodeableConcept is not None or bool(self.interpretation) or self.uninterpreted

    @property
    def uninterpreted(self) -> bool:
        """A value of a kind that no finding has, or one withheld by an extension on the primitive."""
        return any(
            value is not None
            for value in (
                self.valueString, self.valueRange, self.valueRatio, self.valueSampledData, self.valueTime,
                self.valueDateTime, self.valuePeriod, self.withheld_boolean, self.withheld_integer,
                self.withheld_string,
            )
        )  # fmt: skip


class ObservationComponent(Valued, frozen=True, kw_only=True):
    """Observation.component."""

    modifierExtension: tuple[Any, ...] = ()


class Resource(Struct, frozen=True, kw_only=True, tag_field="resourceType"):
    """What every resource that we read has."""

    id: str | None = None
    implicitRules: str | None = None
    modifierExtension: tuple[Any, ...] = ()
    contained: tuple[Any, ...] = ()


class Observation(Valued, frozen=True, kw_only=True, tag_field="resourceType", tag="Observation"):
    id: str | None = None
    implicitRules: str | None = None
    modifierExtension: tuple[Any, ...] = ()
    contained: tuple[Any, ...] = ()
    status: str
    focus: tuple[Reference, ...] = ()
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    effectiveInstant: str | None = None
    effectiveTiming: Any = None
    note: tuple[Annotation, ...] = ()
    hasMember: tuple[Any, ...] = ()
    bodySite: CodeableConcept | None = None
    specimen: Reference | None = None
    component: tuple[ObservationComponent, ...] = ()


class Condition(Resource, frozen=True, kw_only=True, tag="Condition"):
    clinicalStatus: CodeableConcept | None = None
    verificationStatus: CodeableConcept | None = None
    severity: CodeableConcept | None = None
    code: CodeableConcept | None = None
    bodySite: tuple[CodeableConcept, ...] = ()
    onsetDateTime: str | None = None
    onsetAge: Quantity | None = None
    onsetPeriod: Period | None = None
    onsetRange: Any = None
    onsetString: Any = None
    abatementDateTime: str | None = None
    abatementAge: Quantity | None = None
    abatementPeriod: Period | None = None
    abatementRange: Any = None
    abatementString: Any = None
    extension: tuple[Extension, ...] = ()


class Procedure(Resource, frozen=True, kw_only=True, tag="Procedure"):
    status: str
    code: CodeableConcept | None = None
    performedDateTime: str | None = None
    performedPeriod: Period | None = None


class DiagnosticReport(Resource, frozen=True, kw_only=True, tag="DiagnosticReport"):
    status: str
    code: CodeableConcept
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None


class ImagingStudy(Resource, frozen=True, kw_only=True, tag="ImagingStudy"):
    status: str
    started: str | None = None
    procedureCode: tuple[CodeableConcept, ...] = ()


class ServiceRequest(Resource, frozen=True, kw_only=True, tag="ServiceRequest"):
    status: str
    intent: str
    doNotPerform: bool | None = None
    code: CodeableConcept | None = None
    performerType: CodeableConcept | None = None
    authoredOn: str | None = None
    occurrenceDateTime: str | None = None
    occurrencePeriod: Period | None = None


class Encounter(Resource, frozen=True, kw_only=True, tag="Encounter"):
    status: str
    serviceType: CodeableConcept | None = None
    period: Period | None = None


class MedicationRequest(Resource, frozen=True, kw_only=True, tag="MedicationRequest"):
    status: str
    intent: str
    doNotPerform: bool | None = None
    medicationCodeableConcept: CodeableConcept | None = None
    medicationReference: Reference | None = None
    authoredOn: str | None = None


class MedicationStatement(Resource, frozen=True, kw_only=True, tag="MedicationStatement"):
    status: str
    medicationCodeableConcept: CodeableConcept | None = None
    medicationReference: Reference | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None


class MedicationAdministration(Resource, frozen=True, kw_only=True, tag="MedicationAdministration"):
    status: str
    medicationCodeableConcept: CodeableConcept | None = None
    medicationReference: Reference | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None


class Medication(Resource, frozen=True, kw_only=True, tag="Medication"):
    status: str | None = None
    code: CodeableConcept | None = None


class Specimen(Resource, frozen=True, kw_only=True, tag="Specimen"):
    note: tuple[Annotation, ...] = ()
    condition: tuple[CodeableConcept, ...] = ()


class Patient(Resource, frozen=True, kw_only=True, tag="Patient"):
    birthDate: str | None = None
    deceasedBoolean: bool | None = None
    deceasedDateTime: str | None = None


Readable = (
    Patient | Observation | Condition | Procedure | DiagnosticReport | ImagingStudy | ServiceRequest
    | Encounter | MedicationRequest | MedicationStatement | MedicationAdministration | Medication | Specimen
)  # fmt: skip
# msgspec builds a union's plan anew at each convert (6.7 µs); by class it is 0.6 µs.
READABLE_TYPES: Mapping[str, type[Readable]] = {kind.__name__: kind for kind in get_args(Readable)}


class Undecodable(Exception):
    """The resource does not have the shape that FHIR R4 gives the elements we read."""


def decode(resource: dict[str, Any]) -> Readable:
    """The typed resource; ``resourceType`` is one of READABLE_TYPES.

    Raises Undecodable with the element path, never with a value. A modifier extension or implicit rules change
    the meaning in a way that we do not know (FHIR R4 §2.4.1), so they make the resource unreadable as well.
    """
    try:
        typed = msgspec.convert(resource, READABLE_TYPES[resource["resourceType"]])
    except msgspec.ValidationError as problem:
        raise Undecodable(_path_of(str(problem))) from None
    components = getattr(typed, "component", ())
    if typed.modifierExtension or (components and any(part.modifierExtension for part in components)):
        raise Undecodable("modifierExtension is not understood")
    if typed.implicitRules is not None:
        raise Undecodable("implicitRules are not understood")
    return typed


def codeable(value: Any) -> CodeableConcept | None:
    """The CodeableConcept in a part of a resource that is otherwise unreadable; None when that is bad too."""
    try:
        return msgspec.convert(value, CodeableConcept)
    except msgspec.ValidationError:
        return None


def _path_of(problem: str) -> str:
    """``element.path has the wrong shape`` out of msgspec's message, without the rest of it."""
    if "at `$." in problem:
        return problem.split("at `$.")[1].rstrip("`") + " has the wrong type"
    if "missing required field" in problem:
        return "a required element is missing: " + problem.split("`")[1]
    return "it is not a FHIR R4 resource of its type"
