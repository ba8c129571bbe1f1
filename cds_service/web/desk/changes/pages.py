"""Change a rule safely: two rule sets side by side with the effect on a cohort; forms to stop and sign a rule."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.exceptions import RequestEntityTooLarge

from cds_service.errors import CdsError, ContentError
from cds_service.population.disclosure import Disclosure
from cds_service.population.effect import DAY
from cds_service.web.desk.changes import comparisons
from cds_service.web.desk.changes.compare_tables import compared_tables, infants_table
from cds_service.web.desk.changes.comparisons import FOLDER, RELEASE, RUNNING, SYNTHETIC, UPLOAD, Comparisons, Unknown
from cds_service.web.desk.changes.uploaded_packs import PackRefused
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, may, requires
from cds_service.web.desk.rules.governing_pages import add_governing
from cds_service.web.desk.tables import several_answer
from cds_service.web.hooks_api import LARGEST_BODY

RELOAD_SECONDS = 2
MOST_SHOWN = 200


def changes_blueprint(desk: Desk) -> Blueprint:
    """``/compare`` and what is below it, and the forms on a rule's page."""
    pages = Blueprint("changes", __name__)
    add_governing(pages, desk)
    made = Comparisons(desk)

    @pages.get("/compare")
    @requires(Role.VIEWER)
    def compare() -> Any:
        return _compared(desk, made, single=False)

    @pages.get("/compare/infants")
    @requires(Role.ANALYST)
    def infants() -> Any:
        return _compared(desk, made, single=True)

    @pages.get("/compare/infants/<name>")
    @requires(Role.VIEWER)
    def infant(name: str) -> Any:
        lines = made.synthetic_lines(name)
        if lines is None:
            abort(404)
        return render_template("changes/infant.html", name=name, lines=lines, day=DAY.isoformat())

    @pages.post("/compare/upload")
    @requires(Role.REVIEWER)
    def upload() -> Any:
        file = request.files.get("pack")
        content = file.read() if file is not None and file.filename else b""
        try:
            if not content:
                raise PackRefused("Choose a file: a zip of a cards/ folder.")
            chosen = made.take_in(content)
        except ContentError as problem:
            return _page(made, 422, problem="The rule set has mistakes. Nothing was kept.", mistakes=problem.mistakes)
        except PackRefused as problem:
            return _page(made, 422, problem=f"{problem} Nothing was kept.")
        return redirect(url_for("changes.compare", before=RUNNING, after=chosen), 303)

    @pages.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Any:
        return _page(made, 413, problem=f"The file is larger than {LARGEST_BODY >> 20} MB. Nothing was kept.")

    return pages


def _compared(desk: Desk, made: Comparisons, single: bool) -> Any:
    """The comparison that the address asks for, or how far it is."""
    before, after, cohort = _asked()
    if not after:
        return _page(made, 200)
    try:
        working = made.working(before, after, cohort)
        found = working.result(comparisons.WAIT_SECONDS) if working is not None else None
    except Unknown as problem:
        return _page(made, 404, problem=str(problem))
    except ContentError as problem:
        return _page(made, 422, problem="One of the rule sets has mistakes.", mistakes=problem.mistakes)
    except CdsError as problem:
        return _page(made, 422, problem=str(problem))
    if found is None:
        return _waiting(working)
    exact = found.made_up or may(Role.ANALYST)
    running = {rule.id for rule in desk.library.rules}
    tables = [infants_table(found)] if single else compared_tables(found, running, exact, infants=found.made_up)
    disclosure = Disclosure(exact)
    return several_answer(
        tables, "changes/compared.html", found=found, told="" if found.made_up else disclosure.told,
        number=disclosure.shown(found.effect.number), figures=disclosure.table(found.effect.infants), single=single,
        weights=_weights(found), **_choices(made),
    )  # fmt: skip


def _weights(found: comparisons.Compared) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in found.differences:
        counts[item.severity.word] = counts.get(item.severity.word, 0) + 1
    return counts


def _asked() -> tuple[str, str, str]:
    args = request.args
    return args.get("before") or RUNNING, args.get("after", ""), args.get("cohort") or SYNTHETIC


def _choices(made: Comparisons) -> dict[str, Any]:
    """What stands in the form."""
    before, after, cohort = _asked()
    releases = made.releases()
    if not after and releases:  # offered: what changed since the last release
        before, after = f"{RELEASE}{releases[0]}", RUNNING
    sets = [(RUNNING, "the running rules"), *((f"{RELEASE}{name}", name) for name in releases)]
    sets += [(name, f"upload {name.removeprefix(UPLOAD)[:12]}") for name in {before, after} if name.startswith(UPLOAD)]
    words = {SYNTHETIC: "made-up infants", FOLDER: "the hospital’s cohort"}
    return {
        "before": before, "after": after, "cohort": cohort, "sets": sets,
        "cohorts": [(name, words[name]) for name in made.cohorts()], "largest": LARGEST_BODY >> 20,
    }  # fmt: skip


def _page(made: Comparisons, status: int, **more: Any) -> tuple[str, int]:
    return render_template("changes/compare.html", most=MOST_SHOWN, **_choices(made), **more), status


def _waiting(working: comparisons.Working | None) -> Response:
    """A page that loads itself again, also without JavaScript."""
    answer = Response(render_template("changes/waiting.html", working=working, address=request.full_path), 202)
    answer.headers["Refresh"] = str(RELOAD_SECONDS)
    return answer
