"""The kinds of criterion: one named question to the record, answered true, false or unknown with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from msgspec import Struct

from cds_service.record.ages import Age
from cds_service.record.facts import Evidence, Finding
from cds_service.record.patient_record import FindingState, PatientRecord
from cds_service.record.sources import (
    BIRTH_EVENT_SOURCES,
    FINDING_SOURCES,
    LAB_SOURCES,
    MEDICATION_SOURCES,
    WORK_SOURCES,
)
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth, decided
from cds_service.rules.qualifier_tests import Bound, Test, coded_test
from cds_service.rules.sentences import Compiled, Sentence

NO_GESTATION = "the gestational age at birth (the age was not corrected)"


class Answer(NamedTuple):
    """The truth of a criterion, the facts it rests on, and what was missing to decide it."""

    truth: Truth
    facts: tuple[Finding, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


NO = Answer(FALSE)
Ask = Callable[[PatientRecord], Answer]


class Criterion(Struct, frozen=True, kw_only=True, eq=False):
    """A compiled criterion: a question to the record, or a sentence over other criteria, which ``holds`` answers.

    ``index`` is its place in the library's memo of answers; ``definition`` is what the content file says.
    ``needs``: findings of which at least one has to be present, or possibly so, for the answer to be anything but
    false, when observations and conditions were answered in full; None when it does not hang on findings.
    """

    index: int
    definition: Mapping[str, object]
    needs: frozenset[str] | None = None
    ask: Ask | None = None
    sentence: Sentence | None = None
    holds: Compiled[Criterion] | None = None
    parts: Mapping[str, Criterion] = {}


def finding(concepts: tuple[str, ...], all_of: tuple[Test, ...], any_of: tuple[Test, ...], birth_event: bool) -> Ask:
    """Whether one of these findings is present, with all and any of the qualifiers on the same fact."""
    sources = BIRTH_EVENT_SOURCES if birth_event else FINDING_SOURCES

    def qualifies(fact: Finding, state: FindingState) -> Truth:
        answer = TRUE
        for test in all_of:
            answer = min(answer, test(fact, state))
        return min(answer, max(test(fact, state) for test in any_of)) if any_of else answer

    names = frozenset(concepts)

    def ask(record: PatientRecord) -> Answer:
        if names.isdisjoint(record.written):
            unanswered = record.unanswered(sources)
            return Answer(UNKNOWN, missing=unanswered) if unanswered else NO
        facts: list[Finding] = []
        undecided: list[Finding] = []
        denied: list[Evidence] = []
        for name in concepts:
            if name not in record.written:
                continue
            state = record.finding(name)
            for fact in state.present:
                truth = qualifies(fact, state)
                if truth is TRUE:
                    facts.append(fact)
                elif truth is UNKNOWN:
                    undecided.append(fact)
            undecided += [fact for fact in state.unknown if qualifies(fact, state) is not FALSE]
            denied += [fact.evidence for fact in state.denied]
        if facts:
            return Answer(TRUE, tuple(facts), tuple(fact.evidence for fact in facts))
        unanswered = record.unanswered(sources)
        if undecided or unanswered:
            return Answer(
                UNKNOWN, (), tuple(fact.evidence for fact in undecided),
                unanswered + tuple(_why(fact) for fact in undecided),
            )  # fmt: skip
        return Answer(FALSE, (), tuple(denied)) if denied else NO

    return ask


def _why(fact: Finding) -> str:
    return f"{fact.evidence.reference}: {fact.problem or 'what it says of the movement cannot be read'}"


def only_asleep(concepts: tuple[str, ...], implied_by: tuple[str, ...]) -> Ask:
    """Whether there are movements and every one of them is said to be in sleep; no state is not asleep."""
    asleep = coded_test("state", frozenset({"asleep"}))
    awake = coded_test("state", frozenset({"awake"}))

    def in_sleep(fact: Finding, state: FindingState) -> Truth:
        said = TRUE if fact.concept in implied_by else asleep(fact, state)
        return min(said, NEGATION[awake(fact, state)])

    return every((*concepts, *implied_by), in_sleep)


def every(concepts: tuple[str, ...], test: Test) -> Ask:
    """Whether one of these findings is present and all that are present pass the test."""

    def ask(record: PatientRecord) -> Answer:
        facts: list[Finding] = []
        answers: list[Truth] = []
        doubtful: list[Truth] = []
        missing: list[str] = []
        for name in concepts:
            state = record.finding(name)
            for fact in state.present:
                facts.append(fact)
                answers.append(test(fact, state))
            for fact in state.unknown:
                doubtful.append(max(UNKNOWN, test(fact, state)))
                missing.append(_why(fact))
        unanswered = record.unanswered(FINDING_SOURCES)
        if FALSE in answers or not (answers or missing or unanswered):
            return NO
        truth = UNKNOWN if unanswered or not answers else min((*answers, *doubtful))
        evidence = tuple(fact.evidence for fact in facts)
        return Answer(truth, tuple(facts), evidence, (*unanswered, *missing) if truth is UNKNOWN else ())

    return ask


def age(bound: Bound, limit: Age, corrected: bool) -> Ask:
    """Whether the age on the as-of day, corrected for early birth or not, lies beyond the limit."""

    def ask(record: PatientRecord) -> Answer:
        birth = record.birth
        if birth is None:
            return Answer(UNKNOWN, (), (), ("Patient.birthDate",))
        match bound.comparison:
            case "above":
                truth = birth.is_above(limit, record.today, corrected)
            case "at_most":
                truth = NEGATION[birth.is_above(limit, record.today, corrected)]
            case "at_least":
                truth = birth.is_at_least(limit, record.today, corrected)
            case _:
                truth = NEGATION[birth.is_at_least(limit, record.today, corrected)]
        if truth is UNKNOWN:
            problem = birth.gestation.problem if corrected and birth.gestation.known is UNKNOWN else ""
            return Answer(
                UNKNOWN, (), (), (f"gestational age: {problem}" if problem else "an exact Patient.birthDate",)
            )
        evidence: list[Evidence] = [] if record.facts.birth_evidence is None else [record.facts.birth_evidence]
        if corrected and birth.gestation.known is TRUE and birth.gestation.evidence is not None:
            evidence.append(birth.gestation.evidence)
        unsaid = (NO_GESTATION,) if corrected and birth.gestation.known is FALSE else ()
        return Answer(truth, (), tuple(evidence), (), unsaid)

    return ask


def born_early(record: PatientRecord) -> Answer:
    """Whether the recorded gestational age at birth is before term; one that nobody recorded counts as term."""
    if record.birth is None:
        return Answer(UNKNOWN, (), (), ("Patient.birthDate",))
    truth = record.birth.is_preterm()
    gestation = record.birth.gestation
    if truth is UNKNOWN:
        return Answer(UNKNOWN, (), (), (f"gestational age: {gestation.problem}",))
    evidence = () if gestation.evidence is None else (gestation.evidence,)
    return Answer(truth, (), evidence, (), (NO_GESTATION,) if gestation.known is FALSE else ())


def laboratory(analytes: tuple[str, ...], side: str) -> Ask:
    """Whether one of these analytes is low, high, abnormal, or recorded at all, near the newest finding."""

    def ask(record: PatientRecord) -> Answer:
        evidence: list[Evidence] = []
        missing: list[str] = list(record.unanswered(LAB_SOURCES))
        limits: list[str] = []
        truths: list[Truth] = [UNKNOWN] if missing else []
        for analyte in analytes:
            found = record.lab(analyte)
            if side == "recorded":
                truth = TRUE if found.evidence and found.low is not UNKNOWN else FALSE
            else:
                truth = found.low if side == "low" else found.high if side == "high" else found.abnormal
            if truth is TRUE:
                evidence += found.evidence
                limits += [found.limit] if found.limit else []
            missing += found.missing if truth is UNKNOWN else ()
            truths.append(truth)
        truth = max(truths)
        if truth is TRUE:
            return Answer(TRUE, (), tuple(evidence), (), (), tuple(limits))
        return Answer(UNKNOWN, (), (), tuple(missing)) if truth is UNKNOWN else NO

    return ask


def medication(concepts: tuple[str, ...]) -> Ask:
    """Whether the patient is on one of these medicines."""

    def ask(record: PatientRecord) -> Answer:
        missing = list(record.unanswered(MEDICATION_SOURCES))
        evidence = []
        for taken in record.facts.medications:
            if taken.concept in concepts and not taken.problem:
                evidence.append(taken.evidence)
            elif taken.concept is None or taken.concept in concepts:
                missing.append(f"{taken.evidence.reference}: {taken.problem}")
        if evidence:
            return Answer(TRUE, (), tuple(evidence))
        return Answer(UNKNOWN, (), (), tuple(missing)) if missing else NO

    return ask


def done(concepts: tuple[str, ...]) -> Ask:
    """Whether work of this kind was ever done."""

    def ask(record: PatientRecord) -> Answer:
        evidence = tuple(
            work.evidence for name in concepts for work in record.facts.work.get(name, ()) if not work.ordered
        )
        if evidence:
            return Answer(TRUE, (), evidence)
        missing = record.unanswered(WORK_SOURCES)
        return Answer(UNKNOWN, (), (), missing) if missing else NO

    return ask


def first_seen(concepts: tuple[str, ...], before: Age) -> Ask:
    """Whether a finding that is present began, or was first seen, before this age."""

    def ask(record: PatientRecord) -> Answer:
        present = finding(concepts, (), (), birth_event=False)(record)
        if present.truth is not TRUE:
            return present
        if record.birth is None:
            return Answer(UNKNOWN, (), (), ("Patient.birthDate",))
        truth = FALSE
        for name in dict.fromkeys(fact.concept for fact in present.facts):
            first, last = record.birth.days(corrected=False)
            seen = record.finding(name).course.first_seen
            if seen is not None:
                early = decided(seen.days[1] < before.reached_on(first), seen.days[0] < before.reached_on(last))
                truth = max(truth, early)
        if truth is not TRUE and any("onset" in fact.qualifiers.unreadable for fact in present.facts):
            truth = UNKNOWN
        missing = ("when the finding was first seen",) if truth is UNKNOWN else ()
        return present._replace(truth=truth, missing=missing)

    return ask


def recorded(concepts: tuple[str, ...], qualifier: str) -> Ask:
    """Whether the chart says anything of this qualifier for a finding that is present."""

    def ask(record: PatientRecord) -> Answer:
        for name in concepts:
            for fact in record.finding(name).present:
                said = fact.qualifiers
                if qualifier in said.coded or qualifier in said.numbers:
                    return Answer(TRUE, (fact,), (fact.evidence,))
        return NO

    return ask
