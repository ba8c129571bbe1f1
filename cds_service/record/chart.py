"""From bound resources to a PatientRecord: each resource decoded, gated and sorted into facts."""

from __future__ import annotations

from collections.abc import Iterable

from cds_service.record import conditions, observations, salvage, work
from cds_service.record.ages import Birth, Gestation
from cds_service.record.binding import Bound, Json
from cds_service.record.decode import (
    READABLE_TYPES,
    CodeableConcept,
    Condition,
    DiagnosticReport,
    Encounter,
    ImagingStudy,
    Medication,
    MedicationAdministration,
    MedicationRequest,
    MedicationStatement,
    Observation,
    Patient,
    Procedure,
    Readable,
    ServiceRequest,
    Specimen,
    Undecodable,
    decode,
)
from cds_service.record.duplicates import each_once, identity_of, reference_of
from cds_service.record.facts import NO_QUALIFIERS, Evidence, Finding, LabResult, Presence, Unreadable, Work
from cds_service.record.facts import Medication as MedicationFact
from cds_service.record.gestation import choose, gestations_of
from cds_service.record.labs import results_of
from cds_service.record.observations import When, when_of
from cds_service.record.patient_record import Facts, PatientRecord
from cds_service.record.reading import Reading
from cds_service.record.specimens import spoiled_by
from cds_service.record.times import DAY, Span, parse_span
from cds_service.record.triage import triage
from cds_service.record.truth import FALSE, TRUE
from cds_service.record.uncoded_texts import Texts

Referred = Medication | Specimen
REFERRED = (Medication, Specimen)  # a union would be made anew for each resource


def read_chart(bound: Bound, answered: frozenset[str], as_of: int, reading: Reading) -> PatientRecord:
    """The patient's record at ``as_of``, the same whatever the order or repetition of the resources."""
    return _Chart(answered, as_of, reading).read(bound)


