"""Every area of the desk, in the order of the menu."""

from __future__ import annotations

from flask import Flask

from cds_service.web.desk.desk import Desk, dress_pages
from cds_service.web.desk.document_pages import documents_blueprint
from cds_service.web.desk.home_page import home_blueprint
from cds_service.web.desk.rules_pages import rules_blueprint


def register_desk(app: Flask, desk: Desk) -> None:
    """Give the application the desk's pages."""
    dress_pages(app, desk)
    for blueprint in (home_blueprint(desk), rules_blueprint(desk), documents_blueprint(desk)):
        app.register_blueprint(blueprint)
