"""Logging in at the hospital's identity provider, and out again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, abort, make_response, redirect, render_template, request

from cds_service.settings import Settings
from cds_service.trust.identity import Attempt, IdentityProvider, NotIdentified, Registration
from cds_service.web.desk.access import refused_page
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires
from cds_service.web.desk.sessions import Sessions
from cds_service.web.logs import logger

LONGEST_NAME = 200
GIVEN = {role.name.lower(): role for role in Role if role > Role.PUBLIC}
_PATH = re.compile(r"/(?!/)[!-\[\]-~]*", re.ASCII)  # of this host: no //host, no backslash, no control character


def login_blueprint(desk: Desk, sessions: Sessions) -> Blueprint:
    """``/login``, ``/login/callback``, ``/logout``, ``/logged-out``; all 404 without a provider."""
    pages = Blueprint("login", __name__)
    settings = desk.settings
    provider = provider_of(settings)
    back_to = f"{settings.base_url}/login/callback"

    def known_provider() -> IdentityProvider:
        if provider is None:
            abort(404)
        return provider

    @pages.get("/login")
    @requires(Role.PUBLIC)
    def login() -> Any:
        attempt = Attempt.new()
        try:
            answer = make_response(redirect(known_provider().login_url(attempt, back_to), 303))
        except NotIdentified as problem:
            return _refused(str(problem), 503)
        sessions.remember_login(answer, attempt, path_of(request.args.get("next", "")))
        return answer

    @pages.get("/login/callback")
    @requires(Role.PUBLIC)
    def callback() -> Any:
        asked = known_provider()
        answer = make_response(_answer_to(asked))
        sessions.forget_login(answer)
        return answer

    def _answer_to(asked: IdentityProvider) -> Any:
        begun = sessions.login_under_way()
        if begun is None:
            return _refused("No login began in this browser within the last ten minutes. Log in again.", 400)
        *attempt, next_path = begun
        try:
            claims = asked.claims(request.args, Attempt(*attempt), back_to, sessions.now())
        except NotIdentified as problem:
            return _refused(str(problem), 400)
        name, role = name_of(claims), role_of(claims, settings.oidc_roles_claim)
        if role is None:
            return _refused(
                f"You are {name}, but your account has no role here. Whoever runs the identity provider has to put "
                f"one of {', '.join(GIVEN)} into its claim {settings.oidc_roles_claim}.", 403,
            )  # fmt: skip
        sessions.begin(name, role)
        return redirect(next_path, 303)

    @pages.post("/logout")
    @requires(Role.PUBLIC)
    def logout() -> Any:
        known_provider()
        sessions.end()
        return redirect("/logged-out", 303)

    @pages.get("/logged-out")
    @requires(Role.PUBLIC)
    def logged_out() -> str:
        end = known_provider().end_url()
        return render_template(
            "access/logged_out.html", end=end and f"{end}?{urlencode({'client_id': settings.oidc_client_id})}"
        )

    return pages


def provider_of(settings: Settings) -> IdentityProvider | None:
    """The identity provider of the settings, if there is one."""
    if not settings.has_login:
        return None
    ca_file = settings.oidc_ca_file
    return IdentityProvider(Registration(
        settings.oidc_issuer or "", settings.oidc_client_id or "", settings.oidc_client_secret or "",
        settings.networks_of_provider, None if ca_file is None else str(ca_file),
    ))  # fmt: skip


def path_of(text: str) -> str:
    """A path of this host to go on to, or home: whatever else a link says, nobody is led away by us."""
    return text if _PATH.fullmatch(text) and len(text) < 2000 else "/"


def name_of(claims: Mapping[str, Any]) -> str:
    """The person as the log shall show them: the name that people know, and the id that no one can choose."""
    subject = _plain(claims["sub"])
    shown = next((_plain(claims[key]) for key in ("preferred_username", "email") if claims.get(key)), "")
    return subject if shown in ("", subject) else f"{shown[: LONGEST_NAME - len(subject) - 3]} ({subject})"


def _plain(value: object) -> str:
    text = "".join(letter for letter in str(value) if letter.isprintable())
    return text[: LONGEST_NAME // 2]


def role_of(claims: Mapping[str, Any], claim: str) -> Role | None:
    """The highest role that the claim names. ``a.b`` looks into ``a`` when there is no claim of the whole name."""
    value: Any = claims.get(claim)
    if value is None:
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    named = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return max((GIVEN[name] for name in named if isinstance(name, str) and name in GIVEN), default=None)


def _refused(text: str, status: int) -> tuple[str, int]:
    logger.warning("login-refused", status=status)
    return refused_page(text, status)
