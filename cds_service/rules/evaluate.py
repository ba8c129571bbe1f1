"""One rule on one record: its outcome, the reasons for it, and what was missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

from msgspec import Struct

from cds_service.record.facts import Evidence, Finding
from cds_service.record.patient_record import PatientRecord
from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth
from cds_service.rules.criteria import Answer, Criterion
from cds_service.rules.done import Suppression, suppression
from cds_service.rules.rule import Outcome, Recommend, Rule, Urgency, Workup
from cds_service.rules.sentences import Sentence, TruthOf, deciding, truth

T = TypeVar("T")


class Asked:
    """The record with every answer given so far, so that a shared criterion is asked once."""

    def __init__(self, record: PatientRecord, criteria: int) -> None:
        self.record = record
        self._possible = record.possible
        self._answers: list[Answer | None] = [None] * criteria
        self._truths: list[Truth | None] = [None] * criteria

    def truth(self, criterion: Criterion) -> Truth:
        """Whether the criterion holds on this record; why is not worked out for one that joins others."""
        known = self._truths[criterion.index]
        if known is None:
            needs, possible = criterion.needs, self._possible
            if needs is not None and possible is not None and possible.isdisjoint(needs):
                known = FALSE  # all was answered, and nothing is there on which it could hold
            elif criterion.holds is not None:
                known = criterion.holds(self.truth)
            else:
                known = self.answer(criterion).truth
            self._truths[criterion.index] = known
        return known

    def by_name(self, rule: Rule) -> TruthOf:
        """The same question by the names that the rule has for its criteria."""
        return lambda name: self.truth(rule.criteria[name])

    def answer(self, criterion: Criterion) -> Answer:
        """The criterion's answer on this record."""
        known = self._answers[criterion.index]
        if known is None:
            if criterion.sentence is not None:
                known = self._composite(criterion, criterion.sentence)
            elif criterion.ask is not None:
                known = criterion.ask(self.record)
            else:
                raise TypeError("a criterion neither asks nor joins")
            self._answers[criterion.index] = known
        return known

    def _composite(self, criterion: Criterion, sentence: Sentence) -> Answer:
        names = deciding(sentence, lambda name: self.truth(criterion.parts[name]))
        answers = [self.answer(criterion.parts[name]) for name in names]
        return Answer(
            self.truth(criterion),
            _each_once([answer.facts for answer in answers]),
            _each_once([answer.evidence for answer in answers]),
            _each_once([answer.missing for answer in answers]),
            _each_once([answer.not_recorded for answer in answers]),
            _each_once([answer.limits for answer in answers]),
        )


def _each_once(several: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """All their items, each once."""
    items = [item for some in several for item in some]
    return tuple(dict.fromkeys(items)) if items else ()


class Reason(NamedTuple):
    """One criterion of a rule with its answer."""

    name: str
    truth: Truth
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...]


class Suggested(NamedTuple):
    """A workup that a rule asks for by the assertion it cites, and whether it is already taken care of."""

    workup: Workup
    urgency: Urgency
    cites: str
    taken_care_of: Suppression


