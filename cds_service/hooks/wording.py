"""How facts are said on a card: short, plain, with value, unit and date; nothing of the record unescaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from cds_service.record.ages import Birth
from cds_service.record.course import Course
from cds_service.record.facts import Evidence, Finding, Interval
from cds_service.record.reading import Reading
from cds_service.record.sources import SOURCES
from cds_service.record.times import iso_day, months_after, parse_span
from cds_service.record.truth import TRUE

LONGEST = 120
_PUNCTUATION = re.compile(r"([!\"#$%'()*+,\-./:;=?@\[\\\]^_`{|}~])")
SAID = {
    "course": {"persistent": "lasting", "worsening": "worsening", "improving": "improving"},
    "interferes-with": {"feeding": "disturbs feeding", "sleep": "disturbs sleep", "activity": "disturbs activity"},
    "provoked-by": {
        value: f"provoked by {value.replace('-', ' ')}"
        for value in ("activity", "cold", "excitement", "startle", "hiccup", "sleep-onset")
    },
    "laterality": {"bilateral": "on both sides"},
    "vigorous": {"true": "vigorous", "false": ""},
    "onset-manner": {"sudden": "sudden onset", "gradual": "gradual onset"},
    "pattern": {"flexion-stiffening": "with stiffening or flexion"},
    "awareness": {"preserved": "awareness kept", "altered": "awareness altered", "lost": "awareness lost"},
}
ORDER = (
    "severity", "frequency", "state", "pattern", "laterality", "course", "vigorous", "awareness",
    "interferes-with", "onset-manner", "body-area", "provoked-by",
)  # fmt: skip
DAYS_UNTIL, WEEKS_UNTIL = 42, 91  # how an age is said, not what is decided by it
UNITS_IN_WORDS = {"Cel": "°C", "[degF]": "°F"}
KEYS_IN_WORDS = {key: re.sub(r"([A-Z])", r" \1", key).lower() for key in SOURCES.values()}


def markdown_text(text: str) -> str:
    """Text of the record as Markdown that shows it and nothing else: one line, no markup, no HTML."""
    plain = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    plain = " ".join(plain.split())[:LONGEST]
    escaped = _PUNCTUATION.sub(r"\\\1", plain)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def finding_words(finding: Finding, course: Course, reading: Reading) -> list[str]:
    """The finding and what is said of it, such as ``Myoclonus``, ``clustered``, ``awake``; without its date."""
    said = finding.qualifiers.coded
    words = [reading.vocabulary.concepts[finding.concept].display]
    for qualifier in ORDER:
        values = set(said.get(qualifier, ()))
        if qualifier == "frequency" and course.clustered is TRUE:
            values.add("clustered")
        if qualifier == "course" and course.persistent is TRUE and finding.concept in reading.movement_findings:
            values.add("persistent")
        if qualifier == "laterality" and (course.bilateral is TRUE or {"left", "right"} <= values):
            values = {"bilateral"}
        if values:  # of nearly every qualifier nothing is said
            words += [SAID.get(qualifier, {}).get(value, value.replace("-", " ")) for value in sorted(values)]
    numbers = finding.qualifiers.numbers
    if "beats" in numbers:
        words.append(f"{number_words(numbers['beats'])} beats")
    if "duration" in numbers:
        words.append(f"{number_words(numbers['duration'])} s")
    if finding.confirmed is not TRUE:
        words.append("suspected")
    return [word for word in words if word]


def number_words(number: Interval) -> str:
    """A number, or the range in which it lies."""
    if number.lo == number.hi:
        return f"{number.lo:g}"
    if number.hi == float("inf"):
        return f"over {number.lo:g}"
    return f"under {number.hi:g}" if number.lo == float("-inf") else f"{number.lo:g} to {number.hi:g}"


def when_words(finding: Finding) -> str:
    """The day of a finding, or since when it is there."""
    if finding.span is None:
        return "current, beginning not recorded"
    first, last = finding.span.days
    if finding.from_condition:
        return f"since {day_words(finding.evidence.when, first)}"
    if finding.evidence.when.endswith("/") or first == last:
        return iso_day(first)
    return day_words(finding.evidence.when, first)


def evidence_day(evidence: Evidence) -> str:
    """The UTC day of a result or of work done, whatever the zone it was written in; "" when there is none."""
    written = evidence.when.split("/")[0] or evidence.when.strip("/")
    span = parse_span(written)
    return "" if span is None else day_words(written, span.days[0])


def day_words(written: str, day: int) -> str:
    """A date as exact as it was written, never more exact."""
    if re.fullmatch(r"\d{4}(-\d\d)?", written, re.ASCII):
        return written
    return written if written.startswith("at ") else iso_day(day)


def lab_words(evidence: Evidence, reading: Reading) -> list[str]:
    """A result with value, unit and verdict, such as ``Glucose 1.9 mmol/L``, ``low (limit 2.8 mmol/L)``."""
    concept = reading.vocabulary.concepts.get(evidence.concept)
    name = concept.display if concept is not None else evidence.concept.replace("_", " ")
    unit = UNITS_IN_WORDS.get(evidence.unit, evidence.unit)
    judged = evidence.judged.replace(evidence.unit, unit) if evidence.unit else evidence.judged
    return [f"{name} {evidence.value} {unit}".strip(), *([judged] if judged else [])]


def age_words(birth: Birth | None, today: int) -> str:
    """The age on the as-of day in days, weeks or months; corrected as well when born early."""
    if birth is None:
        return "age not known"
    text = _age(*birth.days(corrected=False), today)
    if birth.is_preterm() is TRUE:
        early = birth.days(corrected=True)
        corrected = "before term" if today < early[0] else _age(*early, today)
        return f"{text} (corrected: {corrected})"
    return text


def _age(first: int, last: int, today: int) -> str:
    if first != last:
        youngest, oldest = months_after(last, today), months_after(first, today)
        return f"{youngest} to {oldest} months" if youngest != oldest else _plural(oldest, "month")
    days = today - first
    if days <= DAYS_UNTIL:
        return _plural(days, "day")
    return f"{days // 7} weeks" if days <= WEEKS_UNTIL else _plural(months_after(first, today), "month")


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def missing_words(missing: Iterable[str]) -> list[str]:
    """What was missing, as Markdown: prefetch keys by what they hold, resources (whose ids are the record's
    text) by what is wrong with them."""
    keys = [KEYS_IN_WORDS[item] for item in missing if item in KEYS_IN_WORDS]
    others = [
        markdown_text(item) if "/" in item else item for item in dict.fromkeys(missing) if item not in KEYS_IN_WORDS
    ]
    said = [f"{', '.join(dict.fromkeys(keys))} (not supplied in full)"] if keys else []
    return said + others


def words(text: str) -> int:
    """How many words a reader meets."""
    return len(text.split())


def join_lists(parts: Mapping[str, list[str]]) -> str:
    """The parts of a card's detail in their fixed order, empty ones left out."""
    lines = []
    for title, items in parts.items():
        if len(items) == 1:
            lines.append(f"**{title}:** {items[0]}")
        elif items:
            lines.append(f"**{title}:**\n\n" + "\n".join(f"- {item}" for item in items))
    return "\n\n".join(lines)
