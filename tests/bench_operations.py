"""`make bench`: what operation costs a decision in CPU: its log line, its counters, its rate limits. Aim: a tenth.

Beside deciding a chart of a hundred resources, in one thread's CPU time, as bench_store.py does.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import orjson
import structlog
from bench_service import body_of
from bench_store import AIM, microseconds
from flask import Response, g

from cds_service.app import create_app
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.rules.library import load_library
from cds_service.settings import Settings
from cds_service.web import framing, logs

TIMES = 2000


class Null(io.StringIO):
    """Takes lines and keeps none: what is measured is making them."""

    def write(self, text: str) -> int:
        """As if it was written."""
        return len(text)


def main() -> int:
    """The table; 1 when the aim is not held."""
    lines = structlog.wrap_logger(structlog.PrintLogger(Null()), processors=logs.logger._processors)
    framing.logger = lines
    library = load_library()
    body = body_of(100, "nothing-to-say")
    request = parse_request(body)
    as_of, base = request.as_of or 0, "http://127.0.0.1:8080"
    deciding = microseconds(lambda: orjson.dumps(respond(parse_request(body), library, as_of, base).body), 100)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/bench.sqlite3"
        app = create_app(Settings(database_url=url, calls_per_address=10_000_000, calls_per_client=10_000_000), library)
        health = app.extensions["health"]
        with app.test_request_context("/cds-services/infant-motor-workup", method="POST"):
            g.started, g.client = 0.0, app.extensions["callers"]._visitor
            answer = Response(b"{}", content_type="application/json")
            (finish,) = app.after_request_funcs[None]
            _, address, _, client = app.before_request_funcs[None]
            framed = microseconds(lambda: finish(answer), TIMES)
            line = microseconds(
                lambda: lines.info(
                    "answered", route="hooks.call", status=200, code="", cards=2, method="POST", client="city",
                    milliseconds=1.2, request_id="6a4f1f0e-7f0f-4c8e-9f0e-3f3f8c1d2b10",
                ), TIMES,
            )  # fmt: skip
            rates = microseconds(lambda: (address(), client()), TIMES)

        def count() -> None:
            health.seconds.observe(0.001)
            health.answers.labels("200", "").inc()
            for indicator in ("critical", "warning"):
                health.cards.labels("eeg", indicator).inc()

        counted = microseconds(count, TIMES)
        app.extensions["decision_log"].close()
    share = (line + counted) / deciding
    print(f"decision {deciding:.0f} µs, log line {line:.0f} µs, counters {counted:.0f} µs: {share:.1%} of a decision")
    print(
        f"also: rate limits {rates:.0f} µs; log line, a counter and all headers of an answer together {framed:.0f} µs"
    )
    return int(share > AIM)


if __name__ == "__main__":
    sys.exit(main())
