"""A card as a client would draw it. Its Markdown becomes blocks of plain text: nothing of it is ever markup."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

_TITLE = re.compile(r"\*\*([^*\n]+):\*\*\s*")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
OUR_PAGES = ("/rules/", "/guidance/")


class Block(NamedTuple):
    """A paragraph or list of a card's detail, with its heading."""

    title: str
    text: str
    items: tuple[str, ...]


class CardView(NamedTuple):
    """What is drawn of a card. ``links``: (label, path on this service or nothing); ``json``: all of it."""

    indicator: str
    summary: str
    source: str
    blocks: tuple[Block, ...]
    suggestions: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    json: str


def card_view(card: Mapping[str, Any]) -> CardView:
    """A card of ours, ready to be drawn."""
    return CardView(
        card["indicator"], card["summary"], card["source"]["label"], _blocks(card.get("detail", "")),
        tuple(item["label"] for item in card.get("suggestions", ())),
        tuple((link["label"], _our_path(link["url"])) for link in card.get("links", ())),
        orjson.dumps(card, option=orjson.OPT_INDENT_2).decode(),
    )  # fmt: skip


def _blocks(detail: str) -> tuple[Block, ...]:
    found: list[Block] = []
    for part in detail.split("\n\n"):
        title = _TITLE.match(part)
        rest = part[title.end() :] if title else part
        lines = [line for line in rest.split("\n") if line.strip()]
        items: Sequence[str] = [plain(line[2:]) for line in lines if line.startswith("- ")]
        text = plain(" ".join(line for line in lines if not line.startswith("- ")))
        if not title and items and not text and found:
            found[-1] = found[-1]._replace(items=(*found[-1].items, *items))
        else:
            found.append(Block(plain(title[1]) if title else "", text, tuple(items)))
    return tuple(found)


def plain(markdown: str) -> str:
    """The text that our Markdown shows: escapes and entities undone, once."""
    return html.unescape(_ESCAPED.sub(r"\1", markdown)).strip()


def _our_path(url: str) -> str:
    """The path of a link that leads to a page of ours, so that it works wherever the page is read."""
    path = urlsplit(url).path
    at = max(path.find(start) for start in OUR_PAGES)
    return path[at:] if at >= 0 else ""
