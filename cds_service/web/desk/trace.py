"""How each rule came to its outcome: its sentences as trees, each part with its answer and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cds_service.hooks.respond import HookResponse
from cds_service.hooks.wording import UNITS_IN_WORDS, evidence_day, finding_words
from cds_service.record.facts import Evidence
from cds_service.record.patient_record import PatientRecord
from cds_service.record.truth import NEGATION, Truth
from cds_service.rules.criteria import Answer, Criterion
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.library import RuleLibrary
from cds_service.rules.readable import Readable
from cds_service.rules.rule import Outcome
from cds_service.rules.sentences import And, Name, Not, Or, Sentence
from cds_service.web.desk.hidden import without_patient

GROUPS = {
    Outcome.RECOMMENDED: "Recommended",
    Outcome.SATISFIED: "Satisfied: all it asks for is done or ordered",
    Outcome.EXCLUDED: "Excluded",
    Outcome.DATA_REQUIRED: "Waits for data",
    Outcome.INTERNAL_ERROR: "Failed: a defect of the software",
    Outcome.NOT_APPLICABLE: "Not applicable",
}


class Shown(NamedTuple):
    """A fact as it is shown: what, value with unit, day, resource; nothing of the Patient but that it was read."""

    what: str
    value: str
    judged: str
    when: str
    reference: str


class Node(NamedTuple):
    """A part of a sentence. ``kind``: all, any, not, ask; ``answer``: true, false or unknown.

    ``same``: a composite criterion that is opened further up in the same tree.
    """

    kind: str
    answer: str
    name: str
    words: str
    shown: tuple[Shown, ...]
    missing: tuple[str, ...]
    parts: tuple[Node, ...]
    same: bool = False


class Asked(NamedTuple):
    """A workup that a rule asks for, how soon, when only, and by what it is taken care of."""

    label: str
    urgency: str
    when: Node | None
    done_by: tuple[Shown, ...]
    taken_care_of: str


class RuleTrace(NamedTuple):
    """A rule's outcome with the trees of its population, sentence and exclusion."""

    rule: str
    title: str
    version: str
    outcome: str
    silent: bool
    decided_by: tuple[str, ...]
    missing: tuple[str, ...]
    trees: tuple[tuple[str, Node], ...]
    asked: tuple[Asked, ...]


class RuleGroup(NamedTuple):
    """The rules of one outcome."""

    outcome: str
    title: str
    traces: tuple[RuleTrace, ...]


