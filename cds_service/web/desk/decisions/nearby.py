"""What the record says near a question that it does not answer as a rule needs, and what would answer it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cds_service.hooks.wording import age_words, evidence_day, finding_words, lab_words, when_words
from cds_service.record.ages import in_band
from cds_service.record.facts import LabResult
from cds_service.record.patient_record import PatientRecord
from cds_service.record.ranges import meant_for
from cds_service.record.reading import Analyte, Band
from cds_service.record.times import Span
from cds_service.record.truth import FALSE, TRUE
from cds_service.rules.criteria import Criterion
from cds_service.rules.library import RuleLibrary
from cds_service.rules.readable import Readable
from cds_service.rules.smallest_changes import Change

NAMED = ("finding", "diagnosis", "every", "only_asleep", "implied_by", "first_seen")
SIDES = {"low": ("low",), "high": ("high",), "abnormal": ("low", "high")}


class Nearby:
    """Looks into one record with the words of one knowledge pack."""

    def __init__(self, record: PatientRecord, library: RuleLibrary) -> None:
        self._record = record
        self._library = library
        self._readable = Readable(library.reading, library.groups)

    def found(self, criterion: Criterion) -> tuple[str, ...]:
        """What the record holds of that which the criterion asks about, whether or not it is as asked."""
        said = criterion.definition
        if "born_early" in said:
            return (self._gestation(),)
        if "age" in said or "corrected_age" in said:
            return (age_words(self._record.birth, self._record.today),)
        if "lab" in said:
            return tuple(self._results(_listed(said["lab"])))
        if "medication" in said:
            return tuple(self._medicines(self._expanded(said, ("medication",))))
        if "done" in said:
            return tuple(self._work(self._expanded(said, ("done",))))
        return tuple(self._findings(self._expanded(said, NAMED)))

    def needed(self, change: Change) -> str:
        """What would make the answer the one that is wanted."""
        said, words = change.criterion.definition, self._readable.words(change.criterion)
        if "lab" in said and str(said["is"]) in SIDES:
            limits = [text for name in _listed(said["lab"]) for text in self._limits(name, str(said["is"]))]
            if limits:
                return f"would need {' or '.join(limits)}" if change.wanted is TRUE else f"not {' or '.join(limits)}"
        return f"would need: {words}" if change.wanted is TRUE else f"would need that this does not hold: {words}"

    def _gestation(self) -> str:
        birth = self._record.birth
        stated = birth.gestation.evidence if birth is not None else None
        if birth is None or birth.gestation.known is FALSE:
            return "no gestational age at birth"
        if birth.gestation.known is TRUE and stated is not None:
            return f"born at {stated.value} {stated.unit}"
        return birth.gestation.problem

    def _expanded(self, said: object, keys: Sequence[str]) -> list[str]:
        assert isinstance(said, dict)
        names = [name for key in keys if key in said for name in _listed(said[key])]
        return [concept for name in names for concept in self._library.groups.get(name, (name,))]

    def _findings(self, concepts: Sequence[str]) -> Iterator[str]:
        reading = self._library.reading
        for name in dict.fromkeys(concepts):
            state = self._record.finding(name)
            display = reading.vocabulary.concepts[name].display
            for fact in state.present:
                yield f"{', '.join(finding_words(fact, state.course, reading))} ({when_words(fact)})"
            for fact in state.unknown:
                yield f"{display}, which cannot be told ({fact.problem or 'too old or undated'})"
            for fact in state.denied:
                yield f"{display}: denied ({when_words(fact)})"

    def _results(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            shown = self._record.lab(name).evidence
            for item in shown:
                yield f"{', '.join(lab_words(item, self._library.reading))} ({evidence_day(item) or 'undated'})"
            if not shown:
                yield f"no {self._library.reading.analytes[name].display.lower()} near the newest finding"

    def _medicines(self, concepts: Sequence[str]) -> Iterator[str]:
        for taken in self._record.facts.medications:
            if taken.concept is None:
                yield f"a medicine of which {taken.problem}"
            elif taken.concept in concepts:
                yield self._library.reading.vocabulary.concepts[taken.concept].display

    def _work(self, concepts: Sequence[str]) -> Iterator[str]:
        for name in concepts:
            for work in self._record.facts.work.get(name, ()):
                display = self._library.reading.vocabulary.concepts[name].display
                yield f"{display}, {work.evidence.value} ({evidence_day(work.evidence) or 'undated'})"

    def _limits(self, name: str, side: str) -> Iterator[str]:
        """Beyond which value a result would count as low or high: by what decides of the one there is, else by age."""
        kind = self._library.reading.analytes[name]
        shown = {item._replace(judged="") for item in self._record.lab(name).evidence}
        results = [r for concept in kind.concepts for r in self._record.facts.labs.get(concept, ())
                   if r.evidence in shown]  # fmt: skip
        for direction in SIDES[side]:
            if results:
                yield from dict.fromkeys(text for r in results for text in self._limit(r, kind, direction))
            else:
                yield from self._limits_of_age(kind, direction)

    def _limit(self, result: LabResult, kind: Analyte, side: str) -> Iterator[str]:
        low = side == "low"
        given = meant_for(result.ranges, self._record.birth, result.span) if result.span is not None else []
        own = [end for end in (ends.low if low else ends.high for ends in given) if end is not None]
        if result.flags:
            yield f"the laboratory's flag {'L' if low else 'H'}: it decides over the number"
        elif own:
            for end in own:
                written = end / kind.units[result.evidence.unit][1]
                yield f"{'below' if low else 'above'} {written:g} {result.evidence.unit} (its own reference range)"
        elif result.span is not None and result.scale is not None:
            factor = kind.units[result.evidence.unit][1]
            for band in self._bands(kind, result.analyte, side, result.span):
                if result.scale in band.limit:
                    yield f"{_beyond(band)} {band.limit[result.scale] / factor:g} {result.evidence.unit}"

    def _limits_of_age(self, kind: Analyte, side: str) -> Iterator[str]:
        now = Span(self._record.as_of, self._record.as_of)
        for concept in kind.concepts:
            display = self._library.reading.vocabulary.concepts[concept].display
            for band in self._bands(kind, concept, side, now):
                limits = " or ".join(f"{value:g} {unit}" for unit, value in band.limit.items())
                yield f"{display} {_beyond(band)} {limits}"

    def _bands(self, kind: Analyte, concept: str, side: str, at: Span) -> list[Band]:
        return [
            band for band in kind.bands.get(concept, ())
            if band.direction == side
            and in_band(self._record.birth, at, band.start, band.end, band.preterm) is not FALSE
        ]  # fmt: skip


def _beyond(band: Band) -> str:
    if band.direction == "low":
        return "at most" if band.inclusive else "below"
    return "at least" if band.inclusive else "above"


def _listed(named: object) -> list[str]:
    return [str(name) for name in named] if isinstance(named, list) else [str(named)]
