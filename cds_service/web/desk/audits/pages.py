"""``/audits``: what audits of whole populations found; from any number to its infants, and to how each came about."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response, abort, render_template, request, url_for
from jinja2 import TemplateError
from werkzeug.exceptions import NotFound

from cds_service.population.disclosure import Disclosure
from cds_service.population.finished import BrokenOutput, Output, checked, listed, suppressed
from cds_service.population.infants_found import EVALUATIONS, Wanted, find
from cds_service.population.measure_report import suppressed_report
from cds_service.population.one_infant import NotAgain, ask_again, readable_export
from cds_service.population.report import WIDEST, report_page, waterfall
from cds_service.web.desk.audits.infants import SOME, differences, infants_table, stored_infant
from cds_service.web.desk.audits.tables import bars_of, difference_tables, runs_table, summary_tables
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, may, requires
from cds_service.web.desk.tables import several_answer, table_answer, twin, view_of, wants_twin
from cds_service.web.desk.trace import RuleGroup, traces_of

PAGE, TWIN = 50, 5000  # infants on a page, and at most in a CSV or JSON
MEASURES = "measure-reports.ndjson"
ALL = "audits.audits", "All audits"
NO_KEY = (
    "Infants are shown as pseudonyms only, and this service has no key for them: set CDS_PSEUDONYM_KEY. "
    "The worklist with their ids is in the run's own folder, for those who treat them."
)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_PSEUDONYM = re.compile(r"[0-9a-f]{24}", re.ASCII)


def audits_blueprint(desk: Desk) -> Blueprint:
    """``/audits`` and what is below it. Numbers for viewers, suppressed; exact ones and infants for analysts."""
    pages = Blueprint("audits", __name__)

    @contextmanager
    def opened(run: str) -> Iterator[tuple[Output, dict[str, Any]]]:
        """The output and its summary, as this person may see it."""
        folder = desk.settings.audits_dir
        if folder is None:
            abort(404)
        try:
            output = Output(folder, run)
        except BrokenOutput:
            abort(404)
        with output:
            said = output.summary()
            yield output, (suppressed(said) if is_hidden(said) else said)

    @pages.get("/audits")
    @requires(Role.VIEWER)
    def audits() -> Any:
        folder = desk.settings.audits_dir
        found = listed(folder, exact=may(Role.ANALYST)) if folder is not None else []
        table = runs_table(found, lambda name: url_for("audits.run", run=name))
        return table_answer(table, "audits/audits.html", is_set=folder is not None)

    @pages.get("/audits/<run>")
    @requires(Role.VIEWER)
    def run(run: str) -> Any:
        with opened(run) as (output, said):
            summary, made = checked(said), output.made()
            is_whole = output.has(EVALUATIONS)
            others = [item.name for item in listed(output.beside, exact=False) if item.summary and item.name != run]

        def link(**filters: str) -> str:
            return f"{url_for('audits.infants', run=run)}?{urlencode(filters)}" if may(Role.ANALYST) else ""

        tables = summary_tables(summary, link)
        other, beside, problem, both_exact = request.args.get("with", ""), None, "", False
        if other:
            try:
                with opened(other) as (_, theirs):
                    beside = checked(theirs)
                    both_exact = summary.run.exact and beside.run.exact and may(Role.ANALYST)
                    mine, yours = (item if both_exact else alike(item) for item in (said, theirs))
                    tables = [*difference_tables(checked(mine), checked(yours)), *tables]
            except (NotFound, BrokenOutput):
                problem = "The other run cannot be read."
        return several_answer(
            tables, "audits/run.html", name=run, summary=summary, made=made, other=other, beside=beside,
            others=others, problem=problem, both_exact=both_exact,
            way=waterfall(summary.attrition, summary.patients.all),
            bars=bars_of(summary), widest=WIDEST, is_whole=is_whole, hidden=summary.run.exact and not may(Role.ANALYST),
            same_rules=desk.library.hash in summary.run.rule_sets,
        )  # fmt: skip

    @pages.get("/audits/<run>/report")
    @requires(Role.VIEWER)
    def report(run: str) -> Response:
        """The report as it is: it runs no script, and loads and sends nothing."""
        with opened(run) as (output, said):
            text = output.read("report.html").decode("utf-8", "replace")
        if is_hidden(said):
            try:
                text = report_page(said)
            except (TemplateError, TypeError, AttributeError, ValueError):
                raise BrokenOutput("summary.json is not as an audit writes it.") from None
        answer = Response(text, mimetype="text/html")
        hashes = [b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in _STYLE.findall(text)[:1]]
        allowed = " ".join(f"'sha256-{item}'" for item in hashes) or "'none'"
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src {allowed}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; sandbox"
        )
        return answer

    @pages.get("/audits/<run>/summary.json")
    @requires(Role.VIEWER)
    def summary_file(run: str) -> Response:
        with opened(run) as (_, said):
            return _download(orjson.dumps(said, option=orjson.OPT_INDENT_2), "application/json", f"{run}-summary.json")

    @pages.get("/audits/<run>/measure-reports")
    @requires(Role.VIEWER)
    def measure_reports(run: str) -> Response:
        """All of them, one a line, or with ``?measure=`` the one of a rule, or of ``all-rules``."""
        with opened(run) as (output, said):
            lines = output.read(MEASURES).splitlines(keepends=True)
        wanted = request.args.get("measure", "")
        try:
            found = [orjson.loads(line) for line in lines]
            if wanted:
                found = [item for item in found if f"/Measure/{wanted}|" in item["measure"]]
            if is_hidden(said):
                found = [suppressed_report(item) for item in found]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            raise BrokenOutput(f"{MEASURES} is not as an audit writes it.") from None
        if not wanted:
            body = b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in found)
            return _download(body, "application/fhir+ndjson", f"{run}-{MEASURES}")
        if not found:
            abort(404)
        return Response(orjson.dumps(found[0], option=orjson.OPT_INDENT_2), mimetype="application/fhir+json")

    @pages.get("/audits/<run>/infants")
    @requires(Role.ANALYST)
    def infants(run: str) -> Any:
        number = request.args.get("page", "1")
        page = max(1, int(number)) if number.isascii() and number.isdigit() and len(number) < 7 else 1
        wanted = Wanted(**{name: request.args.get(name, "")[:300] for name in Wanted._fields})
        whole = wants_twin()
        with opened(run) as (output, said):
            summary = checked(said)
            key = _key(desk)
            documents = {rule: numbers.document for rule, numbers in summary.by_rule.items()}
            with output.open(EVALUATIONS) as rows:
                found = find(rows, wanted, documents, 0 if whole else (page - 1) * PAGE, TWIN if whole else PAGE)
        if summary.run.exact and found.all != summary.patients.all:
            raise BrokenOutput(f"{EVALUATIONS} is cut short: {found.all} infants of {summary.patients.all}.")
        urls = {"infant": url_for("audits.infant", run=run, name="PSEUDONYM")}
        table = infants_table(found.rows, key, wanted.rule, desk.library, urls, None if whole else SOME)
        if whole:
            return twin(table, table.rows)
        return render_template(
            "audits/infants.html", name=run, table=view_of(table), found=found.number, page=page, most=TWIN,
            pages=max(1, -(-found.number // PAGE)),
            wanted={key: value for key, value in wanted._asdict().items() if value},
        )  # fmt: skip

    @pages.get("/audits/<run>/infants/<name>")
    @requires(Role.ANALYST)
    def infant(run: str, name: str) -> str:
        with opened(run) as (output, said):
            summary, made = checked(said), output.made()
            found = stored_infant(output, _key(desk), name, desk.library) if _PSEUDONYM.fullmatch(name) else None
        if found is None:
            abort(404)
        folder = made.folder if made is not None else ""
        groups: tuple[RuleGroup, ...] = ()
        differs, changed, why_not, size = list[str](), False, "", 0
        try:
            size = readable_export(folder)
            if request.args.get("again") == "1":
                again = ask_again(folder, found.patient, summary, desk.library)
                groups = traces_of(again.response, desk.library, found.patient)
                differs, changed = differences(found, again.response), again.changed
        except NotAgain as problem:
            why_not = str(problem)
        return render_template(
            "audits/infant.html", name=run, infant=name, stored=found, groups=groups, differs=differs, changed=changed,
            why_not=why_not, megabytes=max(1, size >> 20), asked=request.args.get("again") == "1",
            same_rules=desk.library.hash in summary.run.rule_sets,
        )  # fmt: skip

    @pages.errorhandler(NotFound)
    def not_found(_: NotFound) -> Any:
        return render_template(
            "_problem.html", back=ALL, title="Not found", text="No such audit or infant is here."
        ), 404

    @pages.errorhandler(BrokenOutput)
    def broken(problem: BrokenOutput) -> Any:
        return render_template("_problem.html", back=ALL, title="This audit cannot be shown", text=str(problem)), 409

    return pages


def is_hidden(said: dict[str, Any]) -> bool:
    """Whether this person sees an exact run's numbers suppressed only."""
    return bool(said["run"]["exact"]) and not may(Role.ANALYST)


def alike(said: dict[str, Any]) -> dict[str, Any]:
    """The summary with its numbers suppressed once, so that it can stand beside one of a run without --exact."""
    return suppressed(said) if said["run"]["exact"] and said["numbers"] == Disclosure(exact=True).told else said


def _key(desk: Desk) -> bytes:
    if desk.keys.pseudonym is None:
        raise BrokenOutput(NO_KEY)
    return desk.keys.pseudonym


def _download(body: bytes, kind: str, name: str) -> Response:
    answer = Response(body, mimetype=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
