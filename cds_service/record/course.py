"""What several facts about one finding show together: that it lasts, clusters, is on both sides (ENCODING §3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from cds_service.record.facts import Finding, Interval, Presence
from cds_service.record.reading import Cluster, Reading
from cds_service.record.times import DAY, Span, is_older_than
from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth, decided


class Course(Struct, frozen=True, kw_only=True):
    """What is derived of one finding from all that the record says of it."""

    persistent: Truth = FALSE
    bilateral: Truth = FALSE
    clustered: Truth = FALSE
    events: Interval = Interval(0, 0)
    first_seen: Span | None = None


def dated(findings: Iterable[Finding]) -> list[Finding]:
    """The facts that say the finding is present, Conditions without an onset included."""
    return [finding for finding in findings if finding.presence is Presence.PRESENT]


def course_of(
    current: Sequence[Finding], persistent: Truth, since: Span | None, as_of: int, reading: Reading
) -> Course:
    """What the facts that are current show together; whether they cluster is told later, across findings."""
    return Course(
        persistent=persistent,
        bilateral=_bilateral(current, as_of),
        events=_events(current, reading.event_gap_days),
        first_seen=since,
    )


def first_seen(present: Iterable[Finding]) -> Span | None:
    """The earliest onset or dated occurrence."""
    spans = [finding.span for finding in present if finding.span is not None]
    return Span(min(s.lo for s in spans), min(s.hi for s in spans)) if spans else None


def persistence(present: Sequence[Finding], as_of: int, apart: int) -> Truth:
    """Present on two days at least so many days apart; an active Condition is present from onset to as-of."""
    days = [day for finding in present for day in _days(finding, as_of)]
    if len(days) < 2:
        return _unread_onset(present)
    earliest, latest = sorted(days)[:2], sorted(days, key=lambda day: day[1])[-2:]
    sure = max(day[0] for day in days) - min(day[1] for day in days)
    possible = latest[-1][1] - earliest[0][0]
    if latest[-1] is earliest[0]:  # one vaguely dated event is not two days
        possible = max(latest[-1][1] - earliest[1][0], latest[0][1] - earliest[0][0])
    return max(decided(sure >= apart, possible >= apart), _unread_onset(present))


def _days(finding: Finding, as_of: int) -> list[tuple[int, int]]:
    """The UTC days, first and last possible, on which one fact shows the finding present by ``as_of``."""
    today = as_of // DAY
    days = [] if finding.start is None else [finding.start.days]
    if finding.span is not None and finding.span != finding.start:
        days.append((finding.span.days[1], finding.span.days[1]))
    if finding.ongoing:
        days.append((today, today))
    return [(min(first, today), min(last, today)) for first, last in days]


def _unread_onset(present: Sequence[Finding]) -> Truth:
    return UNKNOWN if any("onset" in finding.qualifiers.unreadable for finding in present) else FALSE


def _bilateral(present: Sequence[Finding], as_of: int) -> Truth:
    """Left and right on the same day; an active Condition is of today as well."""
    sides: dict[str, list[tuple[int, int]]] = {"left": [], "right": []}
    for finding in present:
        for side, days in sides.items():
            if side in finding.qualifiers.coded.get("laterality", ()):
                days += _days(finding, as_of)
    answers = [
        decided(left == right and left[0] == left[1], left[0] <= right[1] and right[0] <= left[1])
        for left in sides["left"]
        for right in sides["right"]
    ]
    return max(answers, default=FALSE)


def _events(present: Sequence[Finding], gap_days: int) -> Interval:
    """How many occurrences lie so far apart that they are distinct events."""
    spans = sorted(finding.span for finding in present if finding.span is not None)
    sure: list[Span] = []
    vague = 0
    for span in spans:
        if span.days[0] != span.days[1]:
            vague += 1
        elif not sure or _apart(sure[-1], span, gap_days):
            sure.append(span)
    if not sure:
        return Interval(min(vague, 1), vague)
    return Interval(len(sure), len(sure) + vague)


def _apart(earlier: Span, later: Span, gap_days: int) -> bool:
    if earlier.lo == earlier.hi and later.lo == later.hi:
        return later.lo - earlier.lo >= gap_days * DAY
    return later.days[0] - earlier.days[0] >= gap_days


def clustered(findings: Iterable[Finding], rule: Cluster) -> Truth:
    """Whether enough of these current Observations start within so short a time."""
    starts = sorted(
        {
            finding.origin: finding.start
            for finding in findings
            if not finding.from_condition and finding.start is not None
        }.values()
    )
    needed = rule.events - 1
    possible = FALSE
    for index in range(len(starts) - needed):
        group = starts[index : index + rule.events]
        if max(s.hi for s in group) - group[0].lo <= rule.within:
            return TRUE
        if group[-1].lo - group[0].hi <= rule.within:
            possible = UNKNOWN
    return possible


def is_stale(finding: Finding, persistent: Truth, as_of: int, after: int) -> Truth:
    """Whether an Observation is too old to speak of the present; one that lasts never is (ENCODING §1)."""
    if finding.from_condition or finding.ongoing or finding.span is None:
        return FALSE
    if "persistent" in finding.qualifiers.coded.get("course", ()):
        return FALSE
    old = is_older_than(finding.span, as_of, after)
    return min(old, NEGATION[persistent])
