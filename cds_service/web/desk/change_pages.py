"""Change a rule safely: compare two rule sets, sign, stop."""

from __future__ import annotations

from flask import Blueprint

from cds_service.web.desk.desk import Desk
from cds_service.web.desk.governing_pages import add_governing


def changes_blueprint(desk: Desk) -> Blueprint:
    """``/compare``, and the forms on a rule's page."""
    pages = Blueprint("changes", __name__)
    add_governing(pages, desk)
    return pages
