"""Single decisions: found by filters, how each came about, why a rule was silent, and each as a case to test."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from cds_service.errors import InvalidRequest, StoreUnavailable
from cds_service.hooks.request import FHIR_ID_LENGTH
from cds_service.store.one_decision import StoredDecision, decision, decision_by_request
from cds_service.store.pseudonyms import pseudonym
from cds_service.store.search import Filters, count_found, search
from cds_service.store.stops import stopped
from cds_service.web.desk.decisions.case_file import UNKNOWN_RULE, case_file, first_choice
from cds_service.web.desk.decisions.search import CHOICES, UNNAMED, asked, decision_table
from cds_service.web.desk.decisions.view import DecisionView, view_decision
from cds_service.web.desk.decisions.why_not import silent_rules, why_not
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires
from cds_service.web.desk.tables import twin, view_of, wants_twin

PAGE, TWIN = 50, 5000  # decisions on a page, and at most in a CSV or JSON
COUNTED = 10_000
ALL = "decisions.decisions", "All decisions"


def decisions_blueprint(desk: Desk) -> Blueprint:
    """``/decisions`` and what lies below it."""
    pages = Blueprint("decisions", __name__)

    @pages.get("/decisions")
    @requires(Role.ANALYST)
    def decisions() -> Any:
        search_for = asked(request.args)
        if search_for.wrong and wants_twin():
            raise InvalidRequest("desk.search", " ".join(search_for.wrong))
        before = request.args.get("before", "")[:80]
        limit = TWIN if wants_twin() else PAGE
        found = [] if search_for.wrong else search(desk.database, search_for.filters, limit + 1, before)
        more = len(found) > limit
        urls = [url_for("decisions.trace", number=item.id) for item in found[:limit]]
        table = decision_table(found[:limit], urls)
        if wants_twin():
            return twin(table, table.rows)
        unfiltered = search_for.filters == Filters()
        count = 0 if search_for.wrong else count_found(desk.database, search_for.filters, COUNTED)
        page = render_template(
            "decisions/decisions.html", table=view_of(table), filters=search_for.filters, wrong=search_for.wrong,
            choices=CHOICES, rules=desk.library.rules, count=count, most=COUNTED, unfiltered=unfiltered,
            older=found[limit - 1].cursor if more else "", before=before, unnamed=UNNAMED,
        )  # fmt: skip
        return (page, 400) if search_for.wrong else page

    @pages.post("/decisions")
    @requires(Role.ANALYST)
    def find_patient() -> Any:
        """The patient's id comes in a form and goes no further: the answer leads to the pseudonym."""
        g.subject = ""
        patient, client = request.form.get("patient", "").strip(), request.form.get("client", "").strip()
        key = desk.keys.pseudonym
        if key is None:
            text = "This service gives patients no pseudonyms: set CDS_PSEUDONYM_KEY. Decisions before that have none."
            return render_template("_problem.html", back=ALL, title="No pseudonyms", text=text), 409
        if not patient or len(patient) > 4 * FHIR_ID_LENGTH:
            text = "Give the patient's id as the client sends it in context.patientId."
            return render_template("_problem.html", back=ALL, title="No patient id", text=text), 400
        g.subject = pseudonym(key, "" if client == UNNAMED else client, patient)
        return redirect(url_for("decisions.decisions", pseudonym=g.subject), 303)

    @pages.get("/decisions/request/<request_id>")
    @requires(Role.ANALYST)
    def by_request(request_id: str) -> Any:
        found = decision_by_request(desk.database, request_id, None)
        if found is None:
            abort(404)
        return redirect(url_for("decisions.trace", number=found.id))

    @pages.get("/decisions/<int:number>")
    @requires(Role.ANALYST)
    def trace(number: int) -> str:
        view = opened(number)
        given = {card.family for card in view.stored.cards}
        absent = [family for family in desk.library.families if family.id not in given]
        passages = {rule.id: [desk.library.assertions[drawn] for drawn in rule.draws_on] for rule in desk.library.rules}
        return render_template("decisions/decision.html", view=view, absent=absent, passages=passages)

    @pages.get("/decisions/<int:number>/why-not/<rule_id>")
    @requires(Role.ANALYST)
    def why_not_page(number: int, rule_id: str) -> Any:
        view = opened(number)
        rule = desk.library.rule(rule_id)
        if rule is None:
            abort(404)
        why = None
        if view.response is not None:
            why = why_not(rule_id, view.response, desk.library, _stops(desk), view.patient)
        return render_template("decisions/why_not.html", view=view, rule=rule, why=why)

    @pages.get("/decisions/<int:number>/no-card/<family>")
    @requires(Role.ANALYST)
    def no_card(number: int, family: str) -> Any:
        view = opened(number)
        asked_for = next((known for known in desk.library.families if known.id == family), None)
        if asked_for is None:
            abort(404)
        silent = []
        if view.response is not None:
            silent = silent_rules(family, view.response, desk.library, _stops(desk), view.patient)
        return render_template("decisions/no_card.html", view=view, family=asked_for, silent=silent)

    @pages.get("/decisions/<int:number>/case")
    @requires(Role.ANALYST)
    def case_page(number: int) -> Any:
        view = opened(number)
        case = None
        if view.response is not None:
            case = case_file(
                request.args.get("rule", "")[:80] or first_choice(view.response), view.response, desk.library
            )
            if request.args.get("format") == "yaml" and case.text:
                answer = Response(case.text, mimetype="application/yaml")
                answer.headers["Content-Disposition"] = f'attachment; filename="{case.rule}.case.yaml"'
                return answer
        page = render_template("decisions/case.html", view=view, case=case)
        return (page, 404) if case is not None and case.problem == UNKNOWN_RULE else page

    def opened(number: int) -> DecisionView:
        found: StoredDecision | None = None
        if number < 2**63:
            found = decision(desk.database, number, desk.keys.inputs)
        if found is None:
            abort(404)
        g.subject = f"decision {number} {found.pseudonym}".strip()
        return view_decision(found, desk.library)

    @pages.errorhandler(NotFound)
    def not_found(_: NotFound) -> Any:
        text = "No decision or rule is here. It may have been removed when its time was over."
        return render_template("_problem.html", back=ALL, title="Not found", text=text), 404

    @pages.errorhandler(StoreUnavailable)
    def unavailable(_: StoreUnavailable) -> Response:
        text = "The decision log cannot be read now. Try again in a moment; if it lasts, see /readyz."
        page = render_template("_problem.html", back=ALL, title="The log cannot be read", text=text)
        return Response(page, 503, {"Retry-After": "5"})

    return pages


def _stops(desk: Desk) -> dict[str, str]:
    """Why each rule that is stopped was stopped."""
    return {rule: row.reason for rule, row in stopped(desk.database).items()}
