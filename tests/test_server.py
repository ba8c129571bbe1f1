"""The running service with real sockets: slow clients, chunked bodies, broken clients, the command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from cds_service.errors import InputError
from cds_service.trust.outbound import call_loopback

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "fixtures" / "clustered-awake-jerks.json").read_bytes()
PATH = "/cds-services/infant-motor-workup"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service started by its command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    environment = {**os.environ, "CDS_DATABASE_URL": f"sqlite:///{folder}/decisions.sqlite3"}
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--port", str(port), "--quiet"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                assert requests.get(f"{address}/healthz", timeout=5).status_code == 200
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, "the service did not start"
        yield address
    finally:
        server.terminate()
        server.wait(15)


def half_sent(base: str) -> socket.socket:
    """A connection whose body never comes to its end."""
    port = int(base.rsplit(":", 1)[1])
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(SAMPLE)}\r\n\r\n"
    connection.sendall(head.encode() + SAMPLE[:100])
    return connection


def test_two_hundred_slow_clients_hold_nobody(base: str) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(half_sent(base))
        answer = requests.post(base + PATH, data=SAMPLE, headers=JSON, timeout=5)
        assert [card["indicator"] for card in answer.json()["cards"]][:1] == ["critical"]


def test_clients_that_go_away_leave_the_service_well(base: str) -> None:
    for _ in range(20):
        half_sent(base).close()
    problems = requests.get(f"{base}/readyz", timeout=5).json()["problems"]
    assert set(problems) <= {"probes: not tried yet"}  # which takes a worker's first second


def test_a_chunked_body_is_read(base: str) -> None:
    parts = (SAMPLE[place : place + 1000] for place in range(0, len(SAMPLE), 1000))
    answer = requests.post(base + PATH, data=parts, headers=JSON, timeout=5)
    assert answer.status_code == 200
    assert answer.json()["cards"]


def test_a_chunked_body_that_is_too_large_is_refused(base: str) -> None:
    answer = requests.post(base + PATH, data=(b" " * 65536 for _ in range(33)), headers=JSON, timeout=5)
    assert (answer.status_code, answer.json()["issue"][0]["details"]["coding"][0]["code"]) == (413, "size")


def test_a_path_that_is_not_ascii_is_not_found(base: str) -> None:
    answer = requests.get(f"{base}/regel/größe", timeout=5)
    assert (answer.status_code, answer.json()["resourceType"]) == (404, "OperationOutcome")


def test_pages_are_served_with_their_style(base: str) -> None:
    for path in ("/", "/rules", "/rules/clustered-awake-jerks"):
        page = requests.get(base + path, timeout=5)
        assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "<script" not in page.text
    assert requests.get(f"{base}/static/page.css", timeout=5).status_code == 200


def test_outbound_calls_this_machine_only() -> None:
    for url in ("http://example.org/", "http://10.0.0.1/", "http://169.254.169.254/latest", "http://[fe80::1]/"):
        with pytest.raises(InputError, match="only an address of this machine"):
            call_loopback("GET", url)


def test_outbound_says_when_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(InputError, match="nobody answers"):
        call_loopback("GET", f"http://127.0.0.1:{port}/")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cds_service.cli", *arguments],
        cwd=ROOT, env={**os.environ, "COLUMNS": "160", **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_explain_shows_outcomes_reasons_and_cards() -> None:
    shown = command("explain", "fixtures/clustered-awake-jerks.json")
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.replace("│", " ").split())  # a cell's lines stand below one another
    for text in ("clustered-awake-jerks", "recommended", "clustered_jerks: true", "Urgent EEG to consider", "MYO-14"):
        assert text in words


def test_explain_reads_ndjson_and_bundles_like_the_hook() -> None:
    first = command("explain", "fixtures/one-infant.ndjson", "--as-of", "2026-11-22", "--json")
    second = command("explain", "fixtures/clonus-both-sides.json", "--json")
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert [rule["outcome"] for rule in one["rules"]] == [rule["outcome"] for rule in two["rules"]]
    assert [c["summary"] for c in one["response"]["cards"]] == [c["summary"] for c in two["response"]["cards"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain", "README.md"), "README.md:1: The body is not valid JSON"),
        (("explain", "fixtures/expected.json"), "it is no CDS Hooks request"),
        (("explain", "fixtures/wrong-patient.json"), "patient.mismatch"),
        (("explain", "tests/units/package.json"), "it is no CDS Hooks request"),
        (("explain", "fixtures/one-infant.ndjson", "--as-of", "2026"), "give a date"),
        (("serve", "--host", "0.0.0.0"), "for this machine only"),
        (("serve", "--profile", "production"), "CDS_PUBLIC_URL: production needs"),
    ],
)
def test_a_refusal_is_one_sentence_without_a_traceback(arguments: tuple[str, ...], said: str) -> None:
    refused = command(*arguments)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(("name", "value"), [("CDS_PORT", "eighty"), ("CDS_DECISION_QUEUE", "0")])
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    refused = command("serve", **{name: value})
    assert (refused.returncode, f"{name}: the value cannot be read" in refused.stderr) == (1, True)


@pytest.mark.parametrize("entry", ['"entry": 3', '"entry": [3]', '"entry": null', '"entry": [{}]'])
def test_a_bundle_that_holds_no_patient_is_refused_in_words(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(f'{{"resourceType": "Bundle", {entry}}}', encoding="utf-8")
    refused = command("explain", str(file))
    assert refused.returncode == 1
    assert "bundle.json: " in refused.stderr
    assert "Traceback" not in refused.stderr
