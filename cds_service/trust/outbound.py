"""The only module that opens a socket. What it may call, and for how long, the caller has decided before.

A request through ``Line`` goes to a registered base, at an address that was judged before it was connected to, without
redirects, proxies or credentials of the environment, and reads no more than it was told to.
"""

from __future__ import annotations

import functools
import logging
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from ipaddress import ip_address
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from cds_service.errors import InputError
from cds_service.trust.addresses import Base, may_call
from cds_service.trust.deadline import Deadline
from cds_service.trust.trouble import Trouble, Unreachable

SECONDS = 5.0
LARGEST = 8 * 1024 * 1024
LARGEST_ON_THE_WIRE = 2 * 1024 * 1024
LARGEST_INFLATED = 8 * 1024 * 1024
PIECE = 64 * 1024
LONGEST_READ = 3600.0  # seconds; the deadline is what counts
JSON_TYPES = ("application/fhir+json", "application/json", "application/json+fhir", "application/jwk-set+json")
logging.getLogger("urllib3").setLevel(logging.WARNING)  # it would log URLs, and they name patients


class Route:
    """Where a base is: its addresses, looked up once and all judged, and the authority that vouches for its name."""

    def __init__(self, base: Base, networks: tuple[str, ...] = (), ca_file: str | None = None) -> None:
        self.base = base
        self._networks = networks
        self.ca_file = ca_file
        self._lock = threading.Lock()
        self._addresses: tuple[str, ...] | None = None

    def addresses(self) -> tuple[str, ...]:
        """The addresses of the host. Raises Unreachable when there is none, or when any of them may not be called."""
        with self._lock:
            if self._addresses is None:
                try:
                    found = socket.getaddrinfo(self.base.host, self.base.port, type=socket.SOCK_STREAM)
                except (OSError, UnicodeError):
                    raise Unreachable(Trouble.CONNECTION) from None
                self._addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
            if not self._addresses or not all(may_call(address, self._networks) for address in self._addresses):
                raise Unreachable(Trouble.ADDRESS)
            return self._addresses


@functools.cache
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and name checked; loading the authorities takes milliseconds, so once."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _connect(connection: HTTPConnection, addresses: tuple[str, ...], deadline: Deadline) -> socket.socket:
    for address in addresses:
        if deadline.passed:
            break
        try:
            return socket.create_connection((address, connection.port), timeout=deadline.left or 0.001)
        except TimeoutError:
            raise Unreachable(Trouble.TIMEOUT) from None
        except OSError:
            continue
    raise Unreachable(Trouble.TIMEOUT if deadline.passed else Trouble.CONNECTION)


class _PlainLine(HTTPConnection):
    """A connection to one of the addresses that were judged, whatever the name says by now."""

    addresses: tuple[str, ...] = ()
    line: Line

    def _new_conn(self) -> socket.socket:
        return self.line.hold(_connect(self, self.addresses, self.line.deadline))


class _TlsLine(HTTPSConnection):
    """The same with TLS; name and certificate are checked against the host's name, not the address."""

    addresses: tuple[str, ...] = ()
    line: Line

    def _new_conn(self) -> socket.socket:
        return self.line.hold(_connect(self, self.addresses, self.line.deadline))


