"""A card as a client draws it. Its Markdown becomes HTML here, of which the renderer writes every tag itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from markdown_it import MarkdownIt
from markupsafe import Markup

# Our cards hold no link, image or HTML in their Markdown: one that came from a record stays text.
MARKDOWN = MarkdownIt("commonmark").disable(["link", "autolink", "image", "html_block", "html_inline"])
OUR_PAGES = ("/rules/", "/guidance/")


class Suggestion(NamedTuple):
    """A suggestion of a card. ``order``: the resources it would create, as JSON."""

    uuid: str
    label: str
    order: str


class CardView(NamedTuple):
    """What is drawn of a card. ``links``: (label, path on this service or nothing); ``json``: all of it."""

    uuid: str
    indicator: str
    summary: str
    detail: Markup
    source: str
    topic: str
    suggestions: tuple[Suggestion, ...]
    reasons: Sequence[Mapping[str, str]]
    links: tuple[tuple[str, str], ...]
    json: str


def card_view(card: Mapping[str, Any]) -> CardView:
    """A card of ours, ready to be drawn."""
    source = card["source"]
    return CardView(
        card["uuid"], card["indicator"], card["summary"], _html(card["detail"]), source["label"],
        source["topic"]["display"], tuple(map(_suggestion, card.get("suggestions", ()))), card["overrideReasons"],
        tuple((link["label"], _our_path(link["url"])) for link in card["links"]), _json(card),
    )  # fmt: skip


def _html(markdown: str) -> Markup:
    return Markup(MARKDOWN.render(markdown))  # noqa: S704


def _suggestion(item: Mapping[str, Any]) -> Suggestion:
    order = "\n".join(_json(action["resource"]) for action in item["actions"])
    return Suggestion(item["uuid"], item["label"], order)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _our_path(url: str) -> str:
    """The path of a link that leads to a page of ours, so that it works wherever the page is read."""
    path = urlsplit(url).path
    at = max(path.find(start) for start in OUR_PAGES)
    return path[at:] if at >= 0 else ""
