"""The ASGI front: a request's body is read in full, in memory, before the application is called.

A client that sends its body slowly then holds a few bytes and no worker: WSGI servers with any number of threads
can be held by as many slow clients (measured: docs/decisions/0001-libraries.md). Bodies are capped and timed.

A call that may have to wait for somebody else, a database or a FHIR server, runs in a thread; all others take about
a millisecond and run where they stand. One that runs here is told that it may not wait.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from flask import Flask

from cds_service.web.callers import MAY_WAIT, NO_THREAD

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

IN_MEMORY = ("/cds-services", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/")
BODY_SECONDS = 10.0
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # of a query; what else somebody sends would be no text to a page
WAITING_AT_ONCE = 128


class ClientGone(Exception):
    """The client went away before its body was complete, or sent chunks that are none; servers say the same of both."""


async def _refuse(send: Send, status: int) -> None:
    """An answer without content, after which the connection is closed."""
    headers = [(b"connection", b"close"), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Front:
    """An ASGI application around a WSGI one."""

    def __init__(self, application: Flask, largest_body: int) -> None:
        self.application = application
        self._largest_body = largest_body
        self._threads = ThreadPoolExecutor(WAITING_AT_ONCE, thread_name_prefix="call")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await asyncio.wait_for(self._read(receive), BODY_SECONDS)
        except ClientGone:
            with suppress(Exception):  # of the server's own kinds; usually nobody is there to be told
                await _refuse(send, 400)
            return
        except TimeoutError:
            await _refuse(send, 408)
            return
        environ = environ_of(scope, body)
        environ[MAY_WAIT] = may_wait(environ, body)
        waiting = self._waiting(environ) if environ[MAY_WAIT] else None
        status, headers, content = self._call(environ) if waiting is None else await asyncio.wrap_future(waiting)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, receive: Receive) -> bytes:
        """The body, or so much of it that the application sees it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._largest_body or not message.get("more_body", False):
                return b"".join(parts)

    def _waiting(self, environ: dict[str, Any]) -> Future[Answer] | None:
        """The answer to come, from a thread; None where the machine gives none, and then the call is only refused.

        The pool keeps in its queue what it had no thread for, and makes the call later: unless it is cancelled, or
        runs already.
        """
        answer: Future[Answer] = Future()

        def call() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._call(environ))
                except BaseException as problem:
                    answer.set_exception(problem)

        try:
            self._threads.submit(call)
        except RuntimeError:
            if answer.cancel():
                environ[NO_THREAD] = True
                return None
        return answer

    def _call(self, environ: dict[str, Any]) -> Answer:
        started: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            started[:] = [status, headers]
            return ignore_write

        answer = self.application(environ, start_response)
        try:
            content = b"".join(answer)
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()
        status, headers = started
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return int(status.split(" ", 1)[0]), encoded, content


def may_wait(environ: dict[str, Any], body: bytes) -> bool:
    """Whether answering may need a database (token, feedback, pages), an identity provider or a FHIR server.

    A body that hides the name ``fhirServer`` behind escapes is answered without asking that server.
    """
    if not environ["PATH_INFO"].startswith(IN_MEMORY):
        return True
    if environ["REQUEST_METHOD"] != "POST":
        return "HTTP_AUTHORIZATION" in environ
    return "HTTP_AUTHORIZATION" in environ or b"fhirServer" in body or environ["PATH_INFO"].endswith("/feedback")


def ignore_write(_: bytes) -> object:
    """PEP 3333's imperative ``write``, which Flask never calls."""
    raise RuntimeError("answers are returned, not written")


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment (PEP 3333) of an ASGI HTTP scope."""
    server = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8").decode("latin-1"),
        "QUERY_STRING": quote(scope.get("query_string", b""), safe=PRINTABLE),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": str((scope.get("client") or ("",))[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        key = name.upper().replace("-", "_")
        if key == "TRANSFER_ENCODING":  # the body is whole by now
            continue
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{between}{value}" if key in environ else value
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
