"""Whether a rule may speak: what a reader, a reviewer and an administrator see of its stop and its signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cds_service.errors import ContentError, StoreUnavailable
from cds_service.rules.pack import packaged_cards
from cds_service.rules.rule import Outcome, Rule
from cds_service.rules.signoff import Signature, SignOffs, one_person, read_signoffs
from cds_service.store.analytics import totals
from cds_service.store.stops import LONGEST_REASON, SHORTEST_REASON, StopRow, history
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.periods import weeks_before
from cds_service.web.desk.roles import Role, may, user

EVIDENCE_WEEKS = 12
CHECKLIST = {
    "passage": "I have read the passage of the document, and the rule says what it says.",
    "cases": "I have read the cases: these infants are treated as I would have it.",
    "texts": "I have read the texts of the cards in every branch.",
    "limits": "I have judged the limits, the code lists and where they come from.",
    "hazards": "I accept the hazards in both directions, and the limitations.",
    "figures": "I have seen how often it would have spoken, as told above.",
}
NOT_KNOWN = "not known: the database did not answer"


class Governing(NamedTuple):
    """What stands under "Stop and signatures" of a rule.

    ``stops``: every stop, newest first; None when the database does not answer. ``why_not``: why this person cannot
    sign; empty when they may. ``needed``: what the rule still needs to speak in production.
    """

    rule: Rule
    stop: StopRow | None
    stops: Sequence[StopRow] | None
    content: str
    signatures: Sequence[Signature]
    needed: str
    roles: Mapping[str, str]
    why_not: str
    evidence: str
    checklist: Mapping[str, str]
    shortest: int = SHORTEST_REASON
    longest: int = LONGEST_REASON


def governing_of(desk: Desk, rule: Rule) -> Governing:
    """As much of it as the person may see: the public sees that a rule is stopped, and since when."""
    stop, content = desk.rules.stops.get(rule.id), desk.library.contents.get(rule.id, "")
    if not may(Role.VIEWER):
        return Governing(rule, stop, (), content, (), "", {}, "", "", CHECKLIST)
    signoffs = signoffs_of(desk)
    signatures = signoffs.valid(rule.id, content) if signoffs is not None else ()
    return Governing(
        rule, stop, _history(desk, rule.id), content, signatures,
        needed=_needed(signoffs, rule.id, content) if signoffs is not None else "",
        roles=signoffs.roles if signoffs is not None else {}, why_not=_why_not(desk, rule.id, content, signoffs),
        evidence=evidence_of(desk, rule.id) if may(Role.REVIEWER) else "", checklist=CHECKLIST,
    )  # fmt: skip


def signoffs_of(desk: Desk) -> SignOffs | None:
    """The sign-off file as it is now; None when it cannot be read."""
    root = desk.library.root if desk.library.root is not None else packaged_cards()
    try:
        return read_signoffs(root, desk.settings.signoff_file)
    except ContentError:
        return None


def evidence_of(desk: Desk, rule_id: str) -> str:
    """How often the rule spoke or would have spoken lately, in one line that stays with a signature."""
    since, until = weeks_before(desk.now(), EVIDENCE_WEEKS)
    try:
        sums = totals(desk.database, since, until, kinds=("views", "rule"))
    except StoreUnavailable:
        return NOT_KNOWN
    told = f"{EVIDENCE_WEEKS} weeks from {since}: {sums.views} views"
    if not sums.views:
        return told
    parts = [f"{told}; of them"]
    outcomes = {detail: number for (name, detail), number in sums.of("rule").items() if name == rule_id}
    for word, outcome in (
        ("recommended", Outcome.RECOMMENDED.value), ("recommended (silent)", f"{Outcome.RECOMMENDED.value} (silent)"),
    ):  # fmt: skip
        parts.append(_share(word, outcomes.get(outcome, 0), sums.views))
    waited = sum(number for name, number in outcomes.items() if name.startswith(Outcome.DATA_REQUIRED.value))
    return f"{parts[0]} {', '.join(parts[1:])}, {_share('data required', waited, sums.views)}"


def _share(word: str, number: int, views: int) -> str:
    return f"{word} {number} ({100 * number / views:.1f} in 100)"


def _history(desk: Desk, rule_id: str) -> Sequence[StopRow] | None:
    try:
        return history(desk.database, rule_id)
    except StoreUnavailable:
        return None


def _needed(signoffs: SignOffs, rule_id: str, content: str) -> str:
    """What lacks until the rule may speak in production; empty when nothing does."""
    if signoffs.lets_speak(rule_id, content):
        return ""
    valid = signoffs.valid(rule_id, content)
    if not valid:
        return "two people with different roles, one of them clinical"
    clinical = any(signoffs.roles[signature.role] == "clinical" for signature in valid)
    return "one more person with another role" + ("" if clinical else ", a clinical one")


def _why_not(desk: Desk, rule_id: str, content: str, signoffs: SignOffs | None) -> str:
    if desk.settings.signoff_file is None:
        return "No sign-off file of this hospital is set (CDS_SIGNOFF_FILE), so nothing can be signed here."
    if signoffs is None:
        return "The sign-off file cannot be read, so nothing can be signed now."
    if not content:
        return "This rule set was loaded without the contents that signatures are bound to."
    name = user().name
    if any(one_person(name, author) for author in signoffs.authors_of(rule_id)):
        return "You are an author of this rule: somebody else has to review it."
    if any(one_person(name, signature.by) for signature in signoffs.valid(rule_id, content)):
        return "You have signed this content already: a second person is needed."
    return ""
