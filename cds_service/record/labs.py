"""Laboratory values: read from Observations, then judged low, high or normal (ENCODING §4).

Order of judgement: the laboratory's own flag, then the sender's reference range in the same unit, then
limits.yaml by age band. What cannot be read or converted is not evaluated, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cds_service.record.ages import Birth, in_band
from cds_service.record.decode import CodeableConcept, Observation, ObservationComponent
from cds_service.record.facts import Evidence, Interval, LabResult
from cds_service.record.observations import When
from cds_service.record.ranges import meant_for, ranges_of
from cds_service.record.reading import Analyte, Reading
from cds_service.record.times import Span, is_before, within
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth
from cds_service.record.units import interval_of, scaled, unit_code

LOW_FLAGS, HIGH_FLAGS, NORMAL, ABNORMAL = frozenset({"L", "LL"}), frozenset({"H", "HH"}), "N", "A"
FLAGS = LOW_FLAGS | HIGH_FLAGS | {NORMAL, ABNORMAL}


class Verdict(NamedTuple):
    """What one result shows; ``abnormal`` without low or high is a bare flag A. ``limit``: the band's id."""

    low: bool
    high: bool
    abnormal: bool
    by: str
    limit: str = ""


class LabAnswer(NamedTuple):
    """What the record shows of an analyte near the newest finding, as three-valued answers."""

    low: Truth
    high: Truth
    abnormal: Truth
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    limit: str = ""


NOT_MEASURED = LabAnswer(FALSE, FALSE, FALSE)


def results_of(observation: Observation, reference: str, when: When, spoiled: str, reading: Reading) -> list[LabResult]:
    """The measurements that an Observation holds, in its own value and in its components."""
    found = _results(observation, "", reference, when, spoiled, reading)
    for index, component in enumerate(observation.component):
        found += _results(component, f"component[{index}].", reference, when, spoiled, reading)
    return found


def _results(
    part: Observation | ObservationComponent,
    path: str,
    reference: str,
    when: When,
    spoiled: str,
    reading: Reading,
) -> list[LabResult]:
    found = []
    for concept in reading.vocabulary.of(part.code):
        analyte = reading.analyte_of.get(concept.name)
        if analyte is None:
            continue
        interval = interval_of(part.valueQuantity)
        code = unit_code(part.valueQuantity, analyte.units) if part.valueQuantity is not None else None
        scale, value, problem = None, None, ""
        if when.span is None:
            problem = "it has no date that can be read"
        elif spoiled and analyte.spoiled_by_hemolysis:
            problem = spoiled
        elif interval is None or code is None:
            problem = "it has no number in a unit that can be converted"
        elif interval.hi < 0:
            problem = "its number cannot be a measurement"
        else:
            scale, factor = analyte.units[code]
            value = scaled(interval, factor)
        written = part.valueQuantity.value if part.valueQuantity is not None else None
        unit = (part.valueQuantity.code or part.valueQuantity.unit or "") if part.valueQuantity is not None else ""
        sign = (part.valueQuantity.comparator or "") if part.valueQuantity is not None else ""
        found.append(
            LabResult(
                analyte=concept.name,
                span=when.span,
                flags=frozenset() if problem and problem == spoiled else _flags(part.interpretation, reading),
                scale=scale,
                value=value,
                ranges=ranges_of(part, code, analyte) if value is not None else (),
                evidence=Evidence(
                    reference,
                    f"{path}valueQuantity",
                    concept.name,
                    when.text,
                    "" if written is None or code is None else f"{sign}{written:g}",
                    code or "",
                ),
                problem=problem,
                unknown_unit=unit if code is None else "",
            )
        )
    return found


def _flags(interpretation: Iterable[CodeableConcept], reading: Reading) -> frozenset[str]:
    return frozenset(
        coding.code
        for concept in interpretation
        for coding in concept.coding
        if coding.code in FLAGS and coding.system in reading.flag_systems
    )


def judge(result: LabResult, birth: Birth | None, analyte: Analyte) -> Verdict | None:
    """What a result shows; None when it cannot be evaluated."""
    if result.span is None:
        return None
    if result.flags:
        return _judge_flags(result.flags)
    return _judge_value(result, birth, analyte)


def _judge_flags(flags: frozenset[str]) -> Verdict | None:
    low, high = bool(flags & LOW_FLAGS), bool(flags & HIGH_FLAGS)
    if low + high + (NORMAL in flags) > 1 or (NORMAL in flags and ABNORMAL in flags):
        return None
    return Verdict(low, high, NORMAL not in flags, "flag")


def _compare(
    value: Interval,
    low: float | None,
    high: float | None,
    inclusive: tuple[bool, bool],
) -> Verdict | None:
    is_low = _beyond(value, low, below=True, inclusive=inclusive[0])
    is_high = _beyond(value, high, below=False, inclusive=inclusive[1])
    if UNKNOWN in (is_low, is_high):
        return None
    return Verdict(is_low is TRUE, is_high is TRUE, TRUE in (is_low, is_high), "limit")


