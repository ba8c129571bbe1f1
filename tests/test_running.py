"""The running service under granian (the default) and gunicorn: workers, stop, restart, slow callers, any bytes."""

from __future__ import annotations

import http.client
import json
import random
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from serving import (
    COMMANDS,
    HEAD,
    PATH,
    SAMPLE,
    Load,
    Service,
    beside_dripping,
    beside_half_open,
    milliseconds,
    rolling_restart,
    running,
    workers_of,
)

SERVERS = sorted(COMMANDS)
STOPPING = {"granian": "Shutting down granian", "gunicorn": "Handling signal"}  # what each logs when told to stop
ALLOWED_MILLISECONDS = 100


@pytest.fixture(scope="module", params=SERVERS)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp(request.param), request.param, workers=2) as service:
        yield service


@pytest.fixture(scope="module", params=SERVERS)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp(request.param), request.param) as service:
        milliseconds(service, 50)
        yield service


def answers(service: Service) -> float:
    """How many calls of the service /metrics knows."""
    _, text = service.ask("GET", "/metrics")
    return sum(float(found) for found in re.findall(rb"^cds_decision_seconds_count (\S+)", text, re.MULTILINE))


def test_the_counters_of_all_workers_are_added_up(two: Service) -> None:
    before = answers(two)
    threads = [threading.Thread(target=two.call) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(workers_of(two.process.pid)) >= 2
    assert {answers(two) - before for _ in range(10)} == {40.0}
    _, text = two.ask("GET", "/metrics")
    assert b'cds_rule_probe{rule="clustered-awake-jerks"} 1.0' in text
    assert b"pid=" not in text


def test_a_rolling_restart_under_load_fails_no_call(two: Service) -> None:
    counted = answers(two)
    with Load(two, 4) as load:
        load.until_more(10)
        rolling_restart(two)
        load.until_more(10)
    assert load.failures == []
    two.until_ready()
    assert answers(two) >= counted + load.calls  # what ended workers have counted stays


@pytest.mark.parametrize("server", SERVERS)
def test_a_stop_answers_what_is_under_way_and_writes_what_waits(server: str, tmp_path: Path) -> None:
    with running(tmp_path, server, workers=2) as service:
        assert [service.call() for _ in range(20)] == [200] * 20
        with service.connect() as connection:
            connection.sendall(HEAD.encode() + SAMPLE[:1000])
            service.until_read(connection)  # the call is under way
            service.process.terminate()
            service.until_said(STOPPING[server])
            connection.sendall(SAMPLE[1000:])
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, len(json.loads(answer.read())["cards"])) == (200, 2)
        assert service.process.wait(60) == 0
        with pytest.raises(OSError, match="refused"):
            service.connect()
    with closing(sqlite3.connect(service.database)) as database:
        assert database.execute("SELECT count(*) FROM decisions").fetchone() == (21,)


def test_half_open_connections_slow_nobody_down(one: Service) -> None:
    usual, pressed = beside_half_open(one, 300, 150)
    assert pressed - usual < ALLOWED_MILLISECONDS


@pytest.mark.parametrize("clients", [1, 20])
def test_clients_that_drip_slow_nobody_down(one: Service, clients: int) -> None:
    usual, pressed = beside_dripping(one, clients, 150)
    assert pressed - usual < ALLOWED_MILLISECONDS


ODD = [
    b"\x00" * 50, b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n",
    b"GET http://other.example/ HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
    b"GET /?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a/" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(300)) + b"\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" % PATH.encode(),
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n{}   " % PATH.encode(),
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % PATH.encode(),
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" % PATH.encode(),
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n" % PATH.encode(),
    b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" % PATH.encode(),
    b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe\r\nX-Request-Id: \xff\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /cds-services/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip


def shuffled(number: int) -> bytes:
    """A good request with some of its bytes exchanged, taken out or doubled."""
    chance = random.Random(number)
    found = bytearray(HEAD.encode() + SAMPLE)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(HEAD) + 40)
        match chance.randrange(3):
            case 0:
                found[place] = chance.randrange(256)
            case 1:
                del found[place]
            case 2:
                found[place:place] = found[place : place + 5]
    return bytes(found)


def status_line(service: Service, sent: bytes) -> bytes:
    """What comes back first; empty when the connection is closed, or kept open for more, without a word."""
    with service.connect() as connection:
        connection.settimeout(0.5)
        try:
            connection.sendall(sent)
            return connection.recv(4096).split(b"\r\n")[0]
        except (TimeoutError, ConnectionError):
            return b""


def test_any_bytes_are_answered_without_5xx_and_leave_it_well(one: Service) -> None:
    seen = {sent: status_line(one, sent) for sent in [*ODD, *(shuffled(number) for number in range(60))]}
    # 501 is what RFC 9112 (6.1) wants of a server that does not know the transfer coding; gunicorn says so itself.
    wrong = {sent[:80]: line for sent, line in seen.items() if re.match(rb"HTTP/\S+ (?!501)5", line)}
    assert wrong == {}
    assert sum(line.startswith(b"HTTP/1") for line in seen.values()) > len(seen) / 2
    assert (one.call(), one.call("GET", "/healthz", None)) == (200, 200)
    assert b"Traceback" not in one.log.read_bytes()


def test_every_line_of_the_log_is_json(one: Service) -> None:
    lines = one.log.read_text(encoding="utf-8").splitlines()
    assert {"answered"} < {json.loads(line)["event"] for line in lines}
