"""The home page: is all well today, what waits to be done, and where to begin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flask import Blueprint, render_template, url_for

from cds_service.errors import StoreUnavailable
from cds_service.population.disclosure import Disclosure
from cds_service.rules.library import RuleLibrary
from cds_service.store.analytics import releases, totals
from cds_service.store.card_answers import answers
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.periods import weeks_before
from cds_service.web.desk.roles import Role, may, requires

WEEKS = 4
REVIEW_DAYS = 365  # after its last signature a rule is due for review
MOST_OVERRIDDEN = 3


class Task(NamedTuple):
    """Something that waits for somebody, and where it is done."""

    what: str
    where: str


def home_blueprint(desk: Desk) -> Blueprint:
    """``/``."""
    pages = Blueprint("home", __name__)

    @pages.get("/")
    @requires(Role.PUBLIC)
    def home() -> str:
        library = desk.library
        report, problems, warnings = desk.watch.report(), desk.watch.problems(), desk.warnings()
        failed = sorted(rule for rule, outcome in report["probes"]["outcomes"].items() if outcome != "recommended")
        use = _use(desk) if may(Role.VIEWER) else None
        return render_template(
            "home/home.html", rules=library.rules, report=report, problems=problems, warnings=warnings, failed=failed,
            stops=desk.rules.stops if may(Role.VIEWER) else {}, use=use, weeks=WEEKS,
            tasks=_tasks(library, desk.now(), problems, use),
            new=use is not None and use.get("views") == 0,
        )  # fmt: skip

    return pages


def due_for_review(library: RuleLibrary, now: datetime) -> list[str]:
    """The signed rules whose last signature is a year old."""
    since = (now - timedelta(days=REVIEW_DAYS)).date().isoformat()
    return sorted(rule for rule, signed in library.signatures.items() if max(item.on for item in signed) <= since)


def _use(desk: Desk) -> dict[str, Any]:
    """The last weeks in short; empty where the database does not answer."""
    since, until = weeks_before(desk.now(), WEEKS)
    try:
        sums, said = totals(desk.database, since, until), answers(desk.database, since, until)
        running = releases(desk.database, since, until)
    except StoreUnavailable:
        return {}
    disclosure = Disclosure(exact=may(Role.ANALYST))
    overridden = sorted(said.rules.items(), key=lambda item: (-item[1].overridden, item[0]))
    return {
        "views": disclosure.shown(sums.views), "with_card": disclosure.shown(sums.views_with_card),
        "overridden": disclosure.shown(said.all.overridden), "accepted": disclosure.shown(said.all.accepted),
        "unanswered": disclosure.shown(said.all.unanswered),
        "most": [
            (rule, disclosure.shown(found.overridden), _chief(said.reasons, rule, disclosure))
            for rule, found in overridden[:MOST_OVERRIDDEN] if found.overridden
        ],
        "running": running, "told": disclosure.told,
    }  # fmt: skip


def _chief(reasons: Mapping[tuple[str, str], int], rule: str, disclosure: Disclosure) -> str:
    """The reason given most often for overriding this rule's cards; empty where none was ever given."""
    mine = {reason: number for (reason, name), number in reasons.items() if name == rule and reason}
    chief = min(mine, key=lambda reason: (-mine[reason], reason), default="")
    return disclosure.text(chief, mine[chief]) if chief else ""


def _tasks(library: RuleLibrary, now: datetime, problems: list[str], use: Mapping[str, Any] | None) -> list[Task]:
    tasks = [Task("Look into what is not ready", url_for("operations.readyz"))] if problems else []
    unsigned = len(library.rules) - len(library.signatures)
    if unsigned:
        tasks.append(Task(f"Have {unsigned} draft rules reviewed and signed", url_for("rules.rules", signed="draft")))
    due = due_for_review(library, now)
    if due:
        tasks.append(Task(f"Review {len(due)} rules that were signed a year ago", url_for("rules.rules", q=due[0])))
    if use and use.get("most"):
        rule = use["most"][0][0]
        tasks.append(Task(f"Ask why cards of {rule} are overridden", url_for("analytics.analytics", _anchor="reasons")))
    return tasks
