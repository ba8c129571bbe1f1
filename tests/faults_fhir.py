"""A faulty FHIR server under load: every call is answered in time, and those who bring their data notice nothing.

`make faults` runs it with 10,000 calls; tests/test_faults_fhir.py with a few. Each fault is met by clients of
their own, FAILURES calls each: with the next one the breaker would leave their server alone, and nothing more be
learnt. Beside them runs a process that sends calls with all their data at a steady pace, with a token and without.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from faulty import Behaviour, FaultyServer, bomb, drips, hangs, http, resets, says, stops_halfway
from forge import claims, jwk, token
from kill9 import JSON, SAMPLE, SERVICE, start
from sqlalchemy import insert
from stubbed_worker import PROGRAM, SLOW

from cds_service.hooks.respond import EVALUATION
from cds_service.store.database import Database
from cds_service.store.schema import clients as clients_table
from cds_service.store.schema_version import upgrade
from cds_service.trust.breaker import FAILURES

LIMIT = 2.5  # seconds within which every call is answered
WORSE = 0.1  # seconds by which the p99 of the calls beside them may grow
AT_ONCE = 24  # calls that wait for a faulty server at one time
PAUSE = 0.04  # seconds between two calls with all their data
USUAL = 500  # such calls before the faults begin
KEY = ec.derive_private_key(20261126, ec.SECP384R1())  # the same in each process; it guards nothing
ISSUER = "https://ehr.example/"
WHOLE: dict[str, Any] = json.loads(SAMPLE)
BUNDLE = {"resourceType": "Bundle", "type": "searchset"}


def behaviours(evil: str) -> Mapping[str, Behaviour]:
    """The faults of one HTTP server; what they lead to is at ``evil``."""
    link = [{"relation": "next", "url": f"{evil}?page=2"}]
    return {
        "hang": hangs,
        "drip": drips(http(b" " * 1000)),
        "reset": resets,
        "half body": stops_halfway,
        "gzip bomb": says(bomb(100), Content_Encoding="gzip"),
        "wrong content": says(b"<html>", media="text/html"),
        "redirect": says(b"", "302 Found", Location=f"{evil}/Procedure"),
        "next link elsewhere": says(json.dumps({**BUNDLE, "link": link}).encode()),
        "500": says(b"{}", "500 Internal Server Error"),
        "401": says(b"{}", "401 Unauthorized"),
    }


class Result(NamedTuple):
    """What was seen; times in seconds. ``elsewhere``: connections to where a server wanted to lead us."""

    calls: int
    late: int
    slowest: Mapping[str, float]
    answers: Mapping[str, int]
    causes: Mapping[str, Mapping[str, int]]
    elsewhere: int
    beside: int
    beside_failed: int
    usual_p99: float
    p99: float
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all that is promised was seen."""
        return not (self.late or self.elsewhere or self.beside_failed) and self.p99 - self.usual_p99 <= WORSE


class Client(NamedTuple):
    """A registered client whose FHIR server has one fault."""

    name: str
    fault: str
    base: str

    @property
    def record(self) -> dict[str, Any]:
        """As it is registered."""
        return {"id": self.name, "name": self.name, "issuer": ISSUER + self.name, "jwks": {"keys": [jwk(KEY, "ec")]},
                "fhir_bases": [self.base], "networks": ["127.0.0.0/8"]}  # fmt: skip


def authorization(url: str, client: str) -> dict[str, str]:
    """The header of a call by this client."""
    return {"Authorization": f"Bearer {token(KEY, claims(iss=ISSUER + client, aud=url))}"}


class Answer(NamedTuple):
    """One call that needed the faulty server."""

    fault: str
    status: int
    seconds: float
    cause: str


def lacking(base: str, *, everything: bool) -> dict[str, Any]:
    """A request without any data, or without the procedures."""
    body = copy.deepcopy(WHOLE)
    body["fhirServer"] = base
    body["fhirAuthorization"] = {"access_token": "x", "token_type": "Bearer", "expires_in": 300}
    if everything:
        body["prefetch"] = {}
    else:
        del body["prefetch"]["procedures"]
    return body


def ask(url: str, client: Client, number: int) -> Answer:
    """Call as this client; every second time without any data. Raises AssertionError for a wrong answer."""
    everything = bool(number % 2)
    headers = {**JSON, **authorization(url, client.name)}
    content = json.dumps(lacking(client.base, everything=everything))
    began = time.monotonic()
    answer = requests.post(url, data=content, headers=headers, timeout=30)
    seconds = time.monotonic() - began
    body = answer.json()
    if everything:
        assert answer.status_code == 412, body
        found = re.search(r"prefetch\.patient: ([^;.]*)", body["issue"][0]["details"]["text"])
        return Answer(client.fault, 412, seconds, found[1] if found else "the patient is not in the answer")
    assert answer.status_code == 200, body
    assert body["cards"][0]["indicator"] == "critical"
    return Answer(client.fault, 200, seconds, body["extension"][EVALUATION]["notFetched"]["procedures"])


