"""``/analytics``: are we tiring people, and which data would help most."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cds_service.population.disclosure import Disclosure
from cds_service.rules.library import SILENT
from cds_service.rules.rule import Outcome
from cds_service.store.analytics import by_client, daily, daily_by_name, releases, totals, week_of
from cds_service.store.card_answers import answers
from cds_service.web.desk.analytics.charts import HEIGHT, WIDTH, Point, chart
from cds_service.web.desk.analytics.figures import Figures, by_week, clients_of, tables_of
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.periods import weeks_before
from cds_service.web.desk.roles import Role, may, requires
from cds_service.web.desk.tables import several_answer

WEEKS = {"4": 4, "12": 12, "26": 26}
USUAL = "12"
COUNTED = ("views", "rule", "card", "workup", "missing", "state", "unread")
FIRED = (Outcome.RECOMMENDED.value, Outcome.RECOMMENDED.value + SILENT)


def analytics_blueprint(desk: Desk) -> Blueprint:
    """The figures of a time, of all clients or one, with the chart of all views or of one rule."""
    pages = Blueprint("analytics", __name__)

    @pages.get("/analytics")
    @requires(Role.VIEWER)
    def analytics() -> Response | str:
        weeks = request.args.get("weeks", USUAL)
        weeks = weeks if weeks in WEEKS else USUAL
        since, until = weeks_before(desk.now(), WEEKS[weeks])
        since = week_of(since)  # whole weeks, so that none is cut
        called: dict[str, int] = {}
        for count in by_client(desk.database, since, until, ["views"]):
            called[count.client_id] = called.get(count.client_id, 0) + count.number
        client = request.args.get("client")
        client = client if client in called else None
        library = desk.library
        rule = request.args.get("rule", "")
        rule = rule if library.rule(rule) is not None else ""
        figures = Figures(
            totals(desk.database, since, until, client, COUNTED), answers(desk.database, since, until, client),
            *by_week(
                daily(desk.database, since, until, "views", client),
                daily_by_name(desk.database, since, until, "rule", FIRED, client),
            ),
            releases(desk.database, since, until, client), Disclosure(exact=may(Role.ANALYST)),
        )  # fmt: skip
        points = [
            Point(week.monday, 100 * week.share, None if week.low is None else 100 * week.low,
                  None if week.high is None else 100 * week.high, week.outside)
            for week in figures.weeks(rule) if not isinstance(figures.disclosure.shown(week.fired), str)
        ]  # fmt: skip
        began = {week_of(item.first_day): item.rule_set for item in figures.releases}
        return several_answer(
            tables_of(figures, library, rule), "analytics/analytics.html",
            chart=chart(points, " %", began), width=WIDTH, height=HEIGHT, summary=figures.summary(), since=since,
            weeks=weeks, periods=WEEKS, clients=clients_of(called), client=client, rule=rule, rules=library.rules,
            told=figures.disclosure.told,
        )  # fmt: skip

    return pages
