"""The home page: is all well, and where to begin."""

from __future__ import annotations

from flask import Blueprint, render_template

from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires


def home_blueprint(desk: Desk) -> Blueprint:
    """``/``."""
    pages = Blueprint("home", __name__)

    @pages.get("/")
    @requires(Role.PUBLIC)
    def home() -> str:
        return render_template("home/home.html", rules=desk.library.rules)

    return pages
