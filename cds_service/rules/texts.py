"""What people will read, held against the house rules of wording: banned words, bare numbers, copied passages."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from cds_service.errors import Mistake
from cds_service.rules.pack import Pack
from cds_service.rules.yaml_source import Path as Place
from cds_service.rules.yaml_source import Source

RUNS = "documents.runs.json"
BANNED = re.compile(r"\b(must|failure to|alerts?)\b", re.IGNORECASE)
# A quantity says its unit; what a number counts or names otherwise (a year, a code) stands in no card text.
QUANTITY = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?: to \d+)?(?![\w.])\s*(\S*)")
UNITS = re.compile(
    r"(seconds?|minutes?|hours?|days?|weeks?|months?|years?|beats?|mg/dL|mmol/L|ug/dL|umol/L|Cel|°C|%)[.,;:)]?"
)
LONGEST_SENTENCE = 32  # words: what is read while a mother waits


class Text(NamedTuple):
    """A text of a content file: ``on_card`` when a clinician meets it on a card."""

    source: Source
    place: Place
    says: str
    on_card: bool


def texts_of(pack: Pack) -> Iterator[Text]:
    """Every text that people read."""
    for _, source in pack.rules.values():
        rule = source.data
        for key in ("title", "because"):
            yield Text(source, (key,), rule[key], True)
        for spot, item in enumerate(rule.get("tell_if_not_recorded", [])):
            yield Text(source, ("tell_if_not_recorded", spot, "say"), item["say"], True)
        for spot, limitation in enumerate(rule["limitations"]):
            yield Text(source, ("limitations", spot), limitation, False)
        for key, hazard in rule.get("hazards", {}).items():
            yield Text(source, ("hazards", key, "harm"), hazard["harm"], False)
    for source in pack.workups.values():
        yield Text(source, ("label",), source.data["label"], True)
        for urgency, says in source.data["suggest"].items():
            yield Text(source, ("suggest", urgency), says, True)
    families = pack.single["families"]
    for spot, family in enumerate(families.data["families"]):
        for key in ("title", "urgent_title"):
            if key in family:
                yield Text(families, ("families", spot, key), family[key], True)
    yield from _guidance(pack.single["guidance"])
    cited = {
        assertion
        for _, source in pack.rules.values()
        for assertion in (source.data["draws_on"][0], *(item.get("cites") for item in source.data["recommend"]))
    }
    for source in pack.documents.values():
        for spot, assertion in enumerate(source.data["assertions"]):
            yield Text(source, ("assertions", spot, "says"), assertion["says"], assertion["id"] in cited)
    for name in ("conflicts", "not_acted_on"):
        for key, item in pack.single[name].data.items():
            says = item if isinstance(item, str) else item["resolution"]
            yield Text(pack.single[name], (key,), says, False)


def _guidance(source: Source) -> Iterator[Text]:
    for slug, data in source.data.items():
        yield Text(source, (slug, "on_card"), data["on_card"], True)
        for key in ("watch_for", "advice"):
            for spot, item in enumerate(data[key]):
                yield Text(source, (slug, key, spot), item["says"], True)


def text_mistakes(pack: Pack, runs: Mapping[str, Any], medicines: frozenset[str]) -> list[Mistake]:
    """Every text that breaks a house rule, with what to do. ``medicines``: names that no card may hold."""
    known = {run: slug for slug, joined in runs["runs"].items() for run in joined.split()}
    mistakes = []
    for text in texts_of(pack):
        found = list(_copied(text.says, known, runs["words"]))
        if text.on_card:
            found += _wording(text.says, medicines)
        mistakes += [text.source.mistake(text.place, message) for message in found]
    return mistakes


def _wording(says: str, medicines: frozenset[str]) -> Iterator[str]:
    for word in BANNED.findall(says):
        yield f"{word!r} orders or scolds: write consider or review"
    for match in QUANTITY.finditer(says):
        if not UNITS.fullmatch(match[1]):
            yield f"the number {match[0].strip()!r} has no unit"
    for sentence in re.split(r"(?<=[.?!])\s", says):
        if len(sentence.split()) > LONGEST_SENTENCE:
            yield f"a sentence of {len(sentence.split())} words: at most {LONGEST_SENTENCE}"
    for name in sorted(medicines & set(re.findall(r"[a-z]+", says.lower()))):
        yield f"{name!r} is a medicine: none is named on a card"


def _copied(says: str, known: Mapping[str, str], length: int) -> Iterator[str]:
    words = plain_words(says)
    for start in range(len(words) - length + 1):
        run = " ".join(words[start : start + length])
        document = known.get(run_of(run))
        if document is not None:
            yield f"{run!r} stands so in the document {document}: say it in our own words"
            return


def plain_words(text: str) -> list[str]:
    """The words as they are compared: lower case, apostrophes left out."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("’", "").replace("'", ""))


def run_of(words: str) -> str:
    """The mark under which a run of words is kept."""
    return hashlib.sha256(words.encode()).hexdigest()[:10]


def read_runs(root: Traversable | Path) -> dict[str, Any]:
    """The runs of words of the documents (cards/documents.runs.json)."""
    found: dict[str, Any] = json.loads((root / RUNS).read_text(encoding="utf-8"))
    return found


def medicines_of(pack: Pack) -> frozenset[str]:
    """The medicines of the value sets, by name."""
    return frozenset(
        word
        for name in pack.valuesets
        if name.startswith("med-")
        for word in name.removeprefix("med-").split("-")
        if word not in ("systemic", "antiseizure")
    )


def reading_grade(texts: list[str]) -> float:
    """The Flesch-Kincaid grade of the texts together, syllables counted by groups of vowels (Kincaid 1975)."""
    sentences = sum(max(1, len(re.findall(r"[.?!](?:\s|$)", text))) for text in texts)
    words = [word for text in texts for word in re.findall(r"[A-Za-z]+", text)]
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e$", "", word.lower())))) for word in words)
    return round(0.39 * len(words) / sentences + 11.8 * syllables / len(words) - 15.59, 1)
