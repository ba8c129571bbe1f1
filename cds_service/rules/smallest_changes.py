"""The smallest changes to a record that would make a silent rule speak, searched over its three-valued sentences.

Each question to the record counts as one change, whichever way it is answered now; what two questions ask of the
same fact (a clonus, a clonus on both sides) is counted twice, though one fact may answer both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from cds_service.record.truth import FALSE, TRUE, Truth
from cds_service.rules.criteria import Answer, Criterion
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.sentences import And, Name, Not, Or, Sentence, truth

TOLD = 3
MOST = 300  # ways kept at each joint, the cheapest first
Way = Mapping[int, Truth]  # the index of each question that a way needs → the answer it needs


class Change(NamedTuple):
    """A question whose answer would have to be another. ``name``: the criterion's, in the rule or a composite."""

    name: str
    criterion: Criterion
    now: Answer
    wanted: Truth


def speaks_when(evaluation: Evaluation) -> Sentence:
    """All that has to hold for the rule to ask for a workup, in one sentence."""
    rule = evaluation.rule
    parts: list[Sentence] = [Name(rule.population), rule.recommend_when]
    if rule.unless is not None:
        parts.append(Not(rule.unless))
    narrowed = [item.when for item in rule.recommend if item.when is not None]
    if narrowed and len(narrowed) == len(rule.recommend):
        parts.append(Or(tuple(narrowed)))
    return And(tuple(parts))


def smallest_changes(evaluation: Evaluation) -> list[tuple[Change, ...]]:
    """The smallest sets of answers, at most three, that would have to be others for the rule to speak.

    None when it does already.
    """
    search = _Search(evaluation)
    found: dict[frozenset[int], tuple[Change, ...]] = {}
    for way in search.ways(speaks_when(evaluation), TRUE, evaluation.rule.criteria):
        needed = search.changed(way)
        if not any(known <= needed for known in found):
            found[needed] = search.changes(way)
    return [changes for changes in found.values() if changes][:TOLD]


def failing(evaluation: Evaluation) -> list[Change]:
    """Every question whose answer stands in the way, each once; of an *or*, all its parts that could be otherwise."""
    found: dict[int, Change] = {}

    def look(sentence: Sentence, wanted: Truth, criteria: Mapping[str, Criterion]) -> None:
        if truth(sentence, lambda name: evaluation.answer(criteria[name]).truth) is wanted:
            return
        match sentence:
            case Not(part):
                look(part, FALSE if wanted is TRUE else TRUE, criteria)
            case And(parts) | Or(parts):
                for part in parts:
                    look(part, wanted, criteria)
            case Name(name):
                criterion = criteria[name]
                if criterion.sentence is not None:
                    look(criterion.sentence, wanted, criterion.parts)
                else:
                    found.setdefault(criterion.index, Change(name, criterion, evaluation.answer(criterion), wanted))

    look(speaks_when(evaluation), TRUE, evaluation.rule.criteria)
    return list(found.values())


class _Search:
    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._asked: dict[int, tuple[str, Criterion, Answer]] = {}

    def changed(self, way: Way) -> frozenset[int]:
        """The questions that the way needs answered otherwise."""
        return frozenset(index for index, wanted in way.items() if self._asked[index][2].truth is not wanted)

    def changes(self, way: Way) -> tuple[Change, ...]:
        """What the way needs to be otherwise than it is."""
        changed = self.changed(way)
        return tuple(Change(*self._asked[index], wanted) for index, wanted in way.items() if index in changed)

    def ways(self, sentence: Sentence, wanted: Truth, criteria: Mapping[str, Criterion]) -> Sequence[Way]:
        """Every way in which the sentence gets this truth, the one with the fewest changes first."""
        match sentence:
            case Name(name):
                return self._of(name, criteria[name], wanted)
            case Not(part):
                return self.ways(part, FALSE if wanted is TRUE else TRUE, criteria)
            case And(parts) | Or(parts):
                each = [self.ways(part, wanted, criteria) for part in parts]
                if isinstance(sentence, And) is (wanted is TRUE):
                    return reduce(self._both, each)
                return self._cheapest(way for ways in each for way in ways)

    def _of(self, name: str, criterion: Criterion, wanted: Truth) -> Sequence[Way]:
        if criterion.sentence is not None:
            return self.ways(criterion.sentence, wanted, criterion.parts)
        if criterion.index not in self._asked:
            self._asked[criterion.index] = name, criterion, self._evaluation.answer(criterion)
        return ({criterion.index: wanted},)

    def _both(self, some: Sequence[Way], others: Sequence[Way]) -> Sequence[Way]:
        return self._cheapest(
            {**one, **other} for one in some for other in others
            if all(other.get(index, wanted) is wanted for index, wanted in one.items())
        )  # fmt: skip

    def _cheapest(self, ways: Iterable[Way]) -> Sequence[Way]:
        """The ways with the fewest changes first, without those that need what another needs and more."""
        kept: list[Way] = []
        for way in sorted(ways, key=lambda way: len(self.changed(way))):
            if len(kept) == MOST:
                break
            if not any(known.items() <= way.items() for known in kept):
                kept.append(way)
        return kept
