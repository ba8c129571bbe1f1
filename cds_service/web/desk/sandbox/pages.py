"""The sandbox: pick or build an infant, send the request for real, see the cards, answer them, change it, send again.

In production, where it has to be switched on, nothing is sent or logged: this page signs no tokens. It only evaluates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, render_template, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import RequestEntityTooLarge

from cds_service.record.times import iso, moment
from cds_service.store.stops import stopped
from cds_service.web.desk.decisions.why_not import why_not
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires
from cds_service.web.desk.sandbox.bench import Bench, Workbench
from cds_service.web.desk.sandbox.builder import MOST_ROWS, build, rows_of
from cds_service.web.desk.sandbox.calls import CALL, FEEDBACK, Sent, feedback_body, send
from cds_service.web.desk.sandbox.choices import KIND_WORDS, choices_of
from cds_service.web.desk.sandbox.fhir import fhir_problems
from cds_service.web.desk.sandbox.infants import infants
from cds_service.web.desk.sandbox.text import Given, Problem, changed, read_given, written
from cds_service.web.hooks_api import LARGEST_BODY

LONGEST_SAID = 200
MOST_SAID = 50


def sandbox_blueprint(desk: Desk) -> Blueprint:
    """``/sandbox`` and what is below it; without a route where the settings do not want it."""
    pages = Blueprint("sandbox", __name__)
    if not desk.settings.has_sandbox_page:
        return pages
    workbench = Workbench(desk)
    choices = choices_of(desk.library)

    @pages.record_once
    def allow_large_forms(state: BlueprintSetupState) -> None:
        state.app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_BODY

    def page(bench: Bench, status: int = 200, **more: Any) -> tuple[str, int]:
        return (
            render_template(
                "sandbox/bench.html", bench=bench, sends=workbench.sends, path=CALL, rules=desk.library.rules, **more
            ),
            status,
        )

    def front(given: Given | None = None, status: int = 200) -> tuple[str, int]:
        told = render_template(
            "sandbox/sandbox.html", infants=infants().values(), given=given, sends=workbench.sends, path=CALL,
            largest=LARGEST_BODY // 1024 // 1024,
        )  # fmt: skip
        return told, status

    def form_page(form: Mapping[str, str], wrong: Mapping[str, str]) -> str:
        return render_template(
            "sandbox/build.html", choices=choices, kinds=KIND_WORDS, form=form, rows=rows_of(form), most=MOST_ROWS,
            wrong=wrong, unsent=any(name.startswith("unsent-") for name in form), sends=workbench.sends,
        )  # fmt: skip

    @pages.get("/sandbox")
    @requires(Role.VIEWER)
    def sandbox() -> tuple[str, int]:
        return front()

    @pages.get("/sandbox/infants/<path:name>")
    @requires(Role.VIEWER)
    def infant(name: str) -> tuple[str, int]:
        found = infants().get(name)
        if found is None:
            abort(404)
        return page(workbench.bench(read_given(found.content(), found.as_of), found))

    @pages.get("/sandbox/build")
    @requires(Role.VIEWER)
    def build_form() -> str:
        return form_page({}, {})

    @pages.post("/sandbox/build")
    @requires(Role.VIEWER)
    def build_infant() -> str | tuple[str, int]:
        form = request.form
        more = "more" in form
        built = build(form, desk.library, choices, desk.now().date())
        if built.body is None or more:
            return form_page(form, {} if more else built.wrong), 200 if more else 422
        given = read_given(written(built.body).encode())
        return page(workbench.bench(given, None, sent=_sent(workbench, given, _action())))

    @pages.post("/sandbox/send")
    @requires(Role.VIEWER)
    def send_request() -> tuple[str, int]:
        given, found = _given(), infants().get(request.form.get("sample", ""))
        if given.request is None and not given.sendable:
            return front(given, 422)
        action = _action()
        bench = workbench.bench(given, found, sent=_sent(workbench, given, action), shown=action == "why")
        if action == "check" and given.request is not None:
            return page(bench, checked=fhir_problems(given.request.prefetch, given.text))
        if action == "why" and bench.answered is not None:
            rule = request.form.get("rule", "")
            stops = {name: row.reason for name, row in stopped(desk.database).items()}
            return page(bench, rule=rule, why=why_not(rule, bench.answered, desk.library, stops))
        return page(bench)

    @pages.post("/sandbox/feedback")
    @requires(Role.VIEWER)
    def give_feedback() -> tuple[str, int]:
        given, found = _given(), infants().get(request.form.get("sample", ""))
        if not workbench.sends:
            abort(404)
        card, entry, words = _answer()
        if card is None or given.request is None:
            return front(given, 422)
        done = send(FEEDBACK, feedback_body(card, entry, iso(moment(desk.now()))))
        said = _said()
        if done.code == 200:
            said.setdefault(card, []).append(words)
        return page(workbench.bench(given, found, feedback=done, said=said), answered_card=card)

    @pages.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> tuple[str, int]:
        message = f"This is larger than {LARGEST_BODY // 1024 // 1024} MB, the most that a caller may send."
        return front(Given("", None, Problem(message), sendable=False), 413)

    return pages


def _action() -> str:
    """What is wanted: the name of the button, or of a step of the ages, which sends too."""
    return "send" if "move_to" in request.form else request.form.get("action", "")


def _sent(workbench: Workbench, given: Given, action: str) -> Sent | None:
    """The answer of the service to the text, where it is asked for and this page sends."""
    if action != "send" or not workbench.sends or not given.sendable:
        return None
    return send(CALL, given.text.encode("utf-8", "replace"))


def _given() -> Given:
    """The uploaded file if there is one, else the text; with the as-of date and a new hookInstance as wanted."""
    upload = request.files.get("file")
    content = upload.read() if upload is not None and upload.filename else b""
    given = read_given(content or request.form.get("request", "").encode("utf-8", "replace"))
    as_of = request.form.get("as_of", "").strip()
    if as_of == request.form.get("as_of_was", ""):
        as_of = ""  # what the request itself says counts, it may have been edited
    as_of = request.form.get("move_to", as_of)
    fresh = "fresh" in request.form and _action() == "send"
    text = changed(given.text, as_of=as_of if given.request is not None else "", fresh=fresh)
    return given if text == given.text else read_given(text.encode("utf-8", "replace"))


def _answer() -> tuple[str | None, Mapping[str, Any], str]:
    """The card, the feedback on it, and the same in words, from the button that was pressed."""
    what, _, ids = request.form.get("answer", "").partition(" ")
    card, _, suggestion = ids.partition(" ")
    if what == "accept" and card and suggestion:
        label = request.form.get(f"label-{suggestion}", "")[:LONGEST_SAID]
        return card, {"outcome": "accepted", "acceptedSuggestions": [{"id": suggestion}]}, f"accepted: {label}"
    if what != "dismiss" or not card:
        return None, {}, ""
    code, system, display = [*request.form.get(f"reason-{card}", "").split("|", 2), "", "", ""][:3]
    comment = request.form.get(f"comment-{card}", "").strip()
    why: dict[str, Any] = {}
    if code:
        why["reason"] = {"code": code, "system": system, "display": display}
    if comment:
        why["userComment"] = comment
    entry: dict[str, Any] = {"outcome": "overridden", **({"overrideReason": why} if why else {})}
    return card, entry, "dismissed: " + (": ".join(item for item in (display, comment[:LONGEST_SAID]) if item) or "-")


def _said() -> dict[str, list[str]]:
    """What this page has sent before, by card, as the form carries it along; only to be shown again."""
    said: dict[str, list[str]] = {}
    for line in request.form.getlist("said")[:MOST_SAID]:
        card, _, words = line[: 3 * LONGEST_SAID].partition(" ")
        said.setdefault(card, []).append(words)
    return said
