"""Cards as an EHR draws them, and what of a chart the answer says it could not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from markdown_it import MarkdownIt
from markupsafe import Markup

from cds_service.hooks.cards import BASIS
from cds_service.hooks.respond import EVALUATION
from cds_service.web.desk.sandbox.text import line_of, steps_of

MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable(["image", "html_block", "html_inline"])


class DrawnCard(NamedTuple):
    """A card. ``detail``: its Markdown as HTML, in which no HTML of the card survives. ``said``: feedback given."""

    uuid: str
    summary: str
    indicator: str
    detail: Markup
    source: Mapping[str, Any]
    suggestions: Sequence[Mapping[str, Any]]
    reasons: Sequence[Mapping[str, str]]
    links: Sequence[Mapping[str, str]]
    rules: Sequence[str]
    said: Sequence[str]


class Unused(NamedTuple):
    """A resource, or an element of it, of which the answer says that it was not used, and why; 0: line not found."""

    resource: str
    why: str
    line: int


def drawn(cards: Sequence[Mapping[str, Any]], said: Mapping[str, Sequence[str]] = {}) -> list[DrawnCard]:
    """The cards of an answer of ours. ``said``: card uuid → the feedback already sent, in words."""
    return [
        DrawnCard(
            card["uuid"], card["summary"], card["indicator"], _html(card["detail"]), card["source"],
            [{**item, "order": _order(item)} for item in card.get("suggestions", ())], card["overrideReasons"],
            card["links"], [rule["id"] for rule in card["extension"][BASIS]["rules"]], said.get(card["uuid"], ()),
        )
        for card in cards
    ]  # fmt: skip


def _html(markdown: str) -> Markup:
    """What a client makes of Markdown. The renderer writes every tag itself: it lets through no HTML and no image."""
    return Markup(MARKDOWN.render(markdown))  # noqa: S704


def _order(suggestion: Mapping[str, Any]) -> str:
    resources = [action["resource"] for action in suggestion["actions"]]
    return "\n".join(orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode() for resource in resources)


def unused_of(body: Mapping[str, Any], text: str) -> list[Unused]:
    """What the answer could not use: unreadable, without a code it knows, or said in a way it does not know."""
    report = body.get("extension", {}).get(EVALUATION, {})
    found = [(item["resource"], item["reason"]) for key in ("unreadable", "ignored") for item in report.get(key, ())]
    found += [
        (f"{item['resource']} {item['element']}", f"words without a code, like “{item['looksLike']}”: fires no rule")
        for item in report.get("uncoded", ())
    ]
    return [Unused(name, why, line_of_resource(text, name.split(" ")[0])) for name, why in found]


def line_of_resource(text: str, reference: str) -> int:
    """The line on which a resource of a hook request begins, by ``Type/id``; 0 when it is not there."""
    kind, _, identity = reference.rpartition("/")
    try:
        prefetch = orjson.loads(text)["prefetch"]
        for key, value in prefetch.items():
            for place, entry in enumerate(value.get("entry", ())):
                resource = entry["resource"]
                if (resource.get("resourceType"), resource.get("id")) == (kind, identity):
                    return line_of(text, [*steps_of(f"prefetch.{key}.entry[{place}]"), "resource"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return 0
    return 0
