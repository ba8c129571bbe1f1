"""What one resource says, with where it says it. Facts are immutable and belong to one patient."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from msgspec import Struct

from cds_service.record.times import Span
from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth


class Evidence(NamedTuple):
    """Where a fact stands in the record: the resource, the element, and what is written there.

    ``judged`` is how a laboratory value was judged and by what, such as ``low (laboratory flag)``.
    """

    reference: str
    element: str
    concept: str
    when: str = ""
    value: str = ""
    unit: str = ""
    judged: str = ""


class Presence(Enum):
    """What a resource says about a finding (ENCODING §0, §1)."""

    PRESENT = "present"
    ABSENT = "absent"
    PAST = "past"
    UNKNOWN = "unknown"


class Interval(NamedTuple):
    """The numbers that a measured value can be; the ends count unless marked open."""

    lo: float
    hi: float
    lo_open: bool = False
    hi_open: bool = False

    def is_above(self, limit: float) -> Truth:
        """Whether the value lies above the limit, the limit itself excluded."""
        if self.lo > limit or (self.lo == limit and self.lo_open):
            return TRUE
        return FALSE if self.hi <= limit else UNKNOWN

    def is_below(self, limit: float) -> Truth:
        """Whether the value lies below the limit, the limit itself excluded."""
        if self.hi < limit or (self.hi == limit and self.hi_open):
            return TRUE
        return FALSE if self.lo >= limit else UNKNOWN


class Qualifiers(Struct, frozen=True, gc=False):
    """What is said of a movement (ENCODING §3): coded values, numbers, and what could not be read."""

    coded: dict[str, frozenset[str]] = {}
    numbers: dict[str, Interval] = {}
    unreadable: frozenset[str] = frozenset()


NO_QUALIFIERS = Qualifiers()


class Finding(Struct, frozen=True, kw_only=True, eq=False):
    """One resource's word on one finding.

    ``origin`` numbers the resource, which need not have an id. ``span`` is when an Observation saw it, or a
    Condition's onset (None: not known). ``ongoing`` is true of an active Condition or an open period: it counts as
    of ``as_of`` where the newest event is asked for.
    """

    concept: str
    origin: int
    presence: Presence
    confirmed: Truth
    span: Span | None
    start: Span | None
    ongoing: bool
    from_condition: bool
    qualifiers: Qualifiers
    evidence: Evidence
    problem: str = ""


class NormalRange(NamedTuple):
    """A sender's normal range, in the unit of the result's scale, and the ages it names: from, to before."""

    low: float | None
    high: float | None
    since: tuple[int, str] | None = None
    until: tuple[int, str] | None = None


class LabResult(Struct, frozen=True, kw_only=True):
    """One measurement of an analyte, not yet judged. ``value`` is in the unit of ``scale``.

    ``unknown_unit``: the unit written that is not in the analyte's table.
    """

    analyte: str
    span: Span | None
    flags: frozenset[str]
    scale: str | None
    value: Interval | None
    ranges: tuple[NormalRange, ...]
    evidence: Evidence
    problem: str = ""
    unknown_unit: str = ""


class Work(Struct, frozen=True, kw_only=True):
    """A test, procedure or referral that was done or is ordered. ``span`` None: nobody knows when."""

    concept: str
    ordered: bool
    span: Span | None
    evidence: Evidence


class Medication(Struct, frozen=True, kw_only=True):
    """A medicine that the patient is on; ``concept`` None when the record does not tell which."""

    concept: str | None
    evidence: Evidence
    problem: str = ""


class Unreadable(NamedTuple):
    """A resource, or part of one, that could not be used, and why. No value of it is kept."""

    resource: str
    reason: str