class Line:
    """One connection for several requests to one base, one after another, all before one deadline."""

    def __init__(self, route: Route, deadline: Deadline, headers: Mapping[str, str]) -> None:
        """``headers`` go with every request; with a token among them they live as long as this line."""
        self.deadline = deadline
        self._route = route
        self._headers = {**headers, "Accept-Encoding": "gzip, identity", "User-Agent": "cds-service"}
        self._connection: _PlainLine | _TlsLine | None = None
        self._held: socket.socket | None = None

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:  # fmt: skip
        self._hang_up()

    def hold(self, connected: socket.socket) -> socket.socket:
        """Keep a second handle on a new socket: TLS takes the first one away, and the deadline has to cut it."""
        if self._held is not None:
            self._held.close()
        self._held = connected.dup()
        return connected

    def _cut(self) -> None:
        held = self._held
        if held is not None:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._held is not None:
            self._held.close()
            self._held = None

    def get(self, path: str) -> bytes:
        """The body that the server gives for ``path`` (path and query). Raises Unreachable."""
        with self.asking("GET", path) as answer:
            _judge(answer)
            return self.body_of(answer)

    def post(self, path: str, body: bytes) -> bytes:
        """What the server answers to this body, whose type is among the line's headers. Raises Unreachable."""
        with self.asking("POST", path, body=body) as answer:
            _judge(answer)
            return self.body_of(answer)

    @contextmanager
    def asking(
        self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes | None = None,
        patience: float = LONGEST_READ,
    ) -> Iterator[BaseHTTPResponse]:  # fmt: skip
        """One request; its answer, whatever the status, is read within the block. No redirect is followed.

        ``patience``: seconds that one read may take. Raises Unreachable, also for what breaks off within the block.
        """
        if self.deadline.passed:
            raise Unreachable(Trouble.TIMEOUT)
        try:
            with self.deadline.cutting(self._cut):
                connection = self._open()
                connection.timeout = min(patience, self.deadline.left) or 0.001
                sent = {**self._headers, **headers}
                connection.request(method, path, body, sent, preload_content=False, decode_content=False)
                with closing(connection.getresponse()) as answer:
                    yield answer
                return
        except Unreachable:
            self._hang_up()
            raise
        except ssl.SSLCertVerificationError:
            trouble = Trouble.TLS
        except (HTTPError, HTTPException, OSError, ValueError, zlib.error) as problem:
            certificate = isinstance(problem.__cause__ or problem.__context__, ssl.SSLCertVerificationError)
            trouble = Trouble.TLS if certificate else Trouble.CONNECTION
        self._hang_up()
        raise Unreachable(Trouble.TIMEOUT if self.deadline.passed else trouble)

    def _open(self) -> _PlainLine | _TlsLine:
        if self._connection is None:
            addresses = self._route.addresses()
            base = self._route.base
            connection = (
                _PlainLine(base.host, base.port)
                if base.scheme == "http"
                else _TlsLine(base.host, base.port, ssl_context=_tls(self._route.ca_file))
            )
            connection.addresses = addresses
            connection.line = self
            self._connection = connection
        return self._connection

    def body_of(
        self, answer: BaseHTTPResponse, on_wire: int = LARGEST_ON_THE_WIRE, inflated: int = LARGEST_INFLATED
    ) -> bytes:
        """The body, inflated piece by piece so that no bomb is ever whole in memory. Raises Unreachable."""
        gzip = answer.headers.get("Content-Encoding", "identity").strip().lower() == "gzip"
        inflate = zlib.decompressobj(31)
        parts: list[bytes] = []
        wire = size = 0
        while piece := answer.read(PIECE, decode_content=False):
            wire += len(piece)
            parts.append(inflate.decompress(piece, inflated + 1 - size) if gzip else piece)
            size += len(parts[-1])
            if wire > on_wire or size > inflated or inflate.unconsumed_tail:
                raise Unreachable(Trouble.TOO_LARGE)
        if self.deadline.passed:  # a connection that was cut looks like a body that ended
            raise Unreachable(Trouble.TIMEOUT)
        if gzip and not inflate.eof:
            raise Unreachable(Trouble.CONNECTION)
        return b"".join(parts)


def _judge(answer: BaseHTTPResponse) -> None:
    """Nothing but 200 and JSON is read. Raises Unreachable."""
    if 300 <= answer.status < 400:
        raise Unreachable(Trouble.REDIRECT)
    if answer.status in (401, 403):
        raise Unreachable(Trouble.UNAUTHORIZED)
    if answer.status != 200:
        raise Unreachable(Trouble.STATUS)
    media = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if media not in JSON_TYPES or encoding not in ("identity", "gzip"):
        raise Unreachable(Trouble.CONTENT)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


def call_loopback(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Answer:
    """One HTTP call to a service on this machine: no redirect, no proxy, no credentials of the environment.

    Raises InputError when the address is not a loopback address, or when nobody answers in time.
    """
    import requests  # four megabytes, which no worker needs

    host = urlsplit(url).hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InputError("only an address of this machine is called: use 127.0.0.1")
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.request(
                method, url, data=body, headers=dict(headers), timeout=SECONDS, allow_redirects=False, stream=True
            ) as answer:
                return Answer(answer.status_code, answer.raw.read(LARGEST, decode_content=True))
        except requests.RequestException:
            raise InputError(f"nobody answers at {host}:{urlsplit(url).port}") from None
