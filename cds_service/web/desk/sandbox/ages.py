"""How the advice for one chart changes with age: each step evaluated as the hook would, nothing logged or fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cds_service.errors import RequestError
from cds_service.hooks.request import HookRequest
from cds_service.hooks.respond import HookResponse, respond
from cds_service.hooks.wording import age_words
from cds_service.record.ages import Age
from cds_service.record.sources import PATIENT_KEY
from cds_service.record.times import add_months, iso_day, parse_as_of
from cds_service.rules.library import RuleLibrary

STEPS = (
    ("at birth", Age(0, "d")), ("2 weeks", Age(2, "wk")),
    *((f"{months} month{'s' if months > 1 else ''}", Age(months, "mo")) for months in (1, 3, 6, 9, 12, 18, 23)),
)  # fmt: skip
Said = Sequence[Mapping[str, Any]]


class AgeRow(NamedTuple):
    """One step. ``same_chart``: the cards when this chart is asked about on ``day``; ``born_later``: when the chart
    stays on its own day and the infant is of this age then; None: it cannot be asked so.
    """

    label: str
    day: str
    is_asked: bool
    same_chart: Said
    born_later: Said | None


def advice_by_age(
    request: HookRequest, answered: HookResponse, library: RuleLibrary, base_url: str
) -> tuple[AgeRow, ...]:
    """The rows, youngest first, with the step that was asked; none without an exact birth date."""
    birth = answered.record.birth
    if birth is None:
        return ()
    born, last = birth.days(corrected=False)
    today = answered.record.today
    if born != last:
        return ()

    def cards(asked: HookRequest, day: int) -> Said | None:
        try:
            as_of = parse_as_of(iso_day(day))
            found: Said = respond(asked, library, as_of or 0, base_url).body["cards"]
        except (RequestError, ValueError, OverflowError):  # no day of the calendar
            return None
        return found

    asked_now: Said = answered.body["cards"]
    rows = {today: AgeRow(f"as asked: {age_words(birth, today)}", iso_day(today), True, asked_now, asked_now)}
    for label, age in STEPS:
        day = age.reached_on(born)
        if day == today:
            rows[today] = rows[today]._replace(label=f"as asked: {label}")
        elif (same := cards(request, day)) is not None:
            moved = with_birth(request, born_so_long_ago(age, today))
            rows[day] = AgeRow(label, iso_day(day), False, same, moved and cards(moved, today))
    return tuple(rows[day] for day in sorted(rows))


def born_so_long_ago(age: Age, today: int) -> int:
    """The UTC day number of the latest birth at which somebody has this age today."""
    if age.unit == "mo":
        return add_months(today, -age.amount)
    return today - age.reached_on(0)


def with_birth(request: HookRequest, birth_day: int) -> HookRequest | None:
    """The same request of an infant born on another day; None where that is no day or no Patient was sent along."""
    sent = request.prefetch.get(PATIENT_KEY)
    try:
        born = iso_day(birth_day)
    except (ValueError, OverflowError):
        return None
    if not isinstance(sent, Mapping):
        return None
    if sent.get("resourceType") == "Bundle":
        entries = [
            {**entry, "resource": {**entry["resource"], "birthDate": born}}
            if isinstance(entry, Mapping) and isinstance(entry.get("resource"), Mapping)
            and entry["resource"].get("resourceType") == "Patient" else entry
            for entry in sent.get("entry", ())
        ]  # fmt: skip
        moved: Mapping[str, Any] = {**sent, "entry": entries}
    else:
        moved = {**sent, "birthDate": born}
    return request._replace(prefetch={**request.prefetch, PATIENT_KEY: moved})
