"""Guidance for the family, as text for the clinician to pass on: never a card by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

from cds_service.errors import Mistake
from cds_service.rules.yaml_source import Source


class Advice(NamedTuple):
    """One sentence for the family, and the assertions it rests on."""

    says: str
    draws_on: tuple[str, ...]


class Guidance(NamedTuple):
    """What may be passed on with a document's cards. ``on_card`` is short enough to end a card."""

    slug: str
    title: str
    on_card: Advice
    watch_for: tuple[Advice, ...]
    advice: tuple[Advice, ...]

    def texts(self) -> Iterator[Advice]:
        """Every sentence."""
        yield self.on_card
        yield from self.watch_for
        yield from self.advice


def build_guidance(
    source: Source, documents: Set[str], assertions: Mapping[str, Any], mistakes: list[Mistake]
) -> dict[str, Guidance]:
    """Document slug → guidance; a document without any, and an assertion that is not there, are mistakes."""
    found = {}
    for slug, data in source.data.items():
        guidance = Guidance(
            slug, data["title"], Advice(data["on_card"], tuple(data["draws_on"])),
            *(tuple(Advice(item["says"], tuple(item["draws_on"])) for item in data[key])
              for key in ("watch_for", "advice")),
        )  # fmt: skip
        unknown = sorted({drawn for text in guidance.texts() for drawn in text.draws_on if drawn not in assertions})
        if unknown:
            mistakes.append(source.mistake((slug,), f"no document has the assertions {', '.join(unknown)}"))
        found[slug] = guidance
    for slug in sorted(documents ^ found.keys()):
        mistakes.append(Mistake(source.file, 1, f"{slug!r} is a document without guidance, or guidance without one"))
    return found
