"""A logged decision with what today's rules say of its input: what the page about it shows."""

from __future__ import annotations

from typing import NamedTuple

from cds_service.errors import RequestError
from cds_service.hooks.kept_request import read_kept
from cds_service.hooks.respond import HookResponse
from cds_service.hooks.wording import age_words
from cds_service.record.sources import PATIENT_KEY, SOURCES
from cds_service.replay import decide_again, differences
from cds_service.rules.library import RuleLibrary
from cds_service.store.decision import FETCHED
from cds_service.store.one_decision import GivenCard, StoredDecision
from cds_service.web.desk.card_view import CardView, card_view
from cds_service.web.desk.hidden import without_patient
from cds_service.web.desk.trace import RuleGroup, traces_of
from cds_service.web.desk.unread import unread_of

CURE = (
    "Inputs are kept for the time of retention when CDS_KEEP_INPUTS=true and CDS_INPUTS_KEY are set; "
    "a key that sealed them has to stay in CDS_INPUTS_KEY. Then a decision is shown with its criteria and cards."
)
STATES = {
    "answered": "given", "absent": "not given", "null": "given: nothing found", "empty": "given: nothing found",
    "no-results": "given: nothing found", "failed": "the query failed", "incomplete": "given in part",
    "malformed": "given, not to be read",
}  # fmt: skip
KINDS = {PATIENT_KEY: "Patient", **{key: kind for kind, key in SOURCES.items()}}


class ShownCard(NamedTuple):
    """A card of the log. ``drawn``: made again from the input; ``as_sent``: shown to be what was sent, byte by byte."""

    given: GivenCard
    drawn: CardView | None
    as_sent: bool


class DecisionView(NamedTuple):
    """A decision. Without ``response`` its input cannot be looked into: ``why_not`` says why, ``cure`` what helps."""

    stored: StoredDecision
    response: HookResponse | None
    patient: str
    age: str
    same_rules: bool
    differs: tuple[str, ...]
    groups: tuple[RuleGroup, ...]
    cards: tuple[ShownCard, ...]
    new_cards: tuple[CardView, ...]
    inputs: tuple[tuple[str, str, str], ...]
    unread: tuple[tuple[str, str], ...]
    why_not: str
    cure: str


def view_decision(stored: StoredDecision, library: RuleLibrary) -> DecisionView:
    """The decision, decided again by today's rules for its own moment where its input was kept."""
    response, patient, why_not = None, "", stored.why_not
    if stored.kept is not None:
        patient = read_kept(stored.kept)[0].patient_id
        try:
            response = decide_again(stored.kept, library)
        except RequestError as refusal:
            why_not = f"today's software refuses its input: {refusal.code}"
    inputs = tuple((key, KINDS.get(key, ""), _arrived(state)) for key, state in stored.inputs.items())
    same_rules = stored.rule_set_hash == library.hash
    if response is None:
        cards = tuple(ShownCard(given, None, False) for given in stored.cards)
        return DecisionView(stored, None, patient, "", same_rules, (), (), cards, (), inputs, (), why_not, CURE)
    logged = [{"family": c.family, "indicator": c.indicator, "digest": c.digest} for c in stored.cards]
    differs = tuple(differences(stored.outcomes, logged, response, library))
    cards, new = _cards(stored, response, differs, patient)
    return DecisionView(
        stored, response, patient, age_words(response.record.birth, response.record.today), same_rules, differs,
        traces_of(response, library, patient), cards, new, inputs, _unread(response, patient), "", "",
    )  # fmt: skip


def _arrived(logged: str) -> str:
    """How an input arrived, in words."""
    state = logged.removesuffix(FETCHED)
    words = STATES.get(state, state)
    return words if state == logged else f"{words}; not sent along, asked of the FHIR server"


def _cards(
    stored: StoredDecision, response: HookResponse, differs: tuple[str, ...], patient: str
) -> tuple[tuple[ShownCard, ...], tuple[CardView, ...]]:
    """The cards of the log as they are made again, and those that only today's rules give."""
    made = {
        card["source"]["topic"]["code"]: card_view(without_patient(card, patient)) for card in response.body["cards"]
    }
    changed = " ".join(line for line in differs if line.startswith("card "))
    shown = tuple(
        ShownCard(given, made.get(given.family), given.family in made and f"card {given.family}:" not in changed)
        for given in stored.cards
    )
    known = {given.family for given in stored.cards}
    return shown, tuple(view for family, view in made.items() if family not in known)


def _unread(response: HookResponse, patient: str) -> tuple[tuple[str, str], ...]:
    """What of the input was not understood: the resource, and why, in our words."""
    return tuple((without_patient(resource, patient), reason) for resource, reason in unread_of(response.body))
