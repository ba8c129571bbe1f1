"""What a card says in words: the summary line, and the detail in its fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

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
from cds_service.rules.evaluate import Evaluation, Suggested
from cds_service.rules.guidance import Guidance
from cds_service.rules.library import RuleLibrary
from cds_service.rules.recommend import REASSURANCE, Recommendation
from cds_service.rules.rule import Family, Rule, Urgency

SUMMARY_LIMIT = 139  # CDS Hooks 2.0.1, Card Attributes: fewer than 140 characters
DETAIL_LIMIT = 120  # words; ours
QUOTED = 2  # passages per rule
SIZES = (1, 2, 3, 4)  # how many facts and reasons there are room for


class Shown(NamedTuple):
    """One family's card before it becomes JSON."""

    family: Family
    urgency: Urgency
    items: tuple[Recommendation, ...]
    evaluations: tuple[Evaluation, ...]


class Phrase(NamedTuple):
    """A fact in words, most telling first, and the days on which it was seen."""

    words: tuple[str, ...]
    when: str

    def text(self, most: int = 99) -> str:
        """The fact with at most so many of its words."""
        return f"{', '.join(self.words[:most])} ({self.when})"


class CardText:
    """Writes the words of every card of one response; a fact is put into words once."""

    def __init__(self, record: PatientRecord, library: RuleLibrary) -> None:
        self._record = record
        self._library = library
        self._said: dict[Finding, tuple[tuple[str, ...], str]] = {}
        self._age = _age_of(record)

    def summary(self, shown: Shown, phrases: list[Phrase]) -> str:
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

    def phrases(self, evaluations: Sequence[Evaluation]) -> list[Phrase]:
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

    def detail(self, shown: Shown, phrases: list[Phrase]) -> str:
        """The detail, shortened from the least important end until it is within its limit.

        A reassurance always says what to watch for and when to come back; another card of mere info where there is
        room. Where something is to be done soon, "come back if" would mislead: there the link alone leads to it.
        """
        facts = [phrase.text() for phrase in phrases]
        urgent = shown._replace(
            evaluations=tuple(e for e in shown.evaluations if own_urgency(e, shown.items) is shown.urgency)
        )
        because = list(dict.fromkeys(e.rule.because for e in urgent.evaluations))
        already = _taken_care_of(shown)
        missing = missing_words(
            [item for e in shown.evaluations for item in e.not_known]
            + [item for r in shown.items for item in r.not_known]
        )
        basis = self._basis_texts(urgent, QUOTED)
        surety = f"{self._doubtful_limits(shown)}{self._reviewed(shown)}"
        family = [guidance.on_card.says for guidance in self.guidance(shown)[:1]]
        kept = (family,) if shown.family.id == REASSURANCE else (family, []) if shown.urgency is Urgency.INFO else ([],)

        def written(size: int, place: str, for_family: list[str], done: list[str]) -> str:
            return join_lists(
                {
                    "Why shown": [f"{_some(facts, size)}; {self._age}. {' '.join(because[:size])}"],
                    "Suggested": [" ".join((*_suggested(shown, 2 * size), *for_family, *done))],
                    "Not known": [f"{_some(missing, size)}."] if missing else [],
                    "Basis": [f"{place} {surety}"],
                }
            )

        text = written(SIZES[-1], " ".join(basis[:2]), kept[0], already)
        if words(text) <= DETAIL_LIMIT:  # nearly every card
            return text
        places = self._places(urgent, basis)
        layouts = sorted(product(SIZES, range(len(places))), key=lambda layout: (layout[1] - layout[0], layout))
        for (size, place), for_family, done in product(layouts, kept, (already, []) if already else ([],)):
            text = written(size, places[place], for_family, done)
            if words(text) <= DETAIL_LIMIT:
                return text
        return text

    def _places(self, shown: Shown, basis: list[str]) -> list[str]:
        """What may stand under Basis, longest first; the last one names the place and quotes nothing."""
        leading = shown.evaluations[0]
        brief = f"{self._place(leading, _cited(leading, shown)[:1])}. {_briefly(leading.rule)}"
        return list(dict.fromkeys((" ".join(basis[:2]), basis[0], self._basis_texts(shown, 1)[0], brief)))

    def guidance(self, shown: Shown) -> list[Guidance]:
        """What may be passed on to the family, of the leading rule's document first."""
        slugs = dict.fromkeys(e.rule.document for e in shown.evaluations)
        return [self._library.guidance[slug] for slug in slugs if slug in self._library.guidance]

    def _doubtful_limits(self, shown: Shown) -> str:
        """Every limit of low confidence on which the card rests."""
        limits = dict.fromkeys(limit for e in shown.evaluations for limit in e.limits)
        doubtful = [limit for limit in limits if self._library.limits[limit].confidence == "low"]
        return f"Limits of low confidence: {', '.join(doubtful)}. " if doubtful else ""

    def _reviewed(self, shown: Shown) -> str:
        """Whether clinicians have signed every rule of the card."""
        signed = [self._library.signatures.get(e.rule.id, ()) for e in shown.evaluations]
        if not all(signed):
            return "Draft rule: no clinician has reviewed it."
        latest = max(signature.on for signatures in signed for signature in signatures)
        return f"Signed off by reviewers, last on {latest}."

    def _basis_texts(self, shown: Shown, most: int) -> list[str]:
        """Per rule: the passages that ask for its workups on this card, and whether the document states that.

        What a rule before it has quoted is not quoted again: then what the rule rests on first stands there.
        """
        texts, said = [], set[str]()
        for evaluation in shown.evaluations:
            rule = evaluation.rule
            quoted = [name for name in _cited(evaluation, shown) if name not in said][:most] or [rule.draws_on[0]]
            said.update(quoted)
            text = self._quotes(evaluation, quoted)
            text += {
                "stated": " Stated in the document.",
                "inferred": " Inferred from the document.",
                "outside": f" {_from_outside(rule.citation)}.",
            }[rule.basis]
            texts.append(text)
        return list(dict.fromkeys(texts))

    def _quotes(self, evaluation: Evaluation, quoted: list[str]) -> str:
        """Each passage with its place; a document or section that was just named is not named again."""
        first, *others = (self._library.assertions[name] for name in quoted)
        text = f"{self._place(evaluation, quoted)}: {first.says}."
        for drawn in others:
            if (drawn.document, drawn.section) == (first.document, first.section):
                text += f" {drawn.id}: {drawn.says}."
            else:
                title = "" if drawn.document == first.document else f"{drawn.document_title}, "
                text += f" {title}“{drawn.section}” ({drawn.id}): {drawn.says}."
        return text

    def _place(self, evaluation: Evaluation, quoted: list[str]) -> str:
        """Document and section of the first passage quoted, and what else the rule draws on."""
        drawn = self._library.assertions[quoted[0]]
        more = ", ".join([name for name in evaluation.rule.draws_on if name not in quoted][:3])
        return f"{drawn.document_title}, “{drawn.section}” ({drawn.id}{f', also {more}' if more else ''})"


