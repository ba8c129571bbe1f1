"""docs/trust.md as an integrator walks it: its commands, in order, against a service started by its command."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

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


@pytest.fixture
def walked(tmp_path: Path, shell: dict[str, str]) -> Iterator[str]:
    """What the last block prints."""
    assert "key " in typed(REGISTER, tmp_path, shell)
    served = subprocess.Popen(
        [*SERVE.split(), "--quiet"], cwd=tmp_path, env=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"http://127.0.0.1:{shell['CDS_PORT']}/healthz", timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, "the service did not start"
        yield typed(CALL, tmp_path, shell)
    finally:
        served.terminate()
        served.wait(15)


def test_an_integrator_gets_a_card_with_a_token_sends_feedback_and_the_token_is_good_once(
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