class Writer:
    """Puts answers into words. ``hide``: the patient's id, which no reference shows."""

    def __init__(self, library: RuleLibrary, hide: str = "") -> None:
        self.readable = Readable(library.reading, library.groups)
        self._concepts = library.reading.vocabulary.concepts
        self._workups = library.workups
        self._hide = hide

    def reference(self, text: str) -> str:
        """A reference, or a line that names one, without the patient's id."""
        return str(without_patient(text, self._hide))

    def shown(self, evidence: Evidence) -> Shown:
        """A fact as it is shown; of a birth date only that it was read."""
        if evidence.element == "birthDate":
            return Shown("Age", "", "", "", "Patient")
        concept = self._concepts.get(evidence.concept)
        unit = UNITS_IN_WORDS.get(evidence.unit, evidence.unit)
        return Shown(
            concept.display if concept is not None else evidence.concept.replace("_", " "),
            f"{evidence.value} {unit}".strip(), evidence.judged, evidence_day(evidence) or "undated",
            self.reference(evidence.reference),
        )  # fmt: skip

    def facts(self, answer: Answer, record: PatientRecord) -> tuple[Shown, ...]:
        """What an answer rests on; of a finding also what is said of it, such as that it clusters."""
        said = {
            fact.evidence: ", ".join(finding_words(fact, record.finding(fact.concept).course, record.reading))
            for fact in answer.facts
        }
        shown = ((self.shown(item), said.get(item)) for item in answer.evidence)
        return tuple(dict.fromkeys(item._replace(what=words or item.what) for item, words in shown))

    def trace(self, evaluation: Evaluation, silent: bool) -> RuleTrace:
        """How one rule came to its outcome; of a rule that raised there is no tree."""
        rule = evaluation.rule
        head = rule.id, rule.title, rule.version, evaluation.outcome.value, silent
        missing = tuple(self.reference(item) for item in evaluation.missing)
        if evaluation.outcome is Outcome.INTERNAL_ERROR:
            return RuleTrace(*head, (), missing, (), ())
        try:
            return RuleTrace(*head, evaluation.decided_by, missing, self._trees(evaluation), self._asked(evaluation))
        except Exception:  # a criterion that evaluation had no need to ask: a defect of ours, of which nothing is said
            return RuleTrace(*head, (), missing, (), ())

    def _trees(self, evaluation: Evaluation) -> tuple[tuple[str, Node], ...]:
        rule, opened = evaluation.rule, set[int]()
        sentences = [("For", Name(rule.population)), ("Speaks when", rule.recommend_when)]
        sentences += [("Unless", rule.unless)] if rule.unless is not None else []
        return tuple((title, self.tree(s, rule.criteria, evaluation, opened)) for title, s in sentences)

    def _asked(self, evaluation: Evaluation) -> tuple[Asked, ...]:
        suggested = {item.workup.id: item for item in evaluation.suggested}
        found = []
        for item in evaluation.rule.recommend:
            known = suggested.get(item.workup)
            when = item.when and self.tree(item.when, evaluation.rule.criteria, evaluation, set())
            done = known.taken_care_of if known is not None else None
            found.append(
                Asked(
                    self._workups[item.workup].label, item.urgency.indicator, when,
                    tuple(map(self.shown, done.evidence)) if done else (), done.truth.word if done else "",
                )
            )  # fmt: skip
        return tuple(found)

    def tree(
        self, sentence: Sentence, criteria: Mapping[str, Criterion], evaluation: Evaluation, opened: set[int]
    ) -> Node:
        """The sentence with its answers; a composite criterion is opened once in all the trees of ``opened``."""
        match sentence:
            case Name(name):
                return self._named(name, criteria[name], evaluation, opened)
            case Not(part):
                inner = self.tree(part, criteria, evaluation, opened)
                return Node("not", NEGATION[Truth[inner.answer.upper()]].word, "", "", (), (), (inner,))
            case And(parts) | Or(parts):
                nodes = tuple(self.tree(part, criteria, evaluation, opened) for part in parts)
                truths = [Truth[node.answer.upper()] for node in nodes]
                if isinstance(sentence, And):
                    return Node("all", min(truths).word, "", "", (), (), nodes)
                return Node("any", max(truths).word, "", "", (), (), nodes)

    def _named(self, name: str, criterion: Criterion, evaluation: Evaluation, opened: set[int]) -> Node:
        answer = evaluation.answer(criterion)
        words = self.readable.words(criterion)
        if criterion.sentence is not None:
            same = criterion.index in opened
            opened.add(criterion.index)
            parts = () if same else (self.tree(criterion.sentence, criterion.parts, evaluation, opened),)
            return Node("composite", answer.truth.word, name, words, (), (), parts, same)
        return Node(
            "ask", answer.truth.word, name, words, self.facts(answer, evaluation.record),
            tuple(self.reference(item) for item in answer.missing), (),
        )  # fmt: skip


def traces_of(response: HookResponse, library: RuleLibrary, hide: str = "") -> tuple[RuleGroup, ...]:
    """Every rule of an answer, by outcome. ``hide``: the patient's id, which is not shown."""
    writer = Writer(library, hide)
    found: Sequence[RuleTrace] = [writer.trace(e, e.rule.id in library.silent) for e in response.evaluations]
    return tuple(
        RuleGroup(outcome.value, title, traces)
        for outcome, title in GROUPS.items()
        if (traces := tuple(trace for trace in found if trace.outcome == outcome.value))
    )
