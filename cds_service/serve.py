"""The running service: granian's workers, and a first sample answer for whoever just started it."""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import ExitStack
from importlib.resources import files
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import orjson
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from rich.console import Console
from rich.markdown import Markdown

from cds_service.errors import InputError
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.settings import SHARED_COUNTS, Settings
from cds_service.trust.outbound import call_loopback
from cds_service.web.logs import LIBRARIES

SAMPLE = "clustered-awake-jerks.json"
PATIENCE = 20.0  # seconds for the service to come up before nothing is shown
PAUSE = 0.1
CONNECTIONS = 4096  # that a worker holds at once; half-open ones are among them
HEADER_MILLISECONDS = 10_000
STOP_SECONDS = 30  # for calls under way when a worker is told to stop


def run(settings: Settings, out: Console, *, show_sample: bool) -> None:
    """Serve until stopped. The workers read the same settings from the environment."""
    for name, value in settings.model_dump(mode="json").items():
        if value is not None:
            os.environ[f"CDS_{name.upper()}"] = str(value)
    share_session_key(settings)
    with ExitStack() as stack:
        if settings.workers > 1 and not os.environ.get(SHARED_COUNTS):
            # Read when prometheus_client is first imported, which nothing has done in this process.
            os.environ[SHARED_COUNTS] = stack.enter_context(TemporaryDirectory(prefix="cds-service-metrics-"))
        server = Granian(
            "cds_service.app:worker_app",
            factory=True,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGINL,
            workers=settings.workers,
            websockets=False,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS),
            backlog=CONNECTIONS,
            backpressure=CONNECTIONS,
            log_access=False,
            log_dictconfig=LIBRARIES,
            respawn_failed_workers=True,
            workers_kill_timeout=STOP_SECONDS,
        )
        if show_sample:
            threading.Thread(target=_show_first_answer, args=(settings, out), daemon=True).start()
        server.serve()


def share_session_key(settings: Settings) -> None:
    """One key for all workers that are started from here: a form of one is sent to another."""
    os.environ["CDS_SESSION_KEY"] = settings.session_key or secrets.token_urlsafe(32)


def _show_first_answer(settings: Settings, out: Console) -> None:
    base = settings.local_url
    deadline = monotonic() + PATIENCE
    while not _is_there(base):
        if monotonic() > deadline:
            return
        sleep(PAUSE)
    url = f"{base}/cds-services/{SERVICE_ID}"
    body = files("fixtures").joinpath(SAMPLE).read_bytes()
    answer = call_loopback("POST", url, body, {"Content-Type": "application/json"})
    out.print(
        f"\nPages      {base}/\nDiscovery  {base}/cds-services\nService    {url}   (POST)\nHealth     {base}/readyz"
    )
    out.print(f"\nA sample request (fixtures/{SAMPLE}) and its first card:\n")
    out.print(f"curl -s -H 'Content-Type: application/json' --data @fixtures/{SAMPLE} {url}\n", soft_wrap=True)
    if answer.status == 200:
        card = orjson.loads(answer.body)["cards"][0]
        out.print(f"[{card['indicator']}] {card['summary']}", style="bold", markup=False)
        out.print(Markdown(card["detail"]))
    else:
        out.print(f"The sample was answered with {answer.status}; see /readyz.", style="bold red")
    out.print("\nStop with Ctrl-C.")


def _is_there(base: str) -> bool:
    try:
        return call_loopback("GET", f"{base}/healthz").status == 200
    except InputError:
        return False
