"""A token is good once, whichever worker is asked: the running service, two workers, either database."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Barrier

import pytest
from forge import claims, ec_key, jwk, token
from kill9 import SAMPLE, SERVICE, start
from lacking import lacking

from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.seen_tokens import SeenTokens

RACERS = 64
TOKENS = 5
KEY = ec_key()


@pytest.fixture
def base(url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a service that knows one client, ``main``."""
    database = Database(url)
    upgrade(database)
    database.close()
    known = {"id": "main", "name": "Main", "issuer": "https://ehr.example", "jwks": {"keys": [jwk(KEY, "ec")]}}
    (tmp_path / "clients.json").write_text(json.dumps({"clients": [known]}))
    process, address = start(url, tmp_path, CDS_CLIENTS_FILE=str(tmp_path / "clients.json"))
    yield address
    process.terminate()
    with suppress(ProcessLookupError):
        process.wait(20)
        os.killpg(process.pid, signal.SIGKILL)


def worker_of(connection: HTTPConnection) -> int:
    """The process that has the other end of a connection, by Linux's tables."""
    assert isinstance(connection.sock, socket.socket)
    ours, theirs = connection.sock.getsockname()[1], connection.sock.getpeername()[1]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = f":{theirs:04X}", f":{ours:04X}"
    # The table is read in pieces and changes meanwhile: a line may come twice. An ended connection has no inode.
    (inode,) = {line[9] for line in lines if (line[1][-5:], line[2][-5:]) == wanted} - {"0"}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise AssertionError("nobody has the other end")


def test_64_racing_uses_over_two_workers_let_one_pass(base: str, url: str) -> None:
    if not Path("/proc/net/tcp").exists():
        lacking("which worker has a connection is told by Linux only")
    with ExitStack() as stack, ThreadPoolExecutor(RACERS) as pool:
        connections = [HTTPConnection(base.removeprefix("http://"), timeout=20) for _ in range(RACERS)]
        for connection in connections:
            stack.callback(connection.close)
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
        assert len({worker_of(connection) for connection in connections}) == 2
        together = Barrier(RACERS)

        def use(connection: HTTPConnection, sent: str) -> int:
            headers = {"Authorization": f"Bearer {sent}", "Content-Type": "application/json"}
            together.wait(20)
            connection.request("POST", SERVICE, SAMPLE, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status

        for number in range(TOKENS):
            one = token(KEY, claims(jti=f"race-{number}", aud=base + SERVICE))
            codes = list(pool.map(use, connections, [one] * RACERS))
            assert sorted(codes) == [200] + [401] * (RACERS - 1)
    database = Database(url)
    assert SeenTokens(database).known("main", "race-0")
    database.close()
