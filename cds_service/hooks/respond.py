"""The whole story of one call: resources bound to one patient, a record, evaluations, cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cds_service.errors import DataMissing
from cds_service.hooks.cards import cards_of
from cds_service.hooks.fetch import gather
from cds_service.hooks.prefetch import IN_FULL, KeyState, Supplied, read_prefetch
from cds_service.hooks.request import HookRequest
from cds_service.record.binding import bind
from cds_service.record.chart import read_chart
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import PATIENT_KEY, SOURCES
from cds_service.record.times import iso
from cds_service.rules.evaluate import Evaluation, Evaluations
from cds_service.rules.library import RuleLibrary
from cds_service.rules.recommend import recommend
from cds_service.rules.rule import Outcome

if TYPE_CHECKING:
    from cds_service.trust.fhir_server import FhirAccess

EVALUATION = "example.infant-motor-cds.evaluation"


class HookResponse(NamedTuple):
    """The answer, and what it rests on: the record, every rule's evaluation, how each key arrived and with what."""

    body: Mapping[str, Any]
    record: PatientRecord
    evaluated: Evaluations
    inputs: Mapping[str, str]
    prefetch: Mapping[str, Any] = {}
    fetched: frozenset[str] = frozenset()  # the keys that the FHIR server was asked for

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """Those of all rules."""
        return self.evaluated.all

    @property
    def pertinent(self) -> Sequence[Evaluation]:
        """Those of the rules that apply, or might."""
        return self.evaluated.pertinent

    @property
    def failed_rules(self) -> tuple[str, ...]:
        """The rules that raised: each is a defect of ours."""
        return tuple(e.rule.id for e in self.pertinent if e.outcome is Outcome.INTERNAL_ERROR)


def respond(
    request: HookRequest, library: RuleLibrary, as_of: int, public_url: str, access: FhirAccess | None = None
) -> HookResponse:
    """The cards for this request at this moment. ``access``: whom the caller may have us ask for what is missing.

    Raises WrongPatient when the data is not all of one patient, and DataMissing when the patient was not
    to be had or nothing was from which a rule could be decided.
    """
    gathered = gather(request, library, access)
    supplied = read_prefetch(gathered.values, library.sources, gathered.fetched)
    bound = bind(supplied.sent, request.patient_id, request.fhir_server)
    _require(supplied, request, gathered.causes)
    record = read_chart(bound, supplied.answered, as_of, library.reading)
    if record.knows_nothing:
        raise _data_missing(supplied, request, gathered.causes, supplied.answered - record.answered)
    inputs = {key: state.value for key, state in supplied.states.items()}
    response = answer(record, request, library, inputs, public_url, gathered.causes)
    return response._replace(prefetch=gathered.values, fetched=gathered.fetched)


def answer(
    record: PatientRecord, request: HookRequest, library: RuleLibrary, inputs: Mapping[str, str], public_url: str,
    causes: Mapping[str, str] = {},
) -> HookResponse:  # fmt: skip
    """The cards for a record; the same path for the hook, the command line and every later reader."""
    evaluated = library.evaluate(record)
    pertinent = evaluated.pertinent
    cards: list[dict[str, Any]] = []
    if request.by_clinician:
        cards = cards_of(recommend(pertinent, library.silent), record, request, library, public_url)
    report = _report(record, pertinent, inputs, library, request)
    if causes:
        report["notFetched"] = dict(causes)
    body = {"cards": cards, "extension": {EVALUATION: report}}
    return HookResponse(body, record, evaluated, inputs)


def _report(
    record: PatientRecord, evaluations: Sequence[Evaluation], inputs: Mapping[str, str], library: RuleLibrary,
    request: HookRequest,
) -> dict[str, Any]:  # fmt: skip
    report: dict[str, Any] = {
        "asOf": iso(record.as_of),
        "ruleSet": {"version": library.reading.pack_version, "hash": library.hash},
        "inputs": dict(inputs),
    }
    silent = (Outcome.DATA_REQUIRED, Outcome.INTERNAL_ERROR)
    not_evaluated = [
        {"rule": e.rule.id, "missing": list(e.missing)} if e.outcome is Outcome.DATA_REQUIRED
        else {"rule": e.rule.id, "missing": ["internal-error"], "reason": "internal-error"}
        for e in evaluations if e.outcome in silent and e.rule.id not in library.silent
    ]  # fmt: skip
    if not_evaluated:
        report["notEvaluated"] = not_evaluated
    facts = record.facts
    if facts.unreadable:
        unreadable = dict.fromkeys(facts.unreadable)
        report["unreadable"] = [{"resource": item.resource, "reason": item.reason} for item in unreadable]
    if facts.uncoded:
        report["uncoded"] = [
            {"resource": item.reference, "element": item.element, "looksLike": item.word} for item in facts.uncoded
        ]
    if facts.ignored:
        report["ignored"] = [{"resource": item.resource, "reason": item.reason} for item in facts.ignored]
    if facts.deceased:
        report["notShown"] = "the patient is recorded as deceased"
    elif not request.by_clinician:
        report["notShown"] = "the user is the patient or a related person; the cards are for clinicians"
    return report


def _require(supplied: Supplied, request: HookRequest, causes: Mapping[str, str]) -> None:
    if supplied.states[PATIENT_KEY] not in IN_FULL or not _has_patient(supplied):
        raise _data_missing(supplied, request, causes)


def _has_patient(supplied: Supplied) -> bool:
    return any(batch.kind == "Patient" for batch in supplied.sent)


def _data_missing(
    supplied: Supplied, request: HookRequest, causes: Mapping[str, str], unreadable: Iterable[str] = ()
) -> DataMissing:
    """The refusal that names every key not in full, and why it could not be fetched.

    ``unreadable``: the types of which an entry could not be read.
    """
    nothing_came = set(supplied.states.values()) == {KeyState.ABSENT}
    if nothing_came and request.prefetch and not causes:
        hint = f"None of the prefetch keys sent is one of ours: {', '.join(supplied.states)}."
    elif nothing_came and not request.prefetch and not (causes and request.authorized):
        hint = (
            "No prefetch came along"
            + ("" if request.authorized else " and no authorization to fetch it")
            + ". Some EHRs strip both when the URL called is not exactly the one registered."
            + "".join(f" ({cause})" for cause in dict.fromkeys(causes.values()))
        )
    else:
        lacking = {key: causes.get(key, state.value) for key, state in supplied.states.items() if state not in IN_FULL}
        if not _has_patient(supplied):
            lacking.setdefault(PATIENT_KEY, "no Patient in it")
        for kind in sorted(unreadable):
            lacking.setdefault(SOURCES[kind], "an entry could not be read")
        hint = "; ".join(f"prefetch.{key}: {lack}" for key, lack in lacking.items()) + "."
    return DataMissing("data.missing", f"Required FHIR data was not supplied. {hint}", "prefetch")