def beside(url: str, so_many: int, begin: Event, end: Event, told: Connection) -> None:
    """In a process of its own: calls with all their data, at a steady pace; how long each took, and how many failed."""
    usual: list[float] = []
    during: list[float] = []
    failed = 0
    with requests.Session() as session:
        while not end.is_set():
            for signed in (False, True):
                headers = {**JSON, **(authorization(url, "beside") if signed else {})}
                began = time.monotonic()
                try:
                    answer = session.post(url, data=SAMPLE, headers=headers, timeout=30)
                    failed += answer.status_code != 200 or not answer.json()["cards"]
                except requests.RequestException:
                    failed += 1
                (during if begin.is_set() else usual).append(time.monotonic() - began)
            end.wait(PAUSE)
            if len(usual) >= so_many and not begin.is_set():
                told.send("ready")
                begin.wait()
    told.send((usual, during, failed))


@contextmanager
def faulty_clients(count: int, evil: FaultyServer) -> Iterator[list[Client]]:
    """So many clients; the faults take turns. Their servers answer while the block runs."""
    with ExitStack() as stack:
        behaving = behaviours(evil.base)
        bases = {fault: stack.enter_context(FaultyServer(behave)).base for fault, behave in behaving.items()}
        bases["TLS stall"] = stack.enter_context(FaultyServer(hangs)).base.replace("http", "https", 1)
        faults = [*bases, "slow DNS"]
        clients = []
        for number in range(count):
            fault = faults[number % len(faults)]
            base = bases.get(fault, f"https://n{number}{SLOW}/fhir")
            clients.append(Client(f"c{number}", fault, base))
        yield clients


def register(url: str, known: Sequence[Client]) -> None:
    """A new database that knows these clients."""
    database = Database(url)
    upgrade(database)
    rows = [
        {"id": client.name, "definition": json.dumps(client.record), "enabled": True, "changed_at": "2026-11-26"}
        for client in known
    ]
    with database.writing() as connection:
        connection.execute(insert(clients_table), rows)
    database.close()


def p99(times: Sequence[float]) -> float:
    """The time within which 99 of 100 were answered."""
    return round(quantiles(times, n=100)[98], 4)


def run(calls: int, at_once: int = AT_ONCE, usual: int = USUAL) -> Result:
    """So many calls against faulty servers, after so many usual ones beside."""
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cds-faults-")))
        evil = stack.enter_context(FaultyServer(says(b"{}")))
        clients = stack.enter_context(faulty_clients(calls // FAILURES, evil))
        url = f"sqlite:///{folder}/store.sqlite3"
        register(url, [*clients, Client("beside", "", "https://ehr.example/fhir")])
        process, base = start(url, folder, PROGRAM)
        stack.callback(lambda: (os.killpg(process.pid, signal.SIGKILL), process.wait()))
        spawn = get_context("spawn")
        begin, end, (mine, theirs) = spawn.Event(), spawn.Event(), spawn.Pipe()
        companion = spawn.Process(target=beside, args=(base + SERVICE, usual, begin, end, theirs), daemon=True)
        companion.start()
        theirs.close()  # should the companion fail, its end is heard of
        assert mine.recv() == "ready"
        begin.set()
        with ThreadPoolExecutor(at_once) as pool:
            turns = [(client, number) for number in range(FAILURES) for client in clients]
            answers = list(pool.map(lambda turn: ask(base + SERVICE, *turn), turns))
        end.set()
        before, during, failed = mine.recv()
        companion.join()
    return result_of(answers, before, during, failed, evil.connections, time.monotonic() - began)


def result_of(
    answers: Sequence[Answer], usual: Sequence[float], during: Sequence[float], failed: int, elsewhere: int,
    seconds: float,
) -> Result:  # fmt: skip
    """The figures."""
    causes: dict[str, Counter[str]] = {}
    slowest: dict[str, float] = {}
    for answer in answers:
        causes.setdefault(answer.fault, Counter())[answer.cause] += 1
        slowest[answer.fault] = max(slowest.get(answer.fault, 0.0), round(answer.seconds, 3))
    return Result(
        len(answers), sum(answer.seconds > LIMIT for answer in answers), slowest,
        Counter(str(answer.status) for answer in answers), causes, elsewhere, len(during), failed, p99(usual),
        p99(during), round(seconds, 1),
    )  # fmt: skip


def main() -> None:
    """`make faults`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    arguments = parser.parse_args()
    result = run(arguments.calls, arguments.at_once)
    print(json.dumps({"fhir": "faulty", **result._asdict()}, indent=1), flush=True)
    sys.exit(not result.holds)


if __name__ == "__main__":
    main()
