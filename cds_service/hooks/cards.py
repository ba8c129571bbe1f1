"""Recommendations → CDS Hooks cards: one per family of workups, spec-clean, each with its reasons and basis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from cds_service.hooks.orders import service_request
from cds_service.hooks.request import HookRequest
from cds_service.hooks.wording import (
    age_words,
    evidence_day,
    finding_words,
    join_lists,
    lab_words,
    missing_words,
    when_words,
    words,
)
from cds_service.record.facts import Evidence, Finding
from cds_service.record.patient_record import PatientRecord
from cds_service.record.truth import TRUE
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.recommend import Recommendation
from cds_service.rules.rule import Family, Urgency

SUMMARY_LIMIT = 139  # CDS Hooks 2.0.1, Card Attributes: fewer than 140 characters
DETAIL_LIMIT = 120  # words; ours
BASIS = "example.infant-motor-cds.basis"
NAMESPACE = UUID("6f1a3c1e-6f0b-5f0e-9a5c-5d3c0e2b7a11")


class Shown(NamedTuple):
    """One family's card before it becomes JSON."""

    family: Family
    urgency: Urgency
    items: tuple[Recommendation, ...]
    evaluations: tuple[Evaluation, ...]


def cards_of(
    recommendations: Sequence[Recommendation], record: PatientRecord, request: HookRequest,
    library: RuleLibrary, public_url: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """The cards, most urgent first; within an urgency in the order of the families."""
    if not recommendations:
        return []
    shown = []
    for family in library.families:
        items = sorted(
            (item for item in recommendations if item.workup.family == family.id),
            key=lambda item: (-item.urgency, item.workup.id),
        )
        if items:
            evaluations = tuple(
                sorted(
                    dict.fromkeys(evaluation for item in items for evaluation in item.asked_by),
                    key=lambda evaluation: (-_urgency(evaluation, items), evaluation.rule.id),
                )
            )
            shown.append(Shown(family, items[0].urgency, tuple(items), evaluations))
    shown.sort(key=lambda card: -card.urgency)
    writer = _Writer(record, request, library, public_url)
    return [writer.card(card) for card in shown]


def _urgency(evaluation: Evaluation, items: Sequence[Recommendation]) -> Urgency:
    """How urgently this rule itself asks for something of the card; others may ask for the same more urgently."""
    ids = {item.workup.id for item in items}
    return max(item.urgency for item in evaluation.suggested if item.workup.id in ids)


class Phrase(NamedTuple):
    """A fact in words, most telling first, and the days on which it was seen."""

    words: tuple[str, ...]
    when: str

    def text(self, most: int = 99) -> str:
        """The fact with at most so many of its words."""
        return f"{', '.join(self.words[:most])} ({self.when})"


class _Writer:
    def __init__(self, record: PatientRecord, request: HookRequest, library: RuleLibrary, public_url: str) -> None:
        self._record = record
        self._request = request
        self._library = library
        self._url = public_url.rstrip("/")
        self._said: dict[Finding, tuple[tuple[str, ...], str]] = {}
        self._age = _age_of(record)
        self._space = uuid5(namespace_of(request.hook_instance), request.patient_id)

    def card(self, shown: Shown) -> dict[str, Any]:
        reading = self._library.reading
        suggestions = [self._suggestion(shown, item) for item in shown.items if item.workup.order is not None]
        phrases = self._phrases(shown.evaluations)
        card: dict[str, Any] = {
            "uuid": str(uuid5(self._space, f"card:{shown.family.id}")),
            "summary": self._summary(shown, phrases),
            "detail": self._detail(shown, phrases),
            "indicator": shown.urgency.indicator,
            "source": {
                "label": "Infant motor workup rules (draft)",
                "url": f"{self._url}/",
                "topic": {
                    "system": f"{reading.canonical}/CodeSystem/workup",
                    "code": shown.family.id,
                    "display": shown.family.title,
                },
            },
        }
        if suggestions:
            card["suggestions"] = suggestions
            card["selectionBehavior"] = "any"
        card["overrideReasons"] = [
            {"code": code, "system": shown.family.override_system, "display": display}
            for code, display in shown.family.override_reasons
        ]
        card["links"] = [
            {"label": f"Rule: {e.rule.title}", "url": f"{self._url}/rules/{e.rule.id}", "type": "absolute"}
            for e in shown.evaluations[:3]
        ]
        card["extension"] = {BASIS: self._basis(shown)}
        return card

    def _summary(self, shown: Shown, phrases: list[Phrase]) -> str:
        """Family, deciding fact and age; the fact is shortened, and others are named, as far as there is room."""
        head = shown.family.urgent_title if shown.urgency is Urgency.CRITICAL else shown.family.title
        room = SUMMARY_LIMIT - len(head) - len(self._age) - len(": ; ")
        lead = ""
        for phrase in phrases[:1]:
            kept = next((n for n in range(len(phrase.words), 0, -1) if len(phrase.text(n)) <= room), 0)
            lead = phrase.text(kept) if kept else ""
        for phrase in phrases[1:3]:
            more = f"{lead}, {phrase.words[0]}"
            lead = more if lead and len(more) <= room and phrase.words[0] not in lead else lead
        return f"{head}: {lead}; {self._age}" if lead else f"{head}; {self._age}"[:SUMMARY_LIMIT]

    def _phrases(self, evaluations: Sequence[Evaluation]) -> list[Phrase]:
        """Every fact on which the card rests, said once, the same fact of several days together."""
        reading = self._library.reading
        said: dict[tuple[str, ...], dict[str, None]] = {}
        for evaluation in evaluations:
            for ground in evaluation.grounds:
                for fact in ground.facts:
                    if fact not in self._said:
                        course = self._record.finding(fact.concept).course
                        self._said[fact] = tuple(finding_words(fact, course, reading)), when_words(fact)
                    words_of_fact, when = self._said[fact]
                    said.setdefault(words_of_fact, {})[when] = None
                self._add_labs(ground.evidence, said)
            self._add_labs(evaluation.recorded, said)
        return [Phrase(found, ", ".join(whens)) for found, whens in said.items()]

    def _add_labs(self, evidence: Sequence[Evidence], said: dict[tuple[str, ...], dict[str, None]]) -> None:
        for item in evidence:
            if item.judged:
                said.setdefault(tuple(lab_words(item, self._library.reading)), {})[evidence_day(item)] = None

    def _detail(self, shown: Shown, phrases: list[Phrase]) -> str:
        facts = [phrase.text() for phrase in phrases]
        because = list(dict.fromkeys(e.rule.because for e in shown.evaluations))
        suggested = list(dict.fromkeys(_suggested(item) for item in shown.items)) + _taken_care_of(shown)
        missing = missing_words(
            [item for e in shown.evaluations for item in e.not_known]
            + [item for r in shown.items for item in r.not_known]
        )
        basis = self._basis_texts(shown)
        for size in (4, 3, 2, 1):
            for basis_size in (2, 1):
                text = join_lists(
                    {
                        "Why shown": [f"{_some(facts, size)}; {self._age}. {' '.join(because[:size])}"],
                        "Suggested": _merge(suggested, 2 * size),
                        "Not known": [f"{_some(missing, size)}."] if missing else [],
                        "Basis": [" ".join(basis[:basis_size]) + " Draft rule: no clinician has reviewed it."],
                    }
                )
                if words(text) <= DETAIL_LIMIT:
                    return text
        return text

    def _basis_texts(self, shown: Shown) -> list[str]:
        texts = []
        for evaluation in shown.evaluations:
            rule = evaluation.rule
            drawn = self._library.assertions[rule.draws_on[0]]
            more = f", also {', '.join(rule.draws_on[1:4])}" if len(rule.draws_on) > 1 else ""
            text = f"{drawn.document_title}, “{drawn.section}” ({drawn.id}{more}): {drawn.says}."
            text += {
                "stated": " Stated in the document.",
                "inferred": " Inferred from the document.",
                "outside": f" Urgency from outside guidance: {rule.citation.removeprefix('Urgency: ')}.",
            }[rule.basis]
            for limit in evaluation.limits:
                band = self._library.limits[limit]
                if band.confidence == "low":
                    text += f" The limit used ({band.id}) is of low confidence."
            texts.append(text)
        return list(dict.fromkeys(texts))

    def _basis(self, shown: Shown) -> dict[str, Any]:
        references = [item.reference for e in shown.evaluations for item in e.evidence if _is_clinical(item)]
        assertions = [drawn for e in shown.evaluations for drawn in e.rule.draws_on]
        basis: dict[str, Any] = {
            "workups": [{"id": item.workup.id, "urgency": item.urgency.indicator} for item in shown.items],
            "rules": [{"id": e.rule.id, "version": e.rule.version} for e in shown.evaluations],
        }
        if references:
            basis["evidence"] = list(dict.fromkeys(references))
        basis["assertions"] = list(dict.fromkeys(assertions))
        return basis

    def _suggestion(self, shown: Shown, item: Recommendation) -> dict[str, Any]:
        return {
            "label": f"Order: {item.workup.label}",
            "uuid": str(uuid5(self._space, f"suggestion:{shown.family.id}:{item.workup.id}")),
            "actions": [
                {
                    "type": "create",
                    "description": f"Draft order: {item.workup.label}. {_suggested(item)}",
                    "resource": self._service_request(item),
                }
            ],
        }

    def _service_request(self, item: Recommendation) -> dict[str, Any]:
        evidence = [part for e in item.asked_by for part in e.evidence if _is_clinical(part)]
        return service_request(
            item.workup, item.urgency, self._request.patient_id, evidence, self._library, self._request.encounter_id
        )


def namespace_of(hook_instance: str) -> UUID:
    """The hook instance as the name space of its cards' uuids."""
    try:
        return UUID(hook_instance)
    except ValueError:
        return uuid5(NAMESPACE, hook_instance)


def _age_of(record: PatientRecord) -> str:
    text = age_words(record.birth, record.today)
    return text if text.startswith("age") else f"age {text}"


def _taken_care_of(shown: Shown) -> list[str]:
    """What the rules of this card also ask for and is done or ordered already, so that nobody wonders."""
    known = {
        item.workup.label: item.taken_care_of.evidence[0]
        for evaluation in shown.evaluations
        for item in evaluation.suggested
        if item.taken_care_of.truth is TRUE
    }
    return [f"Already {by.value}: {label} ({evidence_day(by) or 'undated'})." for label, by in known.items()]


def _is_clinical(evidence: Evidence) -> bool:
    return evidence.element != "birthDate" and "/" in evidence.reference


def _suggested(item: Recommendation) -> str:
    return item.workup.suggest[item.urgency]


def _merge(suggested: list[str], most: int) -> list[str]:
    """The suggestions as one or several lines; what does not fit is counted, never dropped in silence."""
    if len(suggested) <= most:
        return [" ".join(suggested)]
    return [" ".join(suggested[:most]) + f" And {len(suggested) - most} more in the suggestions below."]


def _some(items: list[str], most: int) -> str:
    if len(items) <= most:
        return "; ".join(items)
    return "; ".join(items[:most]) + f"; and {len(items) - most} more"
