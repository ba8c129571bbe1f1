"""`python tests/bench_pages.py [URL]`: server time and queries of each page of the desk over 100,000 decisions.

Without a URL a SQLite file is seeded first, which takes a minute. The time is the CPU time of this process, which does
the database's work too: the best of seven, as others' work on the machine slows this too, after one that fills what a
worker keeps. At most 300 ms for a page.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from desk_pages import COMPARED, OF_LOGIN, RULE, RUN, WITH_CARDS, audited, filled, pages, release_before
from flask import Flask
from seed_decisions import END, seed
from sqlalchemy import event
from wire import URL, sample

from cds_service.app import COLLECT, create_app
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.settings import Settings
from cds_service.store.analytics import totals
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.store.search import Filters, search

DECISIONS = 100_000
AIM = 0.300
ROUNDS = 7
ONE_INFANT = "/audits/<run>/infants/<name>"
MORE = ("", f"&rule={RULE}", "&client=ehr-north")


class Cost(NamedTuple):
    """What one page took: seconds of CPU, queries, bytes."""

    seconds: float
    queries: int
    size: int


def opened(url: str, library: RuleLibrary, **more: Any) -> Flask:
    """A sandbox at the end of the seeded weeks, which has just decided on a sample."""
    app = create_app(Settings(database_url=url, public_url="https://cds.example", **more), library, lambda: END)
    answer = app.test_client().post(URL, json=sample(WITH_CARDS))
    assert answer.status_code == 200, answer.text
    app.extensions["decision_log"].close()
    return app


def paths(app: Flask) -> list[str]:
    """Every page, those that look at many decisions in several ways."""
    database = app.extensions["database"]
    (infant, *_) = app.test_client().get(f"/audits/{RUN}/infants?format=json").get_json()["infants"]
    newest = search(database, Filters(client=""), 1)[0].id
    busiest = search(database, Filters(until=END.isoformat(), indicator="critical"), 1)[0]
    often = totals(database, "", "", kinds=["rule"]).of("rule")
    rule, outcome = max(often, key=lambda key: often[key])
    return [
        *(filled(route, number=newest) for route in pages() if route not in {*OF_LOGIN, ONE_INFANT}),
        filled(ONE_INFANT, name=infant["infant"]), COMPARED,
        *(f"/analytics?weeks={weeks}{more}" for weeks in (4, 12, 26) for more in MORE),
        f"/decisions/{busiest.id}", f"/decisions?pseudonym={busiest.pseudonym}",
        f"/decisions?request_id={busiest.request_id}", f"/decisions?rule={rule}&outcome={outcome}",
        f"/decisions?rule={rule}&feedback=overridden", "/decisions?indicator=critical", "/decisions?feedback=none",
        "/decisions?client=clinic-hill", "/decisions?since=2026-08-03&until=2026-08-09", "/decisions?client=nobody",
    ]  # fmt: skip


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that the database is asked meanwhile."""
    asked: list[str] = []

    def ask(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", ask)
    yield asked
    event.remove(database.engine, "before_cursor_execute", ask)


def cost(app: Flask, path: str, rounds: int = ROUNDS) -> Cost:
    """What a page takes, once a worker is warm."""
    client = app.test_client()
    taken, size = [], 0
    with counted(app.extensions["database"]) as asked:
        for _ in range(rounds + 1):
            asked.clear()
            began = time.process_time()
            answer = client.get(path)
            while answer.status_code == 202:  # it is worked out once
                asked.clear()
                answer = client.get(path)
            taken.append(time.process_time() - began)
            size = len(answer.data)
            assert answer.status_code == 200, (path, answer.status_code)
    return Cost(min(taken[-rounds:]), len(asked), size)


def table(app: Flask, asked: Sequence[str]) -> int:
    """Print a row for each page; how many are over the aim."""
    slow = 0
    for path in asked:
        found = cost(app, path)
        slow += found.seconds > AIM
        print(f"{path:<80}{found.seconds * 1000:>7.0f} ms{found.queries:>4} queries{found.size // 1024:>6} KB"
              f"{'  too slow' if found.seconds > AIM else ''}", flush=True)  # fmt: skip
    return slow


def main() -> None:
    """The table; ends with 1 when a page takes longer than the aim."""
    library = load_library()
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder)}/bench.sqlite3"
        if len(sys.argv) < 2:
            database = Database(url)
            upgrade(database)
            print(json.dumps(seed(database, DECISIONS, library=library)._asdict()))
            database.close()
        app = opened(
            url, library, releases_dir=release_before(Path(folder)), audits_dir=audited(Path(folder))
        )  # fmt: skip
        gc.freeze()
        gc.set_threshold(*COLLECT)  # as a worker does
        slow = table(app, paths(app))
        app.extensions["database"].close()
    sys.exit(slow > 0)


if __name__ == "__main__":
    main()
