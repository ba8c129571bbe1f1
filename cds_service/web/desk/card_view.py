"""A card as a client draws it. Its Markdown becomes HTML here, of which the renderer writes every tag itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# Our cards hold no link, image or HTML in their Markdown: one that came from a record stays text.
NOT_MARKDOWN = ["link", "autolink", "image", "html_block", "html_inline"]
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


@cache
def _renderer() -> MarkdownIt:
    from markdown_it import MarkdownIt  # a megabyte, for the pages that show a card

    return MarkdownIt("commonmark").disable(NOT_MARKDOWN)


def _html(markdown: str) -> Markup:
    return Markup(_renderer().render(markdown))  # noqa: S704


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
