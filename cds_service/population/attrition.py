"""Where each infant leaves the way from the population to a recommendation, counted so that it sums."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cds_service.record.patient_record import PatientRecord
from cds_service.record.times import months_after
from cds_service.record.truth import FALSE, TRUE
from cds_service.rules.evaluate import Evaluation, Evaluations
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome

# In the order of the way. Of several rules, an infant counts where the rule that came furthest left it.
UNCHANGED = "not changed since"  # a patient who was not asked about
NOT_EVALUATED, OTHER_AGE, NO_FINDING, EXCLUDED = "not evaluated", "other age", "no finding", "excluded"
NOT_EVALUABLE, DONE, RECOMMENDED, FAILED = "not evaluable", "done or ordered", "recommended", "rule failed"
STAGES = (NOT_EVALUATED, OTHER_AGE, NO_FINDING, EXCLUDED, FAILED, NOT_EVALUABLE, DONE, RECOMMENDED)
RANK = {stage: place for place, stage in enumerate(STAGES)}
OF_OUTCOME = {
    Outcome.EXCLUDED: EXCLUDED, Outcome.DATA_REQUIRED: NOT_EVALUABLE, Outcome.SATISFIED: DONE,
    Outcome.RECOMMENDED: RECOMMENDED, Outcome.INTERNAL_ERROR: FAILED,
}  # fmt: skip
AGE_BANDS = (1, 3, 6, 12, 24)  # completed months at which the tables begin a new row; no rule reads them
NO_AGE = "no birth date"
BAND_NAMES = (
    f"under {AGE_BANDS[0]} month",
    *(f"{lo} to <{hi} months" for lo, hi in pairwise(AGE_BANDS)),
    f"{AGE_BANDS[-1]} months and over",
    NO_AGE,
)
_REFERENCE = re.compile(r"\b([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]+")
Counts = Counter[tuple[str, ...]]


def age_band(record: PatientRecord) -> str:
    """The band of the calendar age on the as-of day; of a birth date that names a month only, the oldest it can be."""
    if record.birth is None:
        return NO_AGE
    months = months_after(record.birth.span.days[0], record.today)
    return BAND_NAMES[bisect_right(AGE_BANDS, months)]


class Stages(NamedTuple):
    """The stage at which an infant leaves the way of each rule, and where the furthest rule of each document did."""

    of_rules: Mapping[str, str]
    of_documents: Mapping[str, str]

    @property
    def furthest(self) -> str:
        """The stage of the infant: that of the rule that came furthest."""
        return furthest(self.of_documents.values())


def stages_of(evaluations: Evaluations, library: RuleLibrary) -> Stages:
    """Where this infant leaves the way of each rule of the library that evaluated them. A rule is asked for its age
    first."""
    truth = evaluations.asked.truth
    early = _early(library, tuple(truth(criterion) is FALSE for criterion in library.populations.values()))
    of_rules, of_documents = dict(early.of_rules), dict(early.of_documents)
    for evaluation in evaluations.pertinent:  # whatever they come to is further than where the others are left
        stage, document = OF_OUTCOME[evaluation.outcome], evaluation.rule.document
        of_rules[evaluation.rule.id] = stage
        of_documents[document] = furthest((of_documents[document], stage))
    return Stages(of_rules, of_documents)


@lru_cache(maxsize=16)  # infants of one age are all alike here
def _early(library: RuleLibrary, other_age: tuple[bool, ...]) -> Stages:
    """The stages when no rule applies. ``other_age``: for each of the library's populations, whether the infant is not
    of it."""
    left_at = {
        name: OTHER_AGE if other else NO_FINDING for name, other in zip(library.populations, other_age, strict=True)
    }
    of_rules = {rule.id: left_at[rule.population] for rule in library.rules}
    of_documents = {
        document: furthest(of_rules[name] for name in rules) for document, rules in library.by_document.items()
    }
    return Stages(of_rules, of_documents)


def furthest(stages: Iterable[str]) -> str:
    """The last of these stages on the way."""
    return max(stages, key=RANK.__getitem__, default=NOT_EVALUATED)


def cause(missing: str) -> str:
    """What was missing, without naming anybody's resource."""
    return _REFERENCE.sub(r"\1", missing)


def count_infant(counts: Counts, band: str, pertinent: Sequence[Evaluation], stages: Stages) -> str:
    """Count one evaluated infant of this age band under every heading; the stage at which they leave."""
    stage = stages.furthest
    counts["stage", stage] += 1
    counts["age", band, stage] += 1
    counts.update([("rule", name, left_at) for name, left_at in stages.of_rules.items()])
    counts.update([("document", name, left_at) for name, left_at in stages.of_documents.items()])
    causes: set[str] = set()
    workups: dict[str, str] = {}
    for evaluation in pertinent:
        rule = evaluation.rule
        own = stages.of_rules[rule.id]
        if own == NOT_EVALUABLE:
            lacking = {cause(item) for item in evaluation.missing}
            causes |= lacking
            for item in lacking:
                counts["missing", rule.id, item] += 1
        elif own == EXCLUDED:
            for name in evaluation.decided_by:
                counts["excluded by", rule.id, name] += 1
        for asked in evaluation.suggested:
            mine = DONE if asked.taken_care_of.truth is TRUE else asked.urgency.indicator
            known = workups.get(asked.workup.id, DONE)
            workups[asked.workup.id] = max(mine, known, key=URGENCY_RANK.__getitem__)
    for item in causes:
        counts["cause", item] += 1
    for workup, own in workups.items():
        counts["workup", workup, own] += 1
    return stage


URGENCY_RANK = {DONE: 0, "info": 1, "warning": 2, "critical": 3}
