"""Single requests and long downloads for the bulk import, to registered origins only.

As everywhere, addresses are judged before they are connected to, and no redirect is followed: a manifest that names
another server's file is a reason to ask the user, never to go there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from cds_service.errors import InputError
from cds_service.trust.addresses import Base, parse_base
from cds_service.trust.deadline import cutting_itself
from cds_service.trust.outbound import PIECE, Line, Route
from cds_service.trust.trouble import Trouble, Unreachable

ASK_SECONDS = 30.0
DOWNLOAD_SECONDS = 6 * 3600.0  # of one attempt; the next one goes on where it stopped
STALL_SECONDS = 60.0  # a download that brings nothing for so long is broken off
LARGEST_ANSWER = 64 * 1024 * 1024  # a manifest of a hundred thousand files
_TARGET = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/%?\[\]|]*)?", re.ASCII)


class Reply(NamedTuple):
    """An answer whatever its status; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Place(NamedTuple):
    """Where a URL leads: a registered origin, and path and query there."""

    route: Route
    target: str


class Origins:
    """The servers that an import may call."""

    def __init__(self, bases: Sequence[str], networks: tuple[str, ...] = (), ca_file: str | None = None) -> None:
        """Raises InputError when a base is odd or not https (outside this machine)."""
        self._routes: dict[Base, Route] = {}
        for url in bases:
            try:
                base = parse_base(url)
            except ValueError as problem:
                raise InputError(f"{url}: {problem}") from None
            if base.scheme != "https" and not base.is_loopback:
                raise InputError(f"{url}: only https is called outside this machine")
            self._routes[base._replace(path="")] = Route(base, networks, ca_file)

    def place_of(self, url: str, what: str) -> Place:
        """Where this URL of ``what`` leads. Raises InputError when it is odd or its origin is not registered."""
        try:
            parts = urlsplit(url)
            origin = parse_base(f"{parts.scheme}://{parts.netloc}")
        except ValueError as problem:
            raise InputError(f"the URL of {what} is not called: {problem}") from None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not _TARGET.fullmatch(target) or parts.fragment:
            raise InputError(f"the URL of {what} is not called: it holds characters that have no place in a URL")
        if any(unquote(part) in (".", "..") for part in parts.path.split("/")):
            raise InputError(f"the URL of {what} is not called: its path holds dot segments")
        route = self._routes.get(origin)
        if route is None:
            raise InputError(
                f"{what} is at {origin}, which is not registered: give --also {origin} if it may be called"
            )
        return Place(route, target)


def ask(place: Place, method: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
    """One request and its whole answer. Raises Unreachable."""
    with (
        cutting_itself(ASK_SECONDS) as deadline,
        Line(place.route, deadline, {}) as line,
        line.asking(method, place.target, headers, body) as answer,
    ):
        if 300 <= answer.status < 400:
            raise Unreachable(Trouble.REDIRECT)
        content = line.body_of(answer, LARGEST_ANSWER, LARGEST_ANSWER)
        return Reply(answer.status, _small(answer.headers), content)


@contextmanager
def download(place: Place, headers: Mapping[str, str]) -> Iterator[tuple[Reply, Iterator[bytes]]]:
    """The head of an answer (its ``body`` is empty), and the bytes as they are on the wire, for the block to read.

    Raises Unreachable, also when the bytes end before their time; an OSError within the block counts as that.
    """
    with (
        cutting_itself(DOWNLOAD_SECONDS) as deadline,
        Line(place.route, deadline, {}) as line,
        line.asking("GET", place.target, headers, patience=STALL_SECONDS) as answer,
    ):
        if 300 <= answer.status < 400:
            raise Unreachable(Trouble.REDIRECT)

        def pieces() -> Iterator[bytes]:
            while piece := answer.read(PIECE, decode_content=False):
                yield piece
            if deadline.passed:  # a connection that was cut looks like a body that ended
                raise Unreachable(Trouble.TIMEOUT)

        yield Reply(answer.status, _small(answer.headers), b""), pieces()


def _small(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
