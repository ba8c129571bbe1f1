"""The documents, what each says and what it feeds, and the guidance that comes from them."""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template, url_for

from cds_service.rules.coverage import Row, coverage
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires
from cds_service.web.desk.tables import Column, Table, table_answer

COLUMNS = (
    Column("id", "Assertion", link="place"), Column("section", "Section", facet=True), Column("paragraph", "Paragraph"),
    Column("says", "Says"), Column("asks", "Asks for action", facet=True), Column("rules", "Rules"),
    Column("texts", "Texts for families"), Column("reason", "Why nothing"),
)  # fmt: skip


def documents_blueprint(desk: Desk) -> Blueprint:
    """``/documents``, ``/documents/<slug>``, and ``/guidance/<slug>``, where a reassurance card's link leads."""
    pages = Blueprint("documents", __name__)
    library = desk.library
    covered = coverage(library)
    titles = {assertion.document: assertion.document_title for assertion in library.assertions.values()}

    @pages.get("/documents")
    @requires(Role.PUBLIC)
    def documents() -> Response | str:
        rows = [
            {
                "title": titles[slug], "page": url_for("documents.document", slug=slug), "assertions": len(found),
                "feeding": sum(bool(row.rules) for row in found), "texts": sum(bool(row.texts) for row in found),
                "nothing": sum(not (row.rules or row.texts) for row in found),
            }
            for slug, found in covered.items()
        ]  # fmt: skip
        columns = (
            Column("title", "Document", link="page"), Column("assertions", "Assertions", number=True),
            Column("feeding", "Feed a rule", number=True), Column("texts", "Feed a text for families", number=True),
            Column("nothing", "Feed nothing", number=True),
        )  # fmt: skip
        return table_answer(Table("documents", "Documents", columns, rows), "documents/documents.html")

    @pages.get("/documents/<slug>")
    @requires(Role.PUBLIC)
    def document(slug: str) -> Response | str:
        if slug not in covered:
            abort(404)
        table = Table(slug, f"What “{titles[slug]}” says", COLUMNS, [_row(row) for row in covered[slug]])
        rules = [rule for rule in library.rules if rule.document == slug]
        return table_answer(
            table, "documents/document.html", title=titles[slug], rows=_by_section(covered[slug]), rules=rules,
            guidance=library.guidance.get(slug), all_rules={rule.id: rule.title for rule in library.rules},
        )  # fmt: skip

    @pages.get("/guidance/<slug>")
    @requires(Role.PUBLIC)
    def guidance(slug: str) -> str | Response:
        found = library.guidance.get(slug)
        if found is None:
            abort(404)
        return render_template("documents/guidance.html", guidance=found, document_title=titles[slug])

    return pages


def _row(row: Row) -> dict[str, object]:
    said = row.assertion
    return {
        "id": said.id, "place": f"#{said.id}", "section": said.section, "paragraph": said.paragraph, "says": said.says,
        "asks": said.actionable, "rules": list(row.rules), "texts": list(row.texts), "reason": row.reason or None,
    }  # fmt: skip


def _by_section(rows: list[Row]) -> dict[str, list[Row]]:
    """Section → its assertions, in the order of the document."""
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row.assertion.section, []).append(row)
    return sections
