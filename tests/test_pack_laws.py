"""Laws that the whole pack keeps, whatever its rules say: over charts drawn by hypothesis, and over every case."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import infants
import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from infants import Json, ask, condition, observation, outcome, request, workups
from msgspec import Struct
from wire import CHIEF, LIBRARY, READING, TODAY, charts, day

from cds_service.hooks.respond import HookResponse
from cds_service.record.sources import SOURCES
from cds_service.rules.cases import Case, cases_of, resources_of
from cds_service.rules.evaluate import Asked, evaluate
from cds_service.rules.pack import packaged_cards, read_cases
from cds_service.rules.recommend import REASSURANCE
from cds_service.rules.rule import Outcome, Urgency

LAWS = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
CASES, _ = read_cases(packaged_cards())
RED_FLAGS = [
    ("seizure",), ("status_epilepticus",), ("loss_of_consciousness",), ("lethargy",), ("fever",), ("sepsis",),
    ("meningitis",), ("dehydration",), ("respiratory_distress",), ("apnea",), ("poor_feeding",), ("vomiting",),
    ("developmental_regression",), ("hypotonia",), ("stiffness",), ("infantile_spasms",), ("altered_consciousness",),
    ("tremor", ("severity", "severe"), ("state", "awake")), ("tremor", ("course", "worsening"), ("state", "awake")),
    ("muscle_spasm", ("frequency", "frequent"), ("state", "awake")), ("myoclonus", ("frequency", "clustered")),
]  # fmt: skip
ORDERABLE = [
    (workup.id, way.concepts[0])
    for workup in LIBRARY.workups.values()
    for way in workup.done_or_ordered
    if way.ordered and workup.order is not None
]


def topmost(response: HookResponse) -> int:
    """The highest urgency on any card; -1 without cards."""
    return max((Urgency[urgency.upper()] for urgency in workups(response).values()), default=-1)


def families(response: HookResponse) -> list[str]:
    return [card["source"]["topic"]["code"] for card in response.body["cards"]]


def newest_day(resources: list[Json]) -> str | None:
    """The day of the newest dated finding, so that another one there moves no window."""
    dated = [r for r in resources if r["resourceType"] in ("Observation", "Condition")]
    days = [r.get("effectiveDateTime") or r.get("onsetDateTime") for r in dated]
    return max((written[:10] for written in days if isinstance(written, str) and written[:10] <= day(0)), default=None)


@LAWS
@given(charts(exact=True), st.sampled_from(RED_FLAGS))
def test_a_red_flag_more_never_lowers_urgency_and_takes_reassurance_away(chart, flag):
    when = newest_day(chart.resources)
    assume(when is not None)
    name, *said = flag
    before = ask(chart.request())
    twin = copy.deepcopy(chart)
    twin.resources.append({**observation(name, when, *said), "id": "flag"})
    after = ask(twin.request())
    present = after.record.finding(name).present
    if not any(fact.evidence.reference == "Observation/flag" for fact in present):
        return  # stale or of tomorrow: no flag at all
    assert topmost(after) >= topmost(before) or families(before) == ["reassurance"]
    assert "reassurance" not in families(after)


@LAWS
@given(charts())
def test_reassurance_stands_alone(chart):
    shown = families(ask(chart.request()))
    assert "reassurance" not in shown or shown == ["reassurance"]
    assert len(shown) == len(set(shown))


CALMING = [rule.id for rule in LIBRARY.rules if any(item.workup == REASSURANCE for item in rule.recommend)]


@pytest.mark.parametrize("calming", CALMING)
def test_reassurance_stands_alone_whatever_another_rule_finds_beside_it(calming: str) -> None:
    """Few drawn charts reassure: here one that does is given what each other rule speaks of, chart by chart."""
    calm = next(case for case in speaking_cases(calming) if families(answered(case)) == [REASSURANCE])
    spoke = 0
    for other in (rule.id for rule in LIBRARY.rules if rule.id not in CALMING):
        facts = [fact | {"id": f"beside-{n}"} for n, fact in enumerate(facts_of(other, calm))]
        shown = families(answered(calm, facts))
        assert REASSURANCE not in shown or shown == [REASSURANCE], other
        spoke += bool(shown) and REASSURANCE not in shown
    assert spoke > len(LIBRARY.rules) / 2


def facts_of(rule: str, calm: Case) -> list[Json]:
    """What the first case in which this rule speaks adds to the chart, as of the same day."""
    case = next(speaking_cases(rule))
    case = msgspec.structs.replace(case, chart={**case.chart, "as_of": calm.chart["as_of"]})
    return resources_of(case, LIBRARY)[1:]


@LAWS
@given(charts())
def test_past_the_third_birthday_nothing_is_said(chart):
    older = copy.deepcopy(chart)
    older.birth = (TODAY.replace(year=TODAY.year - 3)).isoformat()
    assert ask(older.request()).body["cards"] == []


@LAWS
@given(charts())
def test_a_rule_passed_over_for_want_of_its_findings_would_not_have_applied(chart):
    record = ask(chart.request()).record
    found = LIBRARY.evaluate(record).all
    as_if_anything_may_be = copy.copy(record)
    as_if_anything_may_be.possible = None
    asked, in_full = (Asked(each, LIBRARY.criteria_count) for each in (record, as_if_anything_may_be))
    whole = [evaluate(rule, in_full, LIBRARY.workups) for rule in LIBRARY.rules]
    assert [(e.outcome, e.missing) for e in found] == [(e.outcome, e.missing) for e in whole]
    for rule in LIBRARY.rules:
        for criterion in rule.criteria.values():
            assert asked.truth(criterion) is asked.answer(criterion).truth is in_full.truth(criterion)


def test_a_denied_finding_passes_a_rule_over_and_one_that_is_in_doubt_does_not() -> None:
    denied, doubtful = observation("tremor", day(1), valueBoolean=False), observation("tremor", None)
    assert ask(request(denied)).record.possible == frozenset()
    assert ask(request(doubtful)).record.possible == {"tremor"}


@LAWS
@given(st.sampled_from(CHIEF), st.integers(1, 700), st.sampled_from(["refuted", "entered-in-error"]))
def test_refuting_the_only_finding_silences_every_rule(finding, age, word):
    name, *said = finding
    live = ask(request(condition(name, day(1), *said), birth=day(age)))
    dead = ask(request(condition(name, day(1), *said, verification=word), birth=day(age)))
    assert dead.body["cards"] == []
    assert {e.outcome for e in dead.evaluations} == {Outcome.NOT_APPLICABLE}
    assert not live.body["cards"] or workups(live)


@pytest.mark.parametrize(("workup", "concept"), ORDERABLE, ids=[workup for workup, _ in ORDERABLE])
def test_an_order_takes_its_workup_away_and_only_it(workup: str, concept: str) -> None:
    """On the first chart of every rule that asks for it. An order may cover a second workup that names it too."""
    covered = {
        other.id for other in LIBRARY.workups.values()
        if any(way.ordered and concept in way.concepts for way in other.done_or_ordered)
    }  # fmt: skip
    asking = [rule for rule in LIBRARY.rules if any(item.workup == workup for item in rule.recommend)]
    tried = 0
    for rule in asking:
        for case in speaking_cases(rule.id):
            before = workups(answered(case))
            if workup not in before:
                continue
            order = {**infants.order(concept, case.chart["as_of"]), "id": "ordered"}
            after = workups(answered(case, [order]))
            assert after.keys() == before.keys() - covered, (rule.id, case.name)
            assert after.items() <= before.items()
            tried += 1
            break
    assert tried, f"no case suggests {workup}"


# Unknown is never absent: every rule × what it needs × six ways of missing it


class Needed(Struct, frozen=True):
    """A fact of a case without which its rule is silent."""

    rule: str
    case: Case
    fact: int


def speaking_cases(rule_id: str) -> Iterator[Case]:
    return (case for case in cases_of(CASES[rule_id]) if case.expect is Outcome.RECOMMENDED)


def body_of(case: Case, resources: list[Json]) -> Json:
    """The case as a request; its unanswered queries are not sent."""
    patient, *facts = resources
    return request(
        *(fact if "subject" not in fact else {**fact, "subject": {"reference": "Patient/p1"}} for fact in facts),
        birth=patient.get("birthDate"), as_of=case.chart["as_of"], without=tuple(case.chart.get("unanswered", ())),
    )  # fmt: skip


def answered(case: Case, more: tuple[Json, ...] | list[Json] = ()) -> HookResponse:
    return ask(body_of(case, [*resources_of(case, LIBRARY), *more]))


def needed_facts() -> list[Needed]:
    """Of the first case in which each rule speaks: every fact that it cannot do without."""
    found = []
    for rule in LIBRARY.rules:
        case = next(speaking_cases(rule.id))
        resources = resources_of(case, LIBRARY)
        for place in range(1, len(resources)):
            rest = resources[:place] + resources[place + 1 :]
            if outcome(ask(body_of(case, rest)), rule.id) == "not-applicable":
                found.append(Needed(rule.id, case, place))
    return found


NEEDED = needed_facts()


def key_of(fact: Json) -> str:
    return SOURCES[fact["resourceType"]]


def without_key(body: Json, fact: Json) -> None:
    del body["prefetch"][key_of(fact)]


def no_bundle(body: Json, fact: Json) -> None:
    body["prefetch"][key_of(fact)] = "later"


def refused_key(body: Json, fact: Json) -> None:
    issue = {"severity": "error", "code": "timeout"}
    body["prefetch"][key_of(fact)] = {"resourceType": "OperationOutcome", "issue": [issue]}


def first_page_only(body: Json, fact: Json) -> None:
    bundle = body["prefetch"][key_of(fact)]
    bundle["entry"] = [entry for entry in bundle["entry"] if entry["resource"]["id"] != fact["id"]]
    bundle["link"] = [{"relation": "next", "url": "https://ehr.example/fhir?page=2"}]


def unreadable_time(body: Json, fact: Json) -> None:
    sent = sent_fact(body, fact)
    for name in ("effectiveDateTime", "onsetDateTime", "performedDateTime", "authoredOn"):
        sent.pop(name, None)
    sent["effectiveDateTime" if fact["resourceType"] == "Observation" else "onsetDateTime"] = "last week"


def misshapen(body: Json, fact: Json) -> None:
    sent = sent_fact(body, fact)
    concept = sent["medicationCodeableConcept"] if "medicationCodeableConcept" in sent else sent["code"]
    concept["coding"][0]["display"] = ["no text"]


def sent_fact(body: Json, fact: Json) -> Json:
    entries = body["prefetch"][key_of(fact)]["entry"]
    found: Json = next(entry["resource"] for entry in entries if entry["resource"]["id"] == fact["id"])
    return found


WAYS = [without_key, no_bundle, refused_key, first_page_only, unreadable_time, misshapen]


def test_every_rule_has_a_fact_that_it_cannot_do_without() -> None:
    assert {needed.rule for needed in NEEDED} == {rule.id for rule in LIBRARY.rules}


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_fact_that_may_be_there_is_not_a_fact_that_is_not(way) -> None:
    wrong = []
    for needed in NEEDED:
        resources = resources_of(needed.case, LIBRARY)
        fact = resources[needed.fact]
        if way is unreadable_time and fact["resourceType"] != "Observation":
            continue  # an active Condition counts whenever it began, an active order whenever it was written
        body = body_of(needed.case, resources)
        way(body, fact)
        response = ask(body)
        named = {item["rule"] for item in infants.report(response).get("notEvaluated", ())}
        spoken = {rule["id"] for card in response.body["cards"] for rule in card["extension"][infants.BASIS]["rules"]}
        if needed.rule not in named or needed.rule in spoken:
            wrong.append((needed.rule, fact["resourceType"], outcome(response, needed.rule)))
    assert wrong == []


# Two encodings of one truth

FINDING_CASES = [
    (rule.id, case) for rule in LIBRARY.rules for case in [next(speaking_cases(rule.id))]
]  # fmt: skip


def as_value(fact: Json) -> Json:
    return {**fact, "code": infants.coded(infants.LOINC, "8716-3"), "valueCodeableConcept": fact["code"]}


def as_yes(fact: Json) -> Json:
    return {**fact, "valueBoolean": True}


@pytest.mark.parametrize("rewrite", [as_value, as_yes], ids=["value", "yes"])
def test_two_encodings_of_one_truth_give_the_same_cards(rewrite) -> None:
    differing = []
    for rule_id, case in FINDING_CASES:
        resources = resources_of(case, LIBRARY)
        other = [
            rewrite(fact) if fact["resourceType"] == "Observation" and not any(k.startswith("value") for k in fact)
            and "interpretation" not in fact else fact
            for fact in resources
        ]  # fmt: skip
        first, second = ask(body_of(case, resources)), ask(body_of(case, other))
        if workups(first) != workups(second):
            differing.append((rule_id, workups(first), workups(second)))
    assert differing == []


def test_a_finding_says_the_same_in_every_code_of_its_list() -> None:
    """Every code of every finding on which a rule's first case rests."""
    differing = []
    for rule_id, case in FINDING_CASES:
        resources = resources_of(case, LIBRARY)
        expected = workups(ask(body_of(case, resources)))
        for place, fact in enumerate(resources):
            if fact["resourceType"] not in ("Observation", "Condition"):
                continue
            coding = fact["code"]["coding"][0]
            (concept,) = READING.vocabulary.codes[coding["system"], coding["code"]]
            for system, code in infants.codes_of(concept.name):
                other = [*resources]
                other[place] = {**fact, "code": infants.coded(system, code)}
                if workups(ask(body_of(case, other))) != expected:
                    differing.append((rule_id, concept.name, system, code))
    assert differing == []
