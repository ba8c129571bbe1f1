"""The documents, what they say, and the guidance that comes from them."""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template

from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires


def documents_blueprint(desk: Desk) -> Blueprint:
    """``/guidance/<slug>``: where a reassurance card's link leads."""
    pages = Blueprint("documents", __name__)
    library = desk.library

    @pages.get("/guidance/<slug>")
    @requires(Role.PUBLIC)
    def guidance(slug: str) -> str | Response:
        found = library.guidance.get(slug)
        if found is None:
            abort(404)
        title = next(a.document_title for a in library.assertions.values() if a.document == slug)
        return render_template("documents/guidance.html", guidance=found, document_title=title)

    return pages
