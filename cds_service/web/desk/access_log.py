"""Who looked at what: one row for each answer of a page that shows single patients, refusals included.

A page that could not be noted is not shown. ``/access`` shows the rows to administrators, and is noted itself.
"""

from __future__ import annotations

import re

from flask import Blueprint, Response, g, request

from cds_service.errors import StoreUnavailable
from cds_service.rules.library import RuleLibrary
from cds_service.store.desk_log import Entry, entries, note
from cds_service.store.period import written
from cds_service.web.answers import outcome
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import NOBODY, Role, requires, user
from cds_service.web.desk.tables import Column, Table, table_answer

MOST = 2000  # rows that one page narrows down; older ones by their time
SUBJECTS = ("pseudonym", "rule", "request_id")  # of a search: what it was narrowed to
_PSEUDONYM = re.compile(r"[0-9a-f]{24}", re.ASCII)
_SUBJECT = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.+-]{0,24})?", re.ASCII)


def log_answer(desk: Desk, role: Role, answer: Response) -> Response:
    """Note that somebody got this answer from a page of this role; without the note they get none."""
    if role < Role.ANALYST or user() == NOBODY:
        return answer
    try:
        note(
            desk.database, at=written(desk.now()), who=user().name, role=user().role.name.lower(),
            method=request.method[:8], route=str(request.url_rule or "")[:200], subject=subject_of(desk.library),
            status=answer.status_code,
        )  # fmt: skip
    except StoreUnavailable as problem:
        return outcome(problem)
    return answer


def subject_of(library: RuleLibrary) -> str:
    """What the page is about: a rule, a request or a pseudonym; never free text, which might name a patient.

    What stands in the place of a rule, a pseudonym or a kind of card, and is none, may be a patient's id. A view that
    knows better says so in ``g.subject``.
    """
    said: str | None = g.get("subject")
    if said is not None:
        return said
    named = [(name, str(value)) for name, value in (request.view_args or {}).items()]
    named += [(name, request.args[name]) for name in SUBJECTS if request.args.get(name)]
    return " ".join(value for name, value in named if _is_subject(name, value, library))[:200]


def _is_subject(name: str, value: str, library: RuleLibrary) -> bool:
    match name:
        case "rule" | "rule_id":
            return library.rule(value) is not None
        case "pseudonym" | "name":
            return _PSEUDONYM.fullmatch(value) is not None
        case "family":
            return any(family.id == value for family in library.families)
    return _SUBJECT.fullmatch(value) is not None


def access_blueprint(desk: Desk) -> Blueprint:
    """``/access``."""
    pages = Blueprint("access", __name__)

    @pages.get("/access")
    @requires(Role.ADMIN)
    def log() -> Response | str:
        found = entries(desk.database, since=_time("since"), until=_time("until"), limit=MOST)
        return table_answer(access_table(found), "access/log.html", most=MOST, since=_time("since"),
                            until=_time("until"))  # fmt: skip

    return pages


def access_table(found: list[Entry]) -> Table:
    """The rows as a table, newest first."""
    columns = (
        Column("at", "When (UTC)"), Column("who", "Who", facet=True), Column("role", "Role", facet=True),
        Column("method", "Method", facet=True), Column("route", "Page", facet=True), Column("subject", "About"),
        Column("status", "Answer", facet=True, number=True),
    )  # fmt: skip
    return Table("access", "Who looked at what", columns, [entry._asdict() for entry in found],
                 empty="Nobody has looked at a page with patients in this time.")  # fmt: skip


def _time(name: str) -> str:
    value = request.args.get(name, "")
    return value if _DAY.fullmatch(value) else ""
