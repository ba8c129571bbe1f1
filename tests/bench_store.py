"""`make bench`: what logging a decision costs in CPU, beside deciding it. The aim: at most a tenth.

Held against the aim are charts of a hundred resources and more; six are shown because nothing else costs so little.
Counted is the request's thread (making the record) and the writer's (rows, hashes, insertion), in CPU time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
from bench_service import body_of
from flask import Flask

from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.store.append import append, batch_of, new_chain
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web.recording import decision_of

BATCH = 200
AIM = 0.10


def microseconds(work: Callable[[], object], times: int) -> float:
    """CPU time of this thread for one call, the best of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(times):
            work()
        rounds.append((time.thread_time() - began) / times)
    return min(rounds) * 1e6


def cost(body: bytes, library: RuleLibrary, database: Database) -> tuple[float, float, float]:
    """Microseconds for the decision, for its record on the request's thread, and for writing it on the other."""
    request = parse_request(body)
    as_of = request.as_of or 0
    base = "http://127.0.0.1:8080"
    deciding = microseconds(lambda: orjson.dumps(respond(parse_request(body), library, as_of, base).body), 100)
    response = respond(request, library, as_of, base)
    with Flask(__name__).app_context():
        now = datetime.now(UTC)
        recording = microseconds(lambda: decision_of(request, response, library, "q", now), 300)
        batch = [decision_of(request, response, library, "q", now)] * BATCH
    writing = microseconds(lambda: append(database, batch_of(batch, new_chain(), None)), 3) / BATCH
    return deciding, recording, writing


def main() -> None:
    """The table; ends with 1 when the aim is not held."""
    library, worst = load_library(), 0.0
    print("chart                     resources   decision   record   write   share")
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/bench.sqlite3")
        upgrade(database)
        for name in ("nothing-to-say", "clustered-awake-jerks"):
            for resources in (6, 100, 500):
                deciding, recording, writing = cost(body_of(resources, name), library, database)
                share = (recording + writing) / deciding
                worst = max(worst, share if resources >= 100 else 0)
                print(f"{name:<26}{resources:>8}{deciding:>8.0f} µs{recording:>6.0f} µs{writing:>5.0f} µs{share:>7.1%}")
        database.close()
    sys.exit(worst > AIM)


if __name__ == "__main__":
    main()
