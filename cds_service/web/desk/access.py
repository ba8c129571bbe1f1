"""Who is let in: one gate before every page, closed unless the page says who may see it.

What is not below the gate is listed by name: the interfaces of programs, which know callers by their tokens, and the
files that pages are dressed with. A page without a role is not there, so that a forgotten one shows nothing.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, abort, g, redirect, render_template, request
from werkzeug.exceptions import MethodNotAllowed

from cds_service.errors import ForeignForm, NotAllowed, NotLoggedIn, RequestError, StoreUnavailable
from cds_service.settings import LOOPBACK, Profile
from cds_service.web.answers import outcome
from cds_service.web.desk.access_log import log_answer
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import NOBODY, Role, User
from cds_service.web.desk.sessions import Session, Sessions
from cds_service.web.desk.tables import wants_twin
from cds_service.web.logs import logger

OPEN = frozenset({
    "static", "hooks.discover", "hooks.call", "hooks.other_methods", "feedback.give", "feedback.other_methods",
    "operations.healthz", "operations.readyz", "operations.metrics", "openapi.describe",
})  # fmt: skip
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Access:
    """The gate of one application."""

    def __init__(self, desk: Desk) -> None:
        self.sessions = Sessions(desk.settings, desk.database, desk.now)
        self._desk = desk
        self._login = desk.settings.has_login
        self._sandbox = desk.settings.profile is Profile.SANDBOX
        public = urlsplit(desk.settings.base_url)
        self.origin = f"{public.scheme}://{public.netloc}"
        self._hosts = frozenset({*LOOPBACK, f"[{LOOPBACK[1]}]", public.hostname or ""})

    def guard(self, app: Flask) -> None:
        """Close the application's pages. Called when all that frames answers is in place, so that refusals are too."""

        def admit() -> Any:
            return self._admit(app)

        def leave(answer: Response) -> Response:
            if "role_asked" in g:
                self.sessions.send(answer)
                return log_answer(self._desk, g.role_asked, answer)
            return answer

        app.before_request(admit)
        app.after_request(leave)

        @app.context_processor
        def for_forms() -> dict[str, object]:
            return {"csrf": self.sessions.form_token, "login_offered": self._login}

    def _admit(self, app: Flask) -> Any:
        """None for whoever may go on; the answer for all others."""
        endpoint = _endpoint_asked_for(app)
        if endpoint is None or endpoint in OPEN:
            return None  # Flask answers 404 or 405 itself where nothing is
        role: Role | None = getattr(app.view_functions[endpoint], "role", None)
        if role is None:
            logger.error("page-without-role", route=endpoint)
            abort(404)
        if role > Role.PUBLIC and not self._login and not self._sandbox:
            abort(404)
        if self._sandbox and _host() not in self._hosts:  # a page elsewhere whose name was made to mean this machine
            return _refusal(ForeignForm("desk.host", "This address is none of this service."))
        g.role_asked = role
        g.session = self.sessions.current()
        g.user = self._user(g.session, role)
        if g.user.role < role:
            return self._turn_away()
        if request.method not in SAFE and request.endpoint is not None and not self._is_from_our_page():
            return _refusal(ForeignForm("desk.form", "This form is not of this session. Load the page again."))
        return None

    def _user(self, session: Session | None, role: Role) -> User:
        if not self._login:
            return User("sandbox", Role.ADMIN) if self._sandbox else NOBODY
        if session is None or not session.name:
            return NOBODY
        try:
            ended = self.sessions.was_ended(session)
        except StoreUnavailable:
            if role > Role.PUBLIC:
                raise
            ended = True  # where a card's link leads is read all the same
        if ended:
            g.session = None
            return NOBODY
        return User(session.name, Role(session.role))

    def _turn_away(self) -> Any:
        if g.user is not NOBODY:
            return _refusal(NotAllowed("desk.role", "Your role does not include this page."))
        refused = NotLoggedIn("desk.login", "Log in first. Nothing was changed.")
        if request.method not in ("GET", "HEAD") or wants_twin():
            return _refusal(refused)
        return redirect(f"/login?{urlencode({'next': request.full_path.rstrip('?')})}", 303)

    def _is_from_our_page(self) -> bool:
        """Whether a form or script of our own page sent this.

        Pages are sent with ``Referrer-Policy: no-referrer``, and then browsers write ``Origin: null`` and say by
        Sec-Fetch-Site where the form was.
        """
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        ours = {self.origin} | ({f"http://{request.host}"} if self._sandbox else set())
        if site not in (None, "same-origin") or (origin not in (None, "null") and origin not in ours):
            return False
        if origin == "null" and site is None:
            return False
        return self.sessions.is_our_form(request.headers.get("X-CSRF-Token") or request.form.get("csrf", ""))


def _endpoint_asked_for(app: Flask) -> str | None:
    """The route's endpoint, also where only the method is wrong: who may not see a page does not learn its methods."""
    refused = request.routing_exception
    if not isinstance(refused, MethodNotAllowed) or not refused.valid_methods:
        return request.endpoint
    adapter = app.create_url_adapter(request)
    if adapter is None:
        return None
    endpoint: str = adapter.match(method=next(iter(refused.valid_methods)))[0]
    return endpoint


def _host() -> str:
    return request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host


def _refusal(error: RequestError) -> Any:
    """For programs as all refusals of the service; for people a page."""
    if wants_twin():
        return outcome(error)
    g.error_code = error.code
    return refused_page(error.text, error.status)


def refused_page(text: str, status: int) -> tuple[str, int]:
    """A page that says why there is nothing to see, and what to do."""
    return render_template("access/refused.html", text=text), status
