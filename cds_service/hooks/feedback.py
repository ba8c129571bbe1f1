"""The wire format of CDS Hooks 2.0.1 feedback: what clients say of cards, in the forms that are seen.

Only a broken envelope is refused. An entry that cannot be understood is named and left out; the others count.
Beside the published form: ``overrideReasons`` and Epic's extension for the reason, cards that are no UUID,
accepted without suggestions, unknown members anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from cds_service.errors import InvalidRequest, TooLarge
from cds_service.hooks.strict_json import load

MOST_ENTRIES = 100
LONGEST_COMMENT = 2000  # characters; what is over is cut, and the cut is noted
LONGEST_ID = 256
LONGEST_SYSTEM = 512
LONGEST_EXTENSION = 1000
MOST_SUGGESTIONS = 50
OUTCOMES = ("accepted", "overridden")
EPIC_REASON = "com.epic.cdshooks.feedback.overrideReason."
_INSTANT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


class Entry(NamedTuple):
    """One statement about one card. ``outcome_at``: ISO 8601 in UTC, with microseconds. Texts are cut to size."""

    card_uuid: str
    outcome: str
    outcome_at: str
    suggestions: Sequence[str] = ()
    reason_code: str | None = None
    reason_system: str | None = None
    reason_display: str | None = None
    reason_extension: str | None = None
    comment: str | None = None
    comment_cut: bool = False


class Feedback(NamedTuple):
    """The entries that are understood, and the element path of each that is not."""

    entries: Sequence[Entry]
    rejected: Sequence[str]


class _Unclear(Exception):
    """An entry cannot be understood; the message is the member's name."""


def parse_feedback(body: bytes) -> Feedback:
    """The feedback in these bytes.

    Raises MalformedJson; InvalidRequest when there is no array ``feedback``; TooLarge for more than
    MOST_ENTRIES entries, of which none is then taken.
    """
    data = load(body)
    entries = data.get("feedback") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InvalidRequest("feedback.envelope", "The body is not an object with an array feedback.", "feedback")
    if len(entries) > MOST_ENTRIES:
        raise TooLarge("feedback.size", f"More than {MOST_ENTRIES} entries; send them in parts.", "feedback")
    understood: list[Entry] = []
    rejected: list[str] = []
    for number, entry in enumerate(entries):
        try:
            understood.append(_entry(entry))
        except _Unclear as problem:
            member = f".{problem}" if str(problem) else ""
            rejected.append(f"feedback[{number}]{member}")
    return Feedback(understood, rejected)


def _entry(data: Any) -> Entry:
    if not isinstance(data, dict):
        raise _Unclear("")
    outcome = data.get("outcome")
    if outcome not in OUTCOMES:
        raise _Unclear("outcome")
    entry = Entry(_card(data.get("card")), outcome, _instant(data.get("outcomeTimestamp")))
    if outcome == "accepted":
        return entry._replace(suggestions=_suggestions(data.get("acceptedSuggestions")))
    return _with_reason(entry, data)


def _card(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_ID:
        raise _Unclear("card")
    return _same_form(value)


def _same_form(identity: str) -> str:
    """A UUID in the one form in which we give it; any other id as it is."""
    try:
        return str(UUID(identity.strip()))
    except ValueError:
        return _plain(identity, LONGEST_ID)


def _instant(value: Any) -> str:
    """The moment in UTC; the specification says UTC, so a time without a zone is read as that."""
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _Unclear("outcomeTimestamp")
    *parts, fraction, zone = found.groups()
    offset = timedelta()
    if zone is not None and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    try:
        local = datetime(*map(int, parts), int((fraction or "0").ljust(6, "0")[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
        return (local - offset).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        raise _Unclear("outcomeTimestamp") from None


def _suggestions(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_SUGGESTIONS:
        raise _Unclear("acceptedSuggestions")
    found = []
    for item in value:
        identity = item.get("id") if isinstance(item, dict) else None
        if not isinstance(identity, str) or not identity.strip() or len(identity) > LONGEST_ID:
            raise _Unclear("acceptedSuggestions")
        found.append(_same_form(identity))
    return tuple(dict.fromkeys(found))


def _with_reason(entry: Entry, data: Mapping[str, Any]) -> Entry:
    """The entry with its reason, in whichever member it stands; a reason of an odd shape does not cost the entry."""
    reason = data.get("overrideReason", data.get("overrideReasons"))
    if isinstance(reason, list):
        reason = reason[0] if reason else None
    if not isinstance(reason, dict):
        return entry
    coding = reason.get("reason")
    if isinstance(coding, dict):
        entry = entry._replace(
            reason_code=_text(coding.get("code"), LONGEST_ID),
            reason_system=_text(coding.get("system"), LONGEST_SYSTEM),
            reason_display=_text(coding.get("display"), LONGEST_ID),
        )
    extension = reason.get("extension")
    if isinstance(extension, dict):
        own = {name.removeprefix(EPIC_REASON): value for name, value in extension.items()
               if name.startswith(EPIC_REASON) and isinstance(value, str | int | bool)}  # fmt: skip
        written = orjson.dumps(own, option=orjson.OPT_SORT_KEYS).decode()
        if own and len(written) <= LONGEST_EXTENSION:
            entry = entry._replace(reason_extension=written)
    comment = reason.get("userComment")
    if isinstance(comment, str) and comment.strip():
        entry = entry._replace(comment=_plain(comment, LONGEST_COMMENT), comment_cut=len(comment) > LONGEST_COMMENT)
    return entry


def _text(value: Any, longest: int) -> str | None:
    return _plain(value, longest) if isinstance(value, str) and value.strip() else None


def _plain(text: str, longest: int) -> str:
    """The text without NUL, which PostgreSQL cannot keep, cut to size."""
    return text[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}")
