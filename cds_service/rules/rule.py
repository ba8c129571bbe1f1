"""A rule, a workup and what becomes of them on one record: the words of the clinical layer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import NamedTuple

from msgspec import Struct

from cds_service.rules.criteria import Ask, Criterion
from cds_service.rules.sentences import Compiled, Sentence


class Urgency(IntEnum):
    """How soon; the names are CDS Hooks' card indicators."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def indicator(self) -> str:
        """The word on the wire."""
        return INDICATORS[self]


INDICATORS = tuple(urgency.name.lower() for urgency in Urgency)


class Outcome(Enum):
    """What a rule says of a record. Never a boolean: satisfied, excluded and unknown are not "no"."""

    RECOMMENDED = "recommended"
    SATISFIED = "satisfied"
    EXCLUDED = "excluded"
    NOT_APPLICABLE = "not-applicable"
    DATA_REQUIRED = "data-required"
    INTERNAL_ERROR = "internal-error"


class Assertion(NamedTuple):
    """What a document says, in our own words, with where it says it."""

    id: str
    document: str
    document_title: str
    section: str
    paragraph: str
    says: str
    action: str
    actionable: str


class DoneOrOrdered(NamedTuple):
    """One way in which a workup is already taken care of. ``within`` in microseconds before as-of.

    ``not_before``: the newest event, or the onset of every finding that asks; ``onset_of``: the onset of these
    findings where it is known.
    """

    concepts: tuple[str, ...]
    all_of_them: bool
    ordered: bool
    within: int | None
    not_before: str | None
    onset_of: tuple[str, ...]


class Order(NamedTuple):
    """The coding with which a workup is ordered."""

    system: str
    code: str
    display: str


class Workup(Struct, frozen=True, kw_only=True):
    """Something that can be suggested. ``yields_to``: the workup that takes its place where both are suggested."""

    id: str
    family: str
    label: str
    order: Order | None
    suggest: Mapping[Urgency, str]
    yields_to: str
    done_or_ordered: tuple[DoneOrOrdered, ...]


class Family(NamedTuple):
    """A family of workups: one card. ``override_reasons`` are (code, display)."""

    id: str
    title: str
    urgent_title: str
    override_system: str
    override_reasons: tuple[tuple[str, str], ...]


class Recommend(NamedTuple):
    """One workup that a rule asks for; ``when`` narrows it further. ``cites`` is the assertion that asks for it:
    the one named in the rule, else the first on which the rule draws."""

    workup: str
    urgency: Urgency
    cites: str
    when: Sentence | None
    is_meant: Compiled[Criterion] | None = None


class Tell(NamedTuple):
    """What to name under "Not known" when the chart does not hold it."""

    ask: Ask
    say: str


class Hazard(NamedTuple):
    """What harm it does when the rule is wrong in one direction, and the case that holds it back."""

    harm: str
    held_by: str


class Rule(Struct, frozen=True, kw_only=True):
    """One clinical claim with its sentence compiled. ``criteria`` are all the names its sentences use, ``named`` those
    that decide whether it holds, in their order; ``needs`` as for a criterion, of the sentence after
    ``recommend_when``."""

    id: str
    version: str
    status: str
    title: str
    document: str
    draws_on: tuple[str, ...]
    basis: str
    citation: str
    population: str
    criteria: Mapping[str, Criterion]
    named: tuple[str, ...]
    needs: frozenset[str] | None
    recommend_when: Sentence
    unless: Sentence | None
    applies: Compiled[Criterion]
    excluded: Compiled[Criterion] | None
    recommend: tuple[Recommend, ...]
    because: str
    tell: tuple[Tell, ...]
    limitations: tuple[str, ...]
    conflicts: tuple[str, ...]
    if_it_speaks_wrongly: Hazard
    if_it_stays_silent: Hazard
    file: str
    sha256: str