class _Chart:
    def __init__(self, answered: frozenset[str], as_of: int, reading: Reading) -> None:
        self._answered = set(answered)
        self._as_of = as_of
        self._reading = reading
        self._findings: dict[str, list[Finding]] = {}
        self._labs: dict[str, list[LabResult]] = {}
        self._work: dict[str, list[Work]] = {}
        self._medications: list[MedicationFact] = []
        self._gestations: list[Gestation] = []
        self._unreadable: list[Unreadable] = []
        self._texts = Texts(reading)
        self._ignored: list[Unreadable] = []
        self._patient_reference = ""
        self._sent_medicines: dict[str, CodeableConcept | None] = {}
        self._specimens: dict[str, Specimen] = {}

    def read(self, bound: Bound) -> PatientRecord:
        decoded = self._decode_all(bound)
        birth, birth_evidence, deceased = self._patient(decoded)
        for origin, (reference, resource) in enumerate(decoded):
            self._take(reference, origin, resource, birth)
        facts = Facts(
            birth=self._birth(birth),
            birth_evidence=birth_evidence,
            deceased=deceased,
            findings=self._findings,
            labs=self._labs,
            work=self._work,
            medications=self._medications,
            unreadable=tuple(self._unreadable),
            uncoded=self._texts.uncoded(),
            ignored=tuple(self._ignored),
            unknown_codes=self._texts.unknown_codes(),
        )
        return PatientRecord(facts, frozenset(self._answered), self._as_of, self._reading)

    def _remember(self, resource: Referred, sent: Json, urls: Iterable[str]) -> None:
        """What others refer to, by ``Type/id`` and by each fullUrl under which it was sent."""
        names = [*urls, f"{sent['resourceType']}/{resource.id}"] if resource.id else urls
        for name in names:
            if isinstance(resource, Medication):
                self._sent_medicines[name] = None if resource.status == "entered-in-error" else resource.code
            else:
                self._specimens[name] = resource

    def _decode_all(self, bound: Bound) -> list[tuple[str, Readable]]:
        """Every readable resource that can say something once, in one order whatever the order sent."""
        for batch in bound.unattributed:
            for resource in batch.resources if batch.kind in READABLE_TYPES else ():
                self._give_up(resource, "it does not say whose it is")
        telling: list[Json] = []
        for batch in bound.own:
            if batch.kind == "Observation":
                sorted_out = triage(batch.resources, self._reading.vocabulary)
                telling += sorted_out.relevant
                self._texts.pass_over(sorted_out.others)
            else:
                telling += batch.resources
        urls = _urls_of(bound)
        decoded: list[tuple[str, Readable]] = []
        for reference, resource in each_once(telling):
            if reference is None:
                self._give_up(resource, "another resource of the same id says something else")
                continue
            try:
                found = decode(resource)
            except Undecodable as problem:
                self._give_up(resource, str(problem))
                continue
            decoded.append((reference, found))
            if isinstance(found, REFERRED):
                self._remember(found, resource, urls.get(identity_of(resource), ()))
        return decoded

    def _give_up(self, resource: Json, reason: str) -> None:
        """Report what cannot be used; what it could have said is unknown from here on."""
        if salvage.is_void(resource):
            return
        reference = reference_of(resource)
        self._unreadable.append(Unreadable(reference, reason))
        lost = salvage.what_is_lost(resource, reference, reason, self._reading)
        self._answered -= lost.sources
        for finding in lost.findings:
            self._findings.setdefault(finding.concept, []).append(finding)
        for result in lost.labs:
            self._labs.setdefault(result.analyte, []).append(result)
        self._medications += lost.medications
        if lost.gestation is not None:
            self._gestations.append(lost.gestation)

    def _patient(self, decoded: Iterable[tuple[str, Readable]]) -> tuple[Span | None, Evidence | None, bool]:
        for reference, resource in decoded:
            if isinstance(resource, Patient):
                self._patient_reference = reference
                died = parse_span(resource.deceasedDateTime)
                deceased = bool(resource.deceasedBoolean) or (
                    resource.deceasedDateTime is not None and (died is None or died.lo <= self._as_of)
                )
                born = parse_span(resource.birthDate)
                if born is None or born.lo > self._as_of:
                    return None, None, deceased
                end = (self._as_of // DAY + 1) * DAY - 1
                evidence = Evidence(reference, "birthDate", "birth_date", resource.birthDate or "")
                return Span(born.lo, min(born.hi, end)), evidence, deceased
        return None, None, False

    def _birth(self, span: Span | None) -> Birth | None:
        if span is None:
            return None
        gestation = choose(self._gestations, "Observation" in self._answered, self._reading)
        return Birth(span, gestation, self._reading.term_days, self._reading.preterm_below_days)

    def _take(self, reference: str, origin: int, resource: Readable, birth: Span | None) -> None:
        match resource:
            case Encounter() | DiagnosticReport() | ServiceRequest() | ImagingStudy():
                self._add_work(work.work_of(resource, reference, self._as_of, self._reading))
            case Procedure():
                self._birth_event(reference, origin, resource)
                self._add_work(work.work_of(resource, reference, self._as_of, self._reading))
            case Observation():
                self._observation(reference, origin, resource)
            case Condition():
                found, ignored = conditions.findings_of(resource, reference, origin, birth, self._as_of, self._reading)
                self._keep(reference, found, ignored)
                if conditions.verification(resource) is not None:
                    self._texts.note(reference, "code", resource.code)
            case MedicationRequest() | MedicationStatement() | MedicationAdministration():
                self._medications += work.medications_of(
                    resource, reference, self._as_of, self._reading, self._sent_medicines
                )
            case Patient() | Medication() | Specimen():
                pass

    def _observation(self, reference: str, origin: int, observation: Observation) -> None:
        counted = observations.counts(observation.status)
        if counted is FALSE:
            return
        if any(not self._is_patient(focus.reference) for focus in observation.focus):
            self._unreadable.append(Unreadable(reference, "it has a focus other than the patient"))
            return
        when = when_of(observation.effectiveDateTime, observation.effectivePeriod, observation.effectiveInstant)
        if when.span is not None and when.span.lo > self._as_of:
            return
        if counted is not TRUE:
            self._unreadable.append(Unreadable(reference, "its status is not one that FHIR R4 knows"))
            when = When(None, when.text)
        found, ignored = observations.findings_of(observation, reference, origin, when, self._reading)
        self._keep(reference, found, ignored)
        spoiled = spoiled_by(observation, self._specimens, "Specimen" in self._answered, self._reading)
        results = results_of(observation, reference, when, spoiled, self._reading)
        for result in results:
            self._labs.setdefault(result.analyte, []).append(result)
        self._add_work(work.work_of_results(results))
        self._gestations += gestations_of(observation, reference, when, self._reading)
        self._add_work(work.work_of(observation, reference, self._as_of, self._reading))
        self._texts.note(reference, "code", observation.code)
        self._texts.note(reference, "valueCodeableConcept", observation.valueCodeableConcept)
        for index, component in enumerate(observation.component):
            self._texts.note(reference, f"component[{index}]", component.code)

    def _is_patient(self, reference: str | None) -> bool:
        mine = self._patient_reference
        return bool(mine) and reference is not None and (reference == mine or reference.endswith(f"/{mine}"))

    def _keep(self, reference: str, found: Iterable[Finding], ignored: Iterable[str]) -> None:
        for finding in found:
            self._findings.setdefault(finding.concept, []).append(finding)
            if finding.presence is Presence.UNKNOWN:
                self._unreadable.append(Unreadable(reference, finding.problem))
        self._ignored += [Unreadable(reference, reason) for reason in ignored]

    def _add_work(self, found: Iterable[Work]) -> None:
        for item in found:
            self._work.setdefault(item.concept, []).append(item)

    def _birth_event(self, reference: str, origin: int, procedure: Procedure) -> None:
        """A risk factor of birth written as a Procedure on the infant (ENCODING §2.9)."""
        if procedure.status not in ("completed", "in-progress"):
            return
        when = when_of(procedure.performedDateTime, procedure.performedPeriod)
        if when.span is not None and when.span.lo > self._as_of:
            return
        for concept in observations.finding_concepts(procedure.code, self._reading):
            if concept.name in self._reading.birth_events:
                self._findings.setdefault(concept.name, []).append(
                    Finding(
                        concept=concept.name,
                        origin=origin,
                        presence=Presence.PRESENT,
                        confirmed=TRUE,
                        span=when.span,
                        start=when.start,
                        ongoing=True,
                        from_condition=True,
                        qualifiers=NO_QUALIFIERS,
                        evidence=Evidence(reference, "code", concept.name, when.text),
                    )
                )


def _urls_of(bound: Bound) -> dict[tuple[str, str], list[str]]:
    """The fullUrls under which each resource that others may refer to was sent."""
    found: dict[tuple[str, str], list[str]] = {}
    for batch in bound.own:
        if batch.urls:
            for resource, url in zip(batch.resources, batch.urls, strict=True):
                if url:
                    found.setdefault(identity_of(resource), []).append(url)
    return found
