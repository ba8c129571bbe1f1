"""The running service: docs/trust.md as an integrator walks it, and a dead FHIR server beside good callers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from faulty import FaultyServer, hangs

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "fixtures" / "clustered-awake-jerks.json"
REGISTER, SERVE, CALL = re.findall(
    r"```sh\n(.*?)```", (ROOT / "docs" / "trust.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of both terminals: a free port, and our commands on the path."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bin_folder = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CDS_")}
    return {**kept, "CDS_PORT": str(port), "PATH": f"{bin_folder}:{os.environ['PATH']}", "SAMPLE": str(SAMPLE)}


def typed(text: str, folder: Path, shell: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", text.replace("8080", shell["CDS_PORT"])], cwd=folder, env=shell, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(folder: Path, shell: dict[str, str]) -> Iterator[str]:
    """The base URL of a service started as the page says."""
    served = subprocess.Popen(
        [*SERVE.split(), "--quiet"], cwd=folder, env=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"http://127.0.0.1:{shell['CDS_PORT']}/healthz", timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, "the service did not start"
        yield f"http://127.0.0.1:{shell['CDS_PORT']}"
    finally:
        served.terminate()
        served.wait(15)


@pytest.fixture
def walked(tmp_path: Path, shell: dict[str, str]) -> Iterator[str]:
    """What the last block prints, while the service still runs."""
    assert "key " in typed(REGISTER, tmp_path, shell)
    with serving(tmp_path, shell):
        yield typed(CALL, tmp_path, shell)


def test_an_integrator_gets_a_card_with_a_token_and_sends_feedback(
    walked: str, tmp_path: Path, shell: dict[str, str]
) -> None:
    said, _, answer = walked.partition("\n")
    assert said == "good: client my-ehr"
    card = json.loads(answer)["cards"][0]
    assert card["indicator"] == "critical"
    service = f"http://127.0.0.1:{shell['CDS_PORT']}/cds-services/infant-motor-workup"
    make = ["cds-service", "token", "make", "my-ehr", "--key", "ehr-keys/private.pem"]

    def sent(url: str, body: object, audience: str) -> requests.Response:
        made = subprocess.run([*make, "--url", audience], cwd=tmp_path, env=shell, capture_output=True, text=True)
        return requests.post(url, json=body, headers={"Authorization": f"Bearer {made.stdout.strip()}"}, timeout=10)

    entry = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-11-26T10:00:00Z"}
    feedback = sent(f"{service}/feedback", {"feedback": [entry]}, f"{service}/feedback")
    assert (feedback.status_code, feedback.json()["accepted"]) == (200, 1)
    assert sent(f"{service}/feedback", {"feedback": [entry]}, service).status_code == 401
    assert sent(service, json.loads(SAMPLE.read_text()), service).status_code == 200


def test_a_dead_fhir_server_holds_nobody_who_brings_the_data(tmp_path: Path, shell: dict[str, str]) -> None:
    whole = json.loads(SAMPLE.read_text())
    with FaultyServer(hangs) as dead, ThreadPoolExecutor(30) as pool:
        lacking = {**whole, "prefetch": {}, "fhirServer": dead.base, "fhirAuthorization": {"access_token": "x"}}
        with serving(tmp_path, {**shell, "CDS_SANDBOX_FHIR_BASES": dead.base}) as base:
            url = f"{base}/cds-services/infant-motor-workup"

            def timed(body: object) -> tuple[int, float]:
                started = time.monotonic()
                status = requests.post(url, json=body, timeout=10).status_code
                return status, time.monotonic() - started

            waiting = [pool.submit(timed, lacking) for _ in range(30)]
            deadline = time.monotonic() + 5
            while not dead.connections:
                assert time.monotonic() < deadline
            beside = [timed(whole) for _ in range(20)]
            assert not all(one.done() for one in waiting)
            held = [one.result() for one in waiting]
    assert {status for status, _ in beside} == {200}
    assert max(seconds for _, seconds in beside) < 0.5
    assert {status for status, _ in held} == {412}
    assert max(seconds for _, seconds in held) < 2.5
