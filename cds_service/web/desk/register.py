"""Every area of the desk, in the order of the menu."""

from __future__ import annotations

from flask import Flask

from cds_service.web.desk.access_log import access_blueprint
from cds_service.web.desk.analytics.pages import analytics_blueprint
from cds_service.web.desk.audits.pages import audits_blueprint
from cds_service.web.desk.changes.pages import changes_blueprint
from cds_service.web.desk.decisions.pages import decisions_blueprint
from cds_service.web.desk.desk import Desk, dress_pages
from cds_service.web.desk.home_page import home_blueprint
from cds_service.web.desk.login import login_blueprint
from cds_service.web.desk.rules.document_pages import documents_blueprint
from cds_service.web.desk.rules.pages import rules_blueprint
from cds_service.web.desk.sandbox.pages import sandbox_blueprint
from cds_service.web.desk.sessions import Sessions


def register_desk(app: Flask, desk: Desk, sessions: Sessions) -> None:
    """Give the application the desk's pages."""
    dress_pages(app, desk)
    for area in (home_blueprint, rules_blueprint, documents_blueprint, decisions_blueprint, analytics_blueprint,
                 sandbox_blueprint, changes_blueprint, audits_blueprint,
                 access_blueprint):  # fmt: skip
        app.register_blueprint(area(desk))
    app.register_blueprint(login_blueprint(desk, sessions))