def _from_outside(citation: str) -> str:
    """What comes from outside the documents: the urgency alone, when the citation says so."""
    if citation.startswith("Urgency: "):
        return f"Urgency from outside guidance: {citation.removeprefix('Urgency: ')}"
    return f"From outside guidance: {citation}"


def _briefly(rule: Rule) -> str:
    if rule.basis == "outside":
        return "Urgency from outside guidance." if rule.citation.startswith("Urgency: ") else "With outside guidance."
    return {"stated": "Stated.", "inferred": "Inferred."}[rule.basis]


def _age_of(record: PatientRecord) -> str:
    text = age_words(record.birth, record.today)
    return text if text.startswith("age") else f"age {text}"


def own_urgency(evaluation: Evaluation, items: Sequence[Recommendation]) -> Urgency:
    """How urgently this rule itself asks for something of the card; others may ask for the same more urgently."""
    return max(item.urgency for item in _asked_for(evaluation, items))


def _asked_for(evaluation: Evaluation, items: Sequence[Recommendation]) -> list[Suggested]:
    """What this rule asks for of these items, by name or because it yields to one of them."""
    ids = {item.workup.id for item in items}
    return [item for item in evaluation.suggested if not ids.isdisjoint((item.workup.id, item.workup.yields_to))]


def _cited(evaluation: Evaluation, shown: Shown) -> list[str]:
    """The assertions by which this rule asks for workups of the card, of the most urgent first."""
    asked = [item for item in _asked_for(evaluation, shown.items) if item.taken_care_of.truth is not TRUE]
    return list(dict.fromkeys(item.cites for item in sorted(asked, key=lambda item: -item.urgency)))


def _taken_care_of(shown: Shown) -> list[str]:
    """What the rules of this card also ask for in its family and is done or ordered already, so that nobody wonders."""
    known = {
        item.workup.label: item.taken_care_of.evidence[0]
        for evaluation in shown.evaluations
        for item in evaluation.suggested
        if item.taken_care_of.truth is TRUE and item.workup.family == shown.family.id
    }
    return [f"Already {by.value}: {label} ({evidence_day(by) or 'undated'})." for label, by in known.items()]


def suggested_words(item: Recommendation) -> str:
    """The workup's wording for its urgency."""
    return item.workup.suggest[item.urgency]


def _suggested(shown: Shown, most: int) -> list[str]:
    """What can be ordered, as far as it fits, the rest counted: it stands below as suggestions. Advice without an
    order stands nowhere else and is never left out."""
    orderable = [item for item in shown.items if item.workup.order is not None]
    hidden = orderable[most:]
    more = [f"And {len(hidden)} more in the suggestions below."] if hidden else []
    return [suggested_words(item) for item in shown.items if item not in hidden] + more


def _some(items: list[str], most: int) -> str:
    if len(items) <= most:
        return "; ".join(items)
    return "; ".join(items[:most]) + f"; and {len(items) - most} more"
