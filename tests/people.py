"""People at the desk in every role, for tests of pages: logged in without a provider, with forms of their own."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, g
from flask.testing import FlaskClient
from infants import library
from services import MAIN, PUBLIC

from cds_service.app import create_app
from cds_service.settings import Profile, Settings
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web.desk.roles import Role

KEY = "a key of the tests, which is long enough"
OIDC = {"oidc_issuer": "https://idp.example", "oidc_client_id": "desk", "oidc_client_secret": "s", "session_key": KEY}


class Clock:
    """The time of the application; a test moves it."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


def desk_in_production(folder: Path, now: Any = None, **more: Any) -> Flask:
    """The service in production, its people known by an identity provider unless told otherwise."""
    clients = folder / "clients.json"
    clients.write_text(json.dumps({"clients": [MAIN]}))
    url = f"sqlite:///{folder}/desk.sqlite3"
    upgrade(Database(url))
    settings = {"profile": Profile.PRODUCTION, "public_url": PUBLIC, "database_url": url, "clients_file": clients}
    return create_app(Settings(**{**settings, **OIDC, **more}), library(), now)


class Person:
    """Somebody at a browser. Without a role: nobody has logged in."""

    def __init__(self, app: Flask, role: Role | None = None, name: str = "") -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self.base = app.extensions["access"].origin
        self.host = urlsplit(self.base).hostname or ""
        if role is not None:
            with app.test_request_context():
                app.extensions["access"].sessions.begin(name or f"{role.name.lower()}@example", role)
                self._take_cookie()

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, base_url=self.base, **more)

    def call(self, method: str, path: str, **more: Any) -> Any:
        return self.client.open(path, method=method, base_url=self.base, **more)

    def post(self, path: str, **fields: Any) -> Any:
        """Send a form of our own page."""
        return self.client.post(path, base_url=self.base, data={"csrf": self.form_token(), **fields})

    def form_token(self) -> str:
        """The hidden field of this person's forms."""
        sessions = self.app.extensions["access"].sessions
        with self.app.test_request_context(headers={"Cookie": self._cookie()}):
            g.session = sessions.current()
            token: str = sessions.form_token()
            if "session_to_send" in g:
                self._take_cookie()
        return token

    def _cookie(self) -> str:
        name = self.app.extensions["access"].sessions.name
        held = self.client.get_cookie(name, domain=self.host)
        return f"{name}={held.value}" if held else ""

    def _take_cookie(self) -> None:
        answer = Response()
        self.app.extensions["access"].sessions.send(answer)
        name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
        self.client.set_cookie(name, value, domain=self.host, secure=self.base.startswith("https"))
