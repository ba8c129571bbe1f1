"""The workbench of the sandbox: a request on the table, what was answered to it, and how age would change that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cds_service.errors import RequestError
from cds_service.hooks.request import HookRequest
from cds_service.hooks.respond import HookResponse, respond
from cds_service.record.times import iso, moment
from cds_service.settings import Profile
from cds_service.web.desk.card_view import CardView, card_view
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.sandbox.ages import AgeRow, advice_by_age
from cds_service.web.desk.sandbox.calls import CALL, Sent
from cds_service.web.desk.sandbox.infants import Infant
from cds_service.web.desk.sandbox.text import Given, Problem, refusal_problem
from cds_service.web.desk.sandbox.unused import Unused, unused_of
from cds_service.web.desk.trace import RuleGroup, traces_of

END_OF_TEXT = "END_OF_REQUEST"


class Bench(NamedTuple):
    """What the page shows. ``answered``: our own evaluation of the request, nothing of it logged. ``said``: feedback
    already sent, by the uuid of its card.
    """

    text: str
    as_of: str
    infant: Infant | None
    problem: Problem | None
    sent: Sent | None
    feedback: Sent | None
    cards: Sequence[CardView]
    said: Mapping[str, Sequence[str]]
    not_shown: str
    unused: Sequence[Unused]
    traces: Sequence[RuleGroup]
    ages: Sequence[AgeRow]
    curl: str
    curl_of_file: str
    fetches: bool
    answered: HookResponse | None


class Workbench:
    """Makes the benches of one application."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._url = f"{desk.settings.base_url}{CALL}"
        self.sends = desk.settings.profile is Profile.SANDBOX

    def bench(
        self, given: Given, infant: Infant | None, *, sent: Sent | None = None, feedback: Sent | None = None,
        said: Mapping[str, Sequence[str]] = {}, shown: bool = False,
    ) -> Bench:  # fmt: skip
        """The bench with this request. ``said``: feedback already sent, by card; ``shown``: cards also if not sent."""
        answered, problem = self._evaluated(given)
        problem = _problem_of(sent, given.text) or problem
        body = sent.body if sent is not None else answered.body if answered is not None else None
        shown = shown or sent is not None or feedback is not None or not self.sends
        cards = [card_view(card) for card in body.get("cards", ())] if body is not None and shown else []
        library, url = self._desk.library, self._desk.settings.base_url
        fits = answered is not None and given.request is not None
        return Bench(
            text=given.text,
            as_of=iso(self._moment(given.request))[:10] if given.request is not None else "",
            infant=infant, problem=problem, sent=sent, feedback=feedback, cards=cards,
            said=said, not_shown=_not_shown(answered),
            unused=unused_of(answered.body, given.text) if answered is not None else (),
            traces=traces_of(answered, library) if answered is not None and shown else (),
            ages=advice_by_age(given.request, answered, library, url) if fits and given.request and answered else (),
            curl=self._curl(given.text) if given.request is not None else "",
            curl_of_file=self._curl_of_file(infant) if infant is not None else "",
            fetches=given.request is not None and given.request.fhir_server is not None, answered=answered,
        )  # fmt: skip

    def _moment(self, request: HookRequest) -> int:
        """What the request is about: on this page, where nothing is logged, also in production the day it names."""
        return moment(self._desk.now()) if request.as_of is None else request.as_of

    def _evaluated(self, given: Given) -> tuple[HookResponse | None, Problem | None]:
        if given.request is None:
            return None, given.problem
        try:
            return respond(
                given.request, self._desk.library, self._moment(given.request), self._desk.settings.base_url
            ), None
        except RequestError as refusal:
            return None, refusal_problem(given.text, refusal.code, refusal.text, refusal.expression or "")

    def _command(self) -> str:
        token = "" if self.sends else '-H "Authorization: Bearer $TOKEN" '
        return f"curl -s {token}-H 'Content-Type: application/json' --data-binary"

    def _curl(self, text: str) -> str:
        """The command that sends this very text, from a here-document: JSON has no line that ends it."""
        lines = "\n".join(text.strip().splitlines())
        return f"{self._command()} @- {shlex.quote(self._url)} <<'{END_OF_TEXT}'\n{lines}\n{END_OF_TEXT}"

    def _curl_of_file(self, infant: Infant) -> str:
        """The command that sends a sample from the project's folder; none where the file is no request."""
        if infant.as_of:
            return ""
        return f"{self._command()} @fixtures/{infant.file} {shlex.quote(self._url)}"


def _problem_of(sent: Sent | None, text: str) -> Problem | None:
    """Why the service refused what was sent, from its OperationOutcome."""
    if sent is None or sent.code < 400:
        return None
    issues = (sent.body or {}).get("issue", ())
    if not issues:
        return Problem(f"The service answered {sent.status} and says no more.")
    (issue,) = issues
    details = issue["details"]
    element = (issue.get("expression") or [""])[0]
    return refusal_problem(text, details["coding"][0]["code"], details["text"], element)


def _not_shown(answered: HookResponse | None) -> str:
    if answered is None:
        return ""
    if answered.record.facts.deceased:
        return "The patient is recorded as deceased: nothing is suggested."
    (report,) = answered.body["extension"].values()
    return str(report.get("notShown", ""))
