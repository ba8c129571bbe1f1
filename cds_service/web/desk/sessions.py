"""Sessions of people: a signed cookie, so that every worker knows them; a logout is noted in the store.

Nothing under /cds-services reads a cookie. The name ``__Host-`` makes browsers hold the cookie to this host, https
and the path ``/`` (docs/desk.md); a sandbox on plain http has to do without.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from flask import Response, g, request
from itsdangerous import BadData, Signer, URLSafeSerializer

from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.store.seen_tokens import SeenTokens
from cds_service.web.desk.roles import Role

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 8 * 3600
RENEW_SECONDS = 60  # the cookie says to the minute when the person was last here
LOGIN_SECONDS = 10 * 60
ENDED = "(desk session)"  # among the used tokens; no client has this id
HOW: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


class Session(NamedTuple):
    """Somebody's stay. ``name`` is empty for a visitor who has not logged in; times are seconds since 1970."""

    id: str
    name: str
    role: int
    began: int
    seen: int


class Sessions:
    """The sessions of this installation."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        """Without CDS_SESSION_KEY (sandbox) a session lives as long as this process."""
        key = settings.session_key or secrets.token_urlsafe(32)
        self._https = settings.base_url.startswith("https://")
        self.name = "__Host-cds" if self._https else "cds"
        self._sessions = URLSafeSerializer(key, salt="session", signer_kwargs=HOW)
        self._logins = URLSafeSerializer(key, salt="login", signer_kwargs=HOW)
        self._forms = Signer(key, salt="form", **HOW)
        self._ended = SeenTokens(database)
        self._now = now

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._now().timestamp())

    def current(self) -> Session | None:
        """The session of the request's cookie, if it is ours and not over by its times. It may have been ended."""
        read = self._read(self._sessions, self.name, len(Session._fields))
        if read is None:
            return None
        session, now = Session(*read), self.now()
        if now - session.began >= LONGEST_SECONDS or (session.name and now - session.seen >= IDLE_SECONDS):
            return None
        return session

    def was_ended(self, session: Session) -> bool:
        """Whether the person logged out, in whichever worker. Raises StoreUnavailable."""
        return self._ended.known(ENDED, session.id)

    def begin(self, name: str = "", role: Role = Role.PUBLIC) -> Session:
        """A new session with a new id in place of the one that was. The answer brings it to the browser."""
        now = self.now()
        session = Session(secrets.token_urlsafe(24), name, int(role), now, now)
        g.session = g.session_to_send = session
        return session

    def end(self) -> None:
        """End the request's session for good, also for who has copied its cookie. Raises StoreUnavailable."""
        session: Session | None = g.get("session")
        if session is not None and session.name:
            self._ended.use(ENDED, session.id, session.began + LONGEST_SECONDS)
        g.session, g.session_to_send = None, None

    def form_token(self) -> str:
        """What a form of this session carries; a visitor without a session gets one."""
        session: Session = g.get("session") or self.begin()
        return self._forms.get_signature(session.id).decode()

    def is_our_form(self, token: str) -> bool:
        """Whether the token is that of a form of this session."""
        session: Session | None = g.get("session")
        if session is None:
            return False
        return hmac.compare_digest(self._forms.get_signature(session.id), token.encode("utf-8", "replace"))

    def send(self, answer: Response) -> None:
        """Put a new, a renewed or an ended session into the answer's cookie."""
        session: Session | None = g.get("session")
        if "session_to_send" in g:
            self._write(answer, self._sessions, self.name, session)
        elif session is not None and session.name and self.now() - session.seen >= RENEW_SECONDS:
            self._write(answer, self._sessions, self.name, session._replace(seen=self.now()))

    def remember_login(self, answer: Response, attempt: tuple[str, ...], next_path: str) -> None:
        """Have the browser keep what belongs to a login under way."""
        self._write(answer, self._logins, f"{self.name}-login", (*attempt, next_path, self.now()), LOGIN_SECONDS)

    def login_under_way(self) -> list[Any] | None:
        """State, nonce, verifier and the page to go to of the login that this browser began."""
        read = self._read(self._logins, f"{self.name}-login", 5)
        return read[:4] if read is not None and self.now() - read[4] < LOGIN_SECONDS else None

    def forget_login(self, answer: Response) -> None:
        """A login is good for one answer of the provider."""
        self._write(answer, self._logins, f"{self.name}-login", None)

    def _read(self, box: URLSafeSerializer, name: str, length: int) -> list[Any] | None:
        try:
            read = box.loads(request.cookies.get(name, ""))
        except BadData:
            return None
        return read if isinstance(read, list) and len(read) == length else None

    def _write(
        self, answer: Response, box: URLSafeSerializer, name: str, content: tuple[Any, ...] | None,
        seconds: int | None = None,
    ) -> None:  # fmt: skip
        value = "" if content is None else str(box.dumps(list(content)))
        answer.set_cookie(
            name, value, max_age=0 if content is None else seconds, path="/", secure=self._https, httponly=True,
            samesite="Lax",
        )  # fmt: skip
