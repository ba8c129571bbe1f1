"""The record reader finds in made-up infants what was planted, and takes no near miss for a fact."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.infant_chart import InfantChart
from cds_service.population.synthetic.synthetic_infants import infants
from cds_service.record.binding import Batch, bind
from cds_service.record.chart import read_chart
from cds_service.record.labs import judge
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import SOURCES
from cds_service.record.times import parse_as_of
from cds_service.record.truth import FALSE, TRUE
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
READING = load_library().reading
CONTENT = load_content(packaged_cards(), READING)


def record_of(chart: InfantChart) -> PatientRecord:
    batches = [Batch(resource["resourceType"], [resource], (), "made up") for resource in chart.resources]
    as_of = parse_as_of(DAY.isoformat())
    assert as_of is not None
    return read_chart(bind(batches, chart.identity.id), frozenset(SOURCES), as_of, READING)


@pytest.fixture(scope="module")
def records() -> list[tuple[InfantChart, PatientRecord]]:
    return [(chart, record_of(chart)) for chart in infants(CONTENT, 800, 7, DAY)]


def test_the_reader_finds_every_planted_finding_with_its_qualifiers(
    records: list[tuple[InfantChart, PatientRecord]],
) -> None:
    seen = 0
    for chart, record in records:
        wanted = [item for item in chart.planted if item["status"] == "present" and "finding" in item]
        read = {(f.evidence.reference, name): f for name in record.written for f in record.finding(name).present}
        assert set(read) == {(item["resource"], item["finding"]) for item in wanted}, chart.identity.id
        for item in wanted:
            fact = read[item["resource"], item["finding"]]
            told = dict(item["qualifiers"])
            numbers = {name: (told.pop(name),) * 2 for name in ("beats", "duration", "event-count") if name in told}
            coded = {name: {"true" if value is True else value} for name, value in told.items()}
            assert fact.qualifiers.coded == coded, item
            assert {name: number[:2] for name, number in fact.qualifiers.numbers.items()} == numbers, item
            assert not fact.qualifiers.unreadable, item
            suspected = item.get("verification") in ("unconfirmed", "provisional", "differential")
            assert fact.confirmed is (FALSE if suspected else TRUE), item
            seen += 1
    assert seen > 900


def test_the_reader_sees_what_several_resources_show_together(
    records: list[tuple[InfantChart, PatientRecord]],
) -> None:
    seen = Counter()
    for chart, record in records:
        for item in chart.planted:
            course = record.finding(item.get("finding") or "").course
            for name, value in item.get("shows", {}).items():
                shown = {
                    "frequency": course.clustered is TRUE, "laterality": course.bilateral is TRUE,
                    "course": course.persistent is TRUE, "event-count": course.events.lo == value,
                }[name]  # fmt: skip
                assert shown, (chart.identity.id, item)
                seen[name] += 1
    assert len(seen) == 4


def test_the_reader_takes_no_decoy_for_a_fact(records: list[tuple[InfantChart, PatientRecord]]) -> None:
    seen = Counter()
    for chart, record in records:
        facts = record.facts
        for item in chart.planted:
            reference, status = item["resource"], item["status"]
            seen[status] += 1
            if "finding" in item and status != "present":
                for name in record.written if item["finding"] is None else [item["finding"]]:
                    state = record.finding(name)
                    assert all(fact.evidence.reference != reference for fact in state.present), item
                    denied = [fact.evidence.reference for fact in state.denied]
                    assert (reference in denied) is (status == "absent"), item
            elif "work" in item and status != "present":
                assert all(work.evidence.reference != reference for work in facts.work.get(item["work"], ())), item
            elif "medication" in item and status != "present":
                assert all(medicine.concept != item["medication"] for medicine in facts.medications), item
            elif "lab" in item and status != "present":
                answer = record.lab(item["lab"])
                decided = TRUE in (answer.low, answer.high)
                assert not decided or all(e.reference != reference for e in answer.evidence), item
    assert min(seen[f"decoy:{kind}"] for kind in CONTENT.data["companions"]) > 0


def test_the_reader_judges_every_result_as_it_was_planted(records: list[tuple[InfantChart, PatientRecord]]) -> None:
    seen = Counter()
    for chart, record in records:
        for item in chart.planted:
            if item["status"] != "present" or "lab" not in item:
                continue
            analyte = READING.analytes[item["lab"]]
            found = [
                result for concept in analyte.concepts for result in record.facts.labs.get(concept, ())
                if result.evidence.reference == item["resource"]
            ]  # fmt: skip
            verdicts = [judge(result, record.birth, analyte) for result in found]
            assert len(verdicts) == 1 and verdicts[0] is not None, (chart.identity.id, item)
            assert (verdicts[0].low, verdicts[0].high) == (item["says"] == "low", item["says"] == "high"), item
            seen[item["lab"], item["says"]] += 1
    assert len(seen) >= 8


def test_the_reader_finds_work_medicines_and_gestation(records: list[tuple[InfantChart, PatientRecord]]) -> None:
    seen = Counter()
    for chart, record in records:
        for item in chart.planted:
            if item["status"] != "present":
                continue
            if "work" in item:
                told = [(w.evidence.reference, not w.ordered) for w in record.facts.work.get(item["work"], ())]
                assert (item["resource"], item["done"]) in told, item
            elif "medication" in item:
                assert item["medication"] in {medicine.concept for medicine in record.facts.medications}, item
            elif "gestation" in item and record.birth is not None:
                assert record.birth.gestation.days == item["gestation"], item
            seen.update(set(item) & {"work", "medication", "gestation"})
    assert min(seen.values()) > 20


def test_the_background_says_nothing_that_a_rule_reads(records: list[tuple[InfantChart, PatientRecord]]) -> None:
    """Every finding, result and work that the reader knows of was planted."""
    for chart, record in records[:500]:
        planted_here = {item["resource"] for item in chart.planted}
        facts = record.facts
        written = [f.evidence.reference for several in facts.findings.values() for f in several]
        written += [r.evidence.reference for several in facts.labs.values() for r in several]
        written += [w.evidence.reference for several in facts.work.values() for w in several]
        assert set(written) <= planted_here, chart.identity.id
