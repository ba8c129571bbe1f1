"""A FHIR Bulk Data export server on this machine, strictly by the specifications, with faults on demand.

FHIR Bulk Data Access 2.0 (kick-off, status, files, deletions, removal of the job), SMART Backend Services (assertion
with ES384 or RS384, aud, at most 300 s, each jti once), RFC 9110 (Range, If-Range, ETag, Retry-After).
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import jwt

Answer = tuple[int, Mapping[str, str], bytes]
Fault = Callable[["BulkServer", "Asked"], Answer | None]
TIME = "2026-11-22T10:00:00Z"
START = 1_800_000_000.0  # seconds since 1970, of the clock that both sides have


class Asked(NamedTuple):
    """One request: method, path with query, headers in small letters."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class BulkServer:
    """Listens while the block runs. ``files``: the lines of the export, by type.

    ``faults``: by path prefix, called before the true answer; what one returns is the answer.
    """

    def __init__(self, files: Mapping[str, list[bytes]], public_key: Any = None, polls: int = 1) -> None:
        self.files = {f"{kind}-{number}": lines for number, (kind, lines) in enumerate(files.items())}
        self.deleted: list[bytes] = []
        self.errors: list[bytes] = []
        self.polls = polls
        self.time = TIME
        self.now = START
        self.packed = False
        self.cut: dict[str, int] = {}  # the file of this path ends after so many bytes, once
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[Asked] = []
        self.jobs: dict[str, int] = {}
        self.manifest_changes: dict[str, Any] = {}
        self.public_key = public_key
        self.tokens: set[str] = set()
        self.seen: set[str] = set()
        self.scopes: list[str] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.origin = f"http://127.0.0.1:{self._http.server_port}"
        self.base = f"{self.origin}/fhir"

    def __enter__(self) -> BulkServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def fault(self, prefix: str, *faults: Fault) -> None:
        """The next requests below this path are answered so, one after another."""
        self.faults.setdefault(prefix, []).extend(faults)

    def count(self, method: str, prefix: str) -> int:
        """How often it was asked."""
        return sum(asked.method == method and asked.path.startswith(prefix) for asked in self.asked)

    def answer(self, asked: Asked, body: bytes) -> Answer:
        with self._lock:
            self.asked.append(asked)
            for prefix, faults in self.faults.items():
                if asked.path.startswith(prefix) and faults:
                    found = faults.pop(0)(self, asked)
                    if found is not None:
                        return found
            return self._answer(asked, body)

    def _answer(self, asked: Asked, body: bytes) -> Answer:
        if asked.path == "/fhir/.well-known/smart-configuration":
            said = {"token_endpoint": f"{self.origin}/token", "capabilities": ["client-confidential-asymmetric"]}
            return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()
        if asked.path == "/token":
            return self._token(asked, body)
        files = asked.path.startswith("/files/")
        if self.public_key is not None and not (files and not self.needs_token):
            if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
                return outcome(401, "login")
        elif "authorization" in asked.headers:
            return outcome(400, "security")  # a token that nobody asked for
        if asked.path.endswith("/$export"):
            return self._kick_off(asked)
        if asked.path.startswith("/jobs/"):
            return self._job(asked)
        if files and asked.method == "GET":
            return self._file(asked)
        return outcome(404, "not-found")

    @property
    def needs_token(self) -> bool:
        return bool(self.manifest_changes.get("requiresAccessToken", self.public_key is not None))

    def _token(self, asked: Asked, body: bytes) -> Answer:
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        try:
            assert asked.method == "POST" and asked.headers["content-type"] == "application/x-www-form-urlencoded"
            assert form["grant_type"] == "client_credentials" and form["client_assertion_type"] == kind
            assert "client_id" not in form
            options: Any = {"require": ["iss", "sub", "aud", "exp", "jti"], "verify_exp": False, "verify_iat": False}
            claims = jwt.decode(form["client_assertion"], self.public_key, ["ES384", "RS384"],
                                audience=f"{self.origin}/token", options=options)  # fmt: skip
            header = jwt.get_unverified_header(form["client_assertion"])
            assert header["typ"] == "JWT" and header["kid"]
            assert claims["iss"] == claims["sub"] == "us"
            assert self.now < claims["exp"] <= self.now + 300
            assert claims["jti"] not in self.seen
        except (AssertionError, KeyError, jwt.PyJWTError):
            return 400, {"Content-Type": "application/json"}, b'{"error": "invalid_client"}'
        self.seen.add(claims["jti"])
        self.scopes.append(form["scope"])
        token = f"access-{len(self.seen)}"
        self.tokens.add(token)
        said = {"access_token": token, "token_type": "bearer", "expires_in": 300, "scope": form["scope"]}
        return 200, {"Content-Type": "application/json", "Cache-Control": "no-store"}, json.dumps(said).encode()

    def _kick_off(self, asked: Asked) -> Answer:
        accept, prefer = asked.headers.get("accept"), asked.headers.get("prefer")
        if asked.method != "GET" or accept != "application/fhir+json" or prefer != "respond-async":
            return outcome(400, "invalid")
        job = f"/jobs/{len(self.jobs) + 1}"
        self.jobs[job] = self.polls
        return 202, {"Content-Location": self.origin + job}, b""

    def _job(self, asked: Asked) -> Answer:
        left = self.jobs.get(asked.path)
        if left is None:
            return outcome(404, "not-found")
        if asked.method == "DELETE":
            del self.jobs[asked.path]
            return 202, {}, b""
        if left:
            self.jobs[asked.path] = left - 1
            return 202, {"X-Progress": "35 % of Baby Smith", "Retry-After": "7"}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(self.manifest()).encode()

    def manifest(self) -> dict[str, Any]:
        """What the export brought."""

        def listed(name: str, kind: str, lines: list[bytes]) -> dict[str, Any]:
            return {"type": kind, "url": f"{self.origin}/files/{name}?sig=a%2Fb", "count": len(lines)}

        found = {
            "transactionTime": self.time, "request": f"{self.base}/Patient/$export",
            "requiresAccessToken": self.needs_token,
            "output": [listed(name, name.partition("-")[0], lines) for name, lines in self.files.items()],
            "deleted": [listed("deleted", "Bundle", self.deleted)] if self.deleted else [],
            "error": [listed("error", "OperationOutcome", self.errors)] if self.errors else [],
        }  # fmt: skip
        return found | self.manifest_changes

    def content(self, name: str) -> bytes:
        """A file as it goes over the wire."""
        lines = {"deleted": self.deleted, "error": self.errors}.get(name, self.files.get(name, []))
        plain = b"".join(line + b"\n" for line in lines)
        return gzip.compress(plain, mtime=0) if self.packed else plain

    def _file(self, asked: Asked) -> Answer:
        name = asked.path.removeprefix("/files/")
        content, etag = self.content(name), f'"{name}-{self.time}"'
        headers = {"Content-Type": "application/fhir+ndjson", "ETag": etag}
        if self.packed:
            headers["Content-Encoding"] = "gzip"
        if "range" in asked.headers and asked.headers.get("if-range") == etag:
            first = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return outcome(416, "invalid")
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return 206, headers, content[first:]
        return 200, headers, content


def says(status: int, code: str = "", **headers: str) -> Fault:
    """This status, with an OperationOutcome when there is a code."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def fault(_: BulkServer, __: Asked) -> Answer:
        if not code:
            return status, named, b"gateway"
        found = outcome(status, code)
        return status, {**found[1], **named}, found[2]

    return fault


def outcome(status: int, code: str) -> Answer:
    """An OperationOutcome, whose words are not for any log."""
    issue = {"severity": "error", "code": code, "diagnostics": "Baby Smith"}
    body = {"resourceType": "OperationOutcome", "issue": [issue]}
    return status, {"Content-Type": "application/fhir+json"}, json.dumps(body).encode()


def http_date(seconds: float) -> str:
    """As HTTP writes it."""
    return formatdate(seconds, usegmt=True)


def _handler(server: BulkServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            status, headers, body = server.answer(asked, self.rfile.read(length))
            self.send_response_only(status)
            for name, value in {"Date": http_date(server.now), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = server.cut.pop(urlsplit(self.path).path, None)
            self.wfile.write(body[:cut])
            self.close_connection = True

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None: ...

    return Handler