def _beyond(value: Interval, limit: float | None, *, below: bool, inclusive: bool) -> Truth:
    if limit is None:
        return FALSE
    if below:
        return NEGATION[value.is_above(limit)] if inclusive else value.is_below(limit)
    return NEGATION[value.is_below(limit)] if inclusive else value.is_above(limit)


def _judge_value(result: LabResult, birth: Birth | None, analyte: Analyte) -> Verdict | None:
    """The verdict on which all ranges of the sender agree, and every age band that the result may fall into.

    A range that names no lower end says nothing of low values: on the side on which all are silent the bands decide.
    """
    if result.value is None or result.span is None or result.scale is None:
        return None
    own = meant_for(result.ranges, birth, result.span)
    sides: dict[str, list[tuple[str, bool, float | None]]] = {
        "low": [("", False, given.low) for given in own if given.low is not None],
        "high": [("", False, given.high) for given in own if given.high is not None],
    }
    stated = [direction for direction, ends in sides.items() if ends]
    for band in analyte.bands.get(result.analyte, ()):
        if band.direction in stated:
            continue
        if in_band(birth, result.span, band.start, band.end, band.preterm) is not FALSE:
            sides[band.direction].append((band.id, band.inclusive, band.limit.get(result.scale)))
    if not sides["low"] and not sides["high"]:
        return None
    lows = sides["low"] or [("", False, None)]
    highs = sides["high"] or [("", False, None)]
    verdicts = []
    for low_id, low_inclusive, low in lows:
        for high_id, high_inclusive, high in highs:
            verdict = _compare(result.value, low, high, inclusive=(low_inclusive, high_inclusive))
            if verdict is None:
                return None
            limit = high_id if verdict.high else low_id if verdict.low or stated else low_id or high_id
            verdicts.append(verdict._replace(by="range" if stated and not limit else "limit", limit=limit))
    if len({verdict[:3] for verdict in verdicts}) > 1:
        return None
    return verdicts[0]


def answer(results: Sequence[LabResult], analyte: Analyte, birth: Birth | None, anchor: Span, window: int) -> LabAnswer:
    """The newest usable result within the window of the newest finding (``anchor``) decides.

    FALSE with no evidence when nothing was measured; UNKNOWN when something was and cannot be evaluated.
    """
    for concept in analyte.concepts:
        unusable: list[LabResult] = []
        usable: list[tuple[LabResult, Verdict]] = []
        for result in results:
            if result.analyte != concept:
                continue
            inside = UNKNOWN if result.span is None else within(result.span, anchor, window)
            if inside is FALSE:
                continue
            verdict = judge(result, birth, analyte)
            if verdict is None or inside is UNKNOWN:
                unusable.append(result)
            else:
                usable.append((result, verdict))
        if usable:
            return _newest(usable, analyte)
        if unusable:
            return _unknown(unusable)
    return NOT_MEASURED


def _newest(usable: list[tuple[LabResult, Verdict]], analyte: Analyte) -> LabAnswer:
    newest = [
        (result, verdict)
        for result, verdict in usable
        if not any(
            other.span is not None and result.span is not None and is_before(result.span, other.span) is TRUE
            for other, _ in usable
        )
    ]
    evidence = tuple(
        dict.fromkeys(result.evidence._replace(judged=_judged(v, result, analyte)) for result, v in newest)
    )
    low, high, abnormal = ({verdict[side] for _, verdict in newest} for side in range(3))
    if len(low) + len(high) + len(abnormal) > 3:
        return _unknown([result for result, _ in newest], "results of the same time disagree")
    verdict = newest[0][1]
    return LabAnswer(
        TRUE if verdict.low else FALSE,
        TRUE if verdict.high else FALSE,
        TRUE if verdict.abnormal else FALSE,
        evidence,
        (),
        verdict.limit,
    )


def _judged(verdict: Verdict, result: LabResult, analyte: Analyte) -> str:
    """The verdict in words, with what decided it."""
    word = "low" if verdict.low else "high" if verdict.high else "abnormal" if verdict.abnormal else "not abnormal"
    if verdict.by == "flag":
        return f"{word} (laboratory flag)"
    if verdict.by == "range":
        return f"{word} (its own reference range)"
    for band in analyte.bands.get(result.analyte, ()):
        limit = band.limit.get(result.scale or "")
        if band.id == verdict.limit and limit is not None:
            return f"{word} (limit {limit:g} {result.scale})"
    return word


def _unknown(results: Sequence[LabResult], reason: str = "") -> LabAnswer:
    missing = tuple(
        f"{result.evidence.reference} {result.analyte.removeprefix('lab_')}: "
        f"{reason or result.problem or 'it cannot be placed or judged with what is known'}"
        for result in results
    )
    return LabAnswer(UNKNOWN, UNKNOWN, UNKNOWN, tuple(r.evidence for r in results), missing)
