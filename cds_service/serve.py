"""The running service: granian's workers, and a first sample answer for whoever just started it."""

from __future__ import annotations

import os
import threading
import time
from importlib.resources import files

import orjson
from granian import Granian
from granian.constants import Interfaces
from rich.console import Console
from rich.markdown import Markdown

from cds_service.errors import InputError
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.settings import Settings
from cds_service.trust.outbound import call_loopback

SAMPLE = "clustered-awake-jerks.json"
PATIENCE = 20.0


def run(settings: Settings, out: Console, *, show_sample: bool) -> None:
    """Serve until stopped. The workers read the same settings from the environment."""
    for name, value in settings.model_dump(mode="json").items():
        if value is not None:
            os.environ[f"CDS_{name.upper()}"] = str(value)
    server = Granian(
        "cds_service.app:worker_app",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        workers=settings.workers,
        websockets=False,
        log_access=False,
        respawn_failed_workers=True,
    )
    if show_sample:
        threading.Thread(target=_show_first_answer, args=(settings, out), daemon=True).start()
    server.serve()


def _show_first_answer(settings: Settings, out: Console) -> None:
    base = f"http://{settings.host}:{settings.port}"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if call_loopback("GET", f"{base}/healthz").status == 200:
                break
        except InputError:
            if time.monotonic() > deadline:
                return
        time.sleep(0.1)
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
