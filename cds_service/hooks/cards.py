"""Recommendations → CDS Hooks cards: one per family of workups, spec-clean, each with its reasons and basis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

from cds_service.hooks.card_text import CardText, Shown, own_urgency, suggested_words
from cds_service.hooks.orders import service_request
from cds_service.hooks.request import HookRequest
from cds_service.record.facts import Evidence
from cds_service.record.patient_record import PatientRecord
from cds_service.rules.library import RuleLibrary
from cds_service.rules.recommend import Recommendation

BASIS = "example.infant-motor-cds.basis"
NAMESPACE = UUID("6f1a3c1e-6f0b-5f0e-9a5c-5d3c0e2b7a11")


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
                    key=lambda evaluation: (-own_urgency(evaluation, items), evaluation.rule.id),
                )
            )
            shown.append(Shown(family, items[0].urgency, tuple(items), evaluations))
    shown.sort(key=lambda card: -card.urgency)
    writer = _Writer(record, request, library, public_url)
    return [writer.card(card) for card in shown]


class _Writer:
    def __init__(self, record: PatientRecord, request: HookRequest, library: RuleLibrary, public_url: str) -> None:
        self._request = request
        self._library = library
        self._url = public_url.rstrip("/")
        self._text = CardText(record, library)
        self._space = uuid5(namespace_of(request.hook_instance), request.patient_id)

    def card(self, shown: Shown) -> dict[str, Any]:
        reading = self._library.reading
        suggestions = [self._suggestion(shown, item) for item in shown.items if item.workup.order is not None]
        phrases = self._text.phrases(shown.evaluations)
        card: dict[str, Any] = {
            "uuid": str(uuid5(self._space, f"card:{shown.family.id}")),
            "summary": self._text.summary(shown, phrases),
            "detail": self._text.detail(shown, phrases),
            "indicator": shown.urgency.indicator,
            "source": {
                "label": self._label(shown),
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
        ] + [
            {"label": f"To pass on to the family: {guidance.title}", "url": f"{self._url}/guidance/{guidance.slug}",
             "type": "absolute"}
            for guidance in self._text.guidance(shown)[:1]
        ]  # fmt: skip
        card["extension"] = {BASIS: self._basis(shown)}
        return card

    def _label(self, shown: Shown) -> str:
        signed = all(e.rule.id in self._library.signatures for e in shown.evaluations)
        return "Infant motor workup rules" if signed else "Infant motor workup rules (draft)"

    def _basis(self, shown: Shown) -> dict[str, Any]:
        references = [
            item.reference for e in shown.evaluations for item in (*e.evidence, *e.recorded) if _is_clinical(item)
        ]
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
                    "description": f"Draft order: {item.workup.label}. {suggested_words(item)}",
                    "resource": self._service_request(item),
                }
            ],
        }

    def _service_request(self, item: Recommendation) -> dict[str, Any]:
        evidence = [part for e in item.asked_by for part in e.evidence if _is_clinical(part)]
        return service_request(
            item.workup, item.urgency, self._request.patient_id, evidence, self._library, self._request.encounter_id
        )


@lru_cache(maxsize=1)  # an audit has one for all its infants
def namespace_of(hook_instance: str) -> UUID:
    """The hook instance as the name space of its cards' uuids."""
    try:
        return UUID(hook_instance)
    except ValueError:
        return uuid5(NAMESPACE, hook_instance)


def _is_clinical(evidence: Evidence) -> bool:
    return evidence.element != "birthDate" and "/" in evidence.reference