class Evaluation(Struct, dict=True, eq=False):
    """A rule's outcome on a record. The reasons are worked out when somebody asks for them."""

    rule: Rule
    _asked: Asked
    outcome: Outcome
    missing: tuple[str, ...] = ()
    suggested: tuple[Suggested, ...] = ()

    @property
    def record(self) -> PatientRecord:
        """The record on which it was evaluated."""
        return self._asked.record

    def answer(self, criterion: Criterion) -> Answer:
        """The answer of a criterion of the rule, or of a part of one."""
        return self._asked.answer(criterion)

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Every criterion of the rule, in the order of its sentences."""
        reasons = []
        for name in self.rule.named:
            answer = self._asked.answer(self.rule.criteria[name])
            reasons.append(Reason(name, answer.truth, answer.evidence, answer.missing))
        return tuple(reasons)

    @cached_property
    def decided_by(self) -> tuple[str, ...]:
        """The names on which the outcome hangs: for a silent rule, those that keep it silent."""
        if self.outcome is Outcome.EXCLUDED and self.rule.unless is not None:
            return tuple(dict.fromkeys(deciding(self.rule.unless, self._truth_of)))
        names = deciding(self.rule.recommend_when, self._truth_of)
        holds = truth(self.rule.recommend_when, self._truth_of)
        if self._truth_of(self.rule.population) is not TRUE and holds is not FALSE:
            names = [self.rule.population, *(names if holds is UNKNOWN else ())]
        return tuple(dict.fromkeys(names))

    @cached_property
    def grounds(self) -> tuple[Answer, ...]:
        """The answers on which a rule that speaks rests: its true criteria, without those it negates."""
        return tuple(
            answer
            for name in deciding(self.rule.recommend_when, self._truth_of)
            if (answer := self._asked.answer(self.rule.criteria[name])).truth is TRUE
        )

    @cached_property
    def facts(self) -> tuple[Finding, ...]:
        """The findings on which it rests, each once."""
        return tuple(dict.fromkeys(fact for answer in self.grounds for fact in answer.facts))

    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """Where in the record it rests."""
        return tuple(dict.fromkeys(item for answer in self.grounds for item in answer.evidence))

    @cached_property
    def recorded(self) -> tuple[Evidence, ...]:
        """What the rule wanted named if it were not recorded, and is: a normal glucose behind a reassurance."""
        answers = (tell.ask(self._asked.record) for tell in self.rule.tell)
        return tuple(dict.fromkeys(item for answer in answers if answer.truth is TRUE for item in answer.evidence))

    @cached_property
    def not_known(self) -> tuple[str, ...]:
        """What the rule would have liked to know: unreadable, unanswered, or not recorded."""
        used = [self._asked.answer(criterion) for criterion in self.rule.criteria.values()]
        told = [tell.say for tell in self.rule.tell if tell.ask(self._asked.record).truth is FALSE]
        unsaid = [item for answer in used for item in answer.not_recorded]
        missing = [item for answer in used if answer.truth is UNKNOWN for item in answer.missing]
        return tuple(dict.fromkeys((*missing, *told, *unsaid)))

    @cached_property
    def limits(self) -> tuple[str, ...]:
        """The ids of the numeric limits of limits.yaml on which it rests."""
        return tuple(dict.fromkeys(limit for answer in self.grounds for limit in answer.limits))

    def work_out(self) -> None:
        """Ask all that a card will say now, so that a criterion that raises is caught where rules are."""
        _ = self.evidence, self.recorded, self.not_known, self.limits

    @cached_property
    def _truth_of(self) -> TruthOf:
        return self._asked.by_name(self.rule)


class Evaluations(Struct, dict=True, eq=False):
    """Every rule's evaluation on one record. ``pertinent``: of those that apply or might, in the order of the rules;
    the few that anything is to be said of."""

    rules: Sequence[Rule]
    asked: Asked
    pertinent: Sequence[Evaluation]

    @cached_property
    def all(self) -> Sequence[Evaluation]:
        """Those of the other rules too, which are made when somebody asks for them."""
        known = {evaluation.rule.id: evaluation for evaluation in self.pertinent}
        return [known.get(rule.id) or Evaluation(rule, self.asked, Outcome.NOT_APPLICABLE) for rule in self.rules]


def evaluate(rule: Rule, asked: Asked, workups: dict[str, Workup]) -> Evaluation:
    """The rule's outcome. Unknown facts keep it silent unless it holds whatever they are."""
    holds = rule.applies(asked.truth)
    if holds is not FALSE:
        holds = min(holds, asked.truth(rule.criteria[rule.population]))
    if holds is FALSE:
        return Evaluation(rule, asked, Outcome.NOT_APPLICABLE)
    excluded = rule.excluded(asked.truth) if rule.excluded is not None else FALSE
    if excluded is TRUE:
        return Evaluation(rule, asked, Outcome.EXCLUDED)
    if holds is UNKNOWN or excluded is UNKNOWN:
        return Evaluation(rule, asked, Outcome.DATA_REQUIRED, missing=_missing(rule, asked))
    meant = [(item, TRUE if item.is_meant is None else item.is_meant(asked.truth)) for item in rule.recommend]
    if all(truth is not TRUE for _, truth in meant):
        return _without_workup(rule, [item for item, truth in meant if truth is UNKNOWN], asked)
    evaluation = Evaluation(rule, asked, Outcome.RECOMMENDED)
    evaluation.suggested = tuple(
        Suggested(
            workups[item.workup],
            item.urgency,
            item.cites,
            suppression(workups[item.workup], asked.record, evaluation.facts),
        )
        for item, truth in meant
        if truth is TRUE
    )
    if all(item.taken_care_of.truth is TRUE for item in evaluation.suggested):
        evaluation.outcome = Outcome.SATISFIED
    return evaluation


def _without_workup(rule: Rule, in_doubt: list[Recommend], asked: Asked) -> Evaluation:
    """The rule holds and narrows every workup away: it does not apply, unless that cannot be told."""
    if not in_doubt:
        return Evaluation(rule, asked, Outcome.NOT_APPLICABLE)
    names = [name for item in in_doubt if item.when is not None for name in deciding(item.when, asked.by_name(rule))]
    return Evaluation(rule, asked, Outcome.DATA_REQUIRED, missing=_lacking(rule, names, asked))


def _missing(rule: Rule, asked: Asked) -> tuple[str, ...]:
    """What the unknown parts of the rule's sentences lack."""
    truth_of = asked.by_name(rule)
    names: list[str] = []
    for sentence in (rule.recommend_when, rule.unless):
        if sentence is not None and truth(sentence, truth_of) is UNKNOWN:
            names += deciding(sentence, truth_of)
    if truth_of(rule.population) is UNKNOWN:
        names.append(rule.population)
    return _lacking(rule, names, asked)


def _lacking(rule: Rule, names: list[str], asked: Asked) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for name in names for item in asked.answer(rule.criteria[name]).missing))
