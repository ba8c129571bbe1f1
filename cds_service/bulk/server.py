"""An export server as the import sees it: asked with a token, again after 429, 5xx and a broken line, never busily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import orjson

from cds_service.bulk.backend import Tokens
from cds_service.errors import InputError
from cds_service.trust.exchange import Origins, Reply, ask, download
from cds_service.trust.trouble import Trouble, Unreachable

TRIES = 8  # then whatever came is what there is: about ten minutes
SHORTEST, FIRST, LONGEST = 1.0, 2.0, 300.0  # seconds between two requests, when the server does not say
LONGEST_ASKED = 3600.0  # and when it does
# FHIR R4 IssueType "transient" and its children: what may pass by itself
TRANSIENT = frozenset({"transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"})
AGAIN = frozenset({429, 500, 502, 503, 504})
LASTING = (Trouble.ADDRESS, Trouble.TLS, Trouble.REDIRECT, Trouble.TOO_LARGE)


def pause_after(headers: Mapping[str, str], tries: int, now: float) -> float:
    """Seconds until the next request: what Retry-After says, in seconds or as a date, within bounds; else twice as
    long each time.

    A date is held against the server's own Date where it sends one: two clocks may differ.
    """
    written = headers.get("retry-after", "").strip()
    if written.isascii() and written.isdigit():
        return min(max(float(written), SHORTEST), LONGEST_ASKED)
    try:
        then = parsedate_to_datetime(written).timestamp()
        here = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else now
        return min(max(then - here, SHORTEST), LONGEST_ASKED)
    except (ValueError, TypeError, OverflowError):
        return min(FIRST * 2.0 ** min(tries, 20), LONGEST)


def issue_codes(body: bytes) -> frozenset[str]:
    """The codes of an OperationOutcome's issues; nothing else of it is told, it may speak of a patient."""
    try:
        outcome = orjson.loads(body)
        if outcome["resourceType"] != "OperationOutcome":
            return frozenset()
        codes = {issue["code"] for issue in outcome["issue"]}
        return frozenset(
            code for code in codes if code.isascii() and len(code) < 32 and code.replace("-", "").isalpha()
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return frozenset()


def is_final(reply: Reply) -> bool:
    """Whether asking again is of no use. A 5xx with an OperationOutcome that is not transient says that it is not."""
    codes = issue_codes(reply.body) if reply.status != 429 else frozenset()
    return reply.status not in AGAIN or bool(codes and not codes & TRANSIENT)


class Server:
    """The registered origins, with the token once there is one."""

    def __init__(self, origins: Origins, pause: Callable[[float], object], now: Callable[[], float]) -> None:
        """``pause``: waits so many seconds. ``now``: seconds since 1970."""
        self._origins = origins
        self.pause = pause
        self.now = now
        self.tokens: Tokens | None = None

    def ask(
        self, method: str, url: str, what: str, headers: Mapping[str, str] = {},
        body: Callable[[], bytes] | None = None, with_token: bool = True,
    ) -> Reply:  # fmt: skip
        """The last answer to ``what``; ``body`` is made for each try.

        Raises InputError when none comes or the URL may not be called.
        """
        place = self._origins.place_of(url, what)
        refused = ""
        for tries in range(TRIES):
            token = self.token(refused) if with_token else ""
            try:
                reply = ask(place, method, {**headers, **bearer(token)}, body() if body else None)
            except Unreachable as problem:
                if problem.trouble in LASTING or tries == TRIES - 1:
                    raise InputError(f"{what}: {problem.trouble.value}") from None
                self.pause(pause_after({}, tries, self.now()))
                continue
            if reply.status == 401 and token and not refused:
                refused = token
                continue
            if is_final(reply):
                return reply
            if tries < TRIES - 1:
                self.pause(pause_after(reply.headers, tries, self.now()))
        return reply

    def token(self, refused: str = "") -> str:
        """The access token; empty when the server wants none."""
        return self.tokens.current(refused) if self.tokens is not None else ""

    @contextmanager
    def download(self, url: str, what: str, headers: Mapping[str, str], token: str) -> Iterator[
        tuple[Reply, Iterator[bytes]]
    ]:  # fmt: skip
        """One attempt. Raises Unreachable when it breaks off, InputError when the URL may not be called."""
        with download(self._origins.place_of(url, what), {**headers, **bearer(token)}) as found:
            yield found


def bearer(token: str) -> dict[str, str]:
    """The header that presents a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}
