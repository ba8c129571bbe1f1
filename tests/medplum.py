"""A real FHIR R4 server on this machine: Medplum's engine, in memory (tests/client/fhir.mjs)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

CLIENT = Path(__file__).parent / "client"
ACCESS = "access-4c1b"


class Medplum:
    """The server. Only requests with the token ACCESS get in."""

    def __init__(self, base: str, printed: Path) -> None:
        self.base = base
        self._printed = printed

    def asked(self) -> list[str]:
        """Each request that was let in, such as ``GET /fhir/R4/Patient/p1``."""
        return self._printed.read_text().splitlines()[1:]

    def ask(self, method: str, place: str, resource: Mapping[str, Any] | None = None) -> Any:
        """The answer to a request that succeeds."""
        headers = {"Authorization": f"Bearer {ACCESS}"}
        answer = requests.request(method, f"{self.base}/{place}", json=resource, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def take(self, request: Mapping[str, Any]) -> None:
        """Hold every resource of a CDS Hooks request's prefetch."""
        for value in request["prefetch"].values():
            for resource in [entry["resource"] for entry in value.get("entry", [])] or [value]:
                if resource["resourceType"] != "Bundle":
                    self.ask("PUT", f"{resource['resourceType']}/{resource['id']}", resource)


@contextmanager
def running_medplum() -> Iterator[Medplum]:
    """The server for a while, empty at first."""
    if not (CLIENT / "node_modules" / "@medplum").is_dir():
        pytest.fail("Medplum's FHIR engine is not installed: make test does it, or npm ci in tests/client")
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        with printed.open("wb") as output:
            server = subprocess.Popen(["node", "fhir.mjs", ACCESS], cwd=CLIENT, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60
            while not printed.read_text().endswith("/R4\n"):
                assert server.poll() is None and time.monotonic() < deadline, printed.read_text()
                time.sleep(0.05)
            yield Medplum(printed.read_text().strip(), printed)
        finally:
            server.terminate()
            server.wait(15)
