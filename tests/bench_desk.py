"""`python tests/bench_desk.py [URL]`: what the desk's questions cost over 100,000 decisions; each under 150 ms.

Without a URL a SQLite file is seeded first, which takes a minute. Of five rounds the best counts; for SQLite, which
works in our thread, its CPU time, so that others' work on the machine does not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from seed_decisions import seed

from cds_service.store.analytics import by_client, daily, releases, totals
from cds_service.store.card_answers import answers
from cds_service.store.database import Database
from cds_service.store.one_decision import decision, decision_by_request
from cds_service.store.schema_version import upgrade
from cds_service.store.search import Filters, count_found, search

DECISIONS = 100_000
AIM = 0.150


def questions(database: Database) -> Mapping[str, Callable[[], object]]:
    """Every function of the desk's store, with filters that pass many, few and none."""
    newest = search(database, Filters(), 1)[0]
    spoken = totals(database, "", "").of("rule")
    often, rare = (pick(spoken, key=lambda key: spoken[key]) for pick in (max, min))
    middle = search(database, Filters(until="2026-08-20"), 1)[0].cursor
    filters = {
        "all": Filters(),
        "a week": Filters(since="2026-08-03", until="2026-08-10"),
        "common outcome": Filters(rule=often[0], outcome=often[1]),
        "rare outcome": Filters(rule=rare[0], outcome=rare[1]),
        "a rule": Filters(rule=often[0]),
        "any rule satisfied": Filters(outcome="satisfied"),
        "any rule raised": Filters(outcome="internal-error"),
        "rule, small client": Filters(rule=often[0], client="clinic-hill"),
        "small client": Filters(client="clinic-hill"),
        "large client": Filters(client="ehr-north"),
        "pseudonym": Filters(pseudonym=newest.pseudonym),
        "request": Filters(request_id=newest.request_id),
        "critical": Filters(indicator="critical"),
        "overridden": Filters(feedback="overridden"),
        "not answered": Filters(feedback="none"),
        "rule overridden": Filters(rule=often[0], feedback="overridden"),
        "nobody": Filters(client="nobody"),
    }
    found: dict[str, Callable[[], object]] = {}
    for name, wanted in filters.items():
        found[f"search: {name}"] = partial(search, database, wanted)
        found[f"search on: {name}"] = partial(search, database, wanted, before=middle)
        found[f"count: {name}"] = partial(count_found, database, wanted)
    return found | {
        "decision": lambda: decision(database, newest.id, None),
        "decision by request": lambda: decision_by_request(database, newest.request_id, None),
        "totals": lambda: totals(database, "", ""),
        "totals of a client": lambda: totals(database, "", "", "ehr-north"),
        "daily rule": lambda: daily(database, "", "", "rule"),
        "daily views": lambda: daily(database, "", "", "views"),
        "by client": lambda: by_client(database, "", ""),
        "releases": lambda: releases(database, "", ""),
        "answers": lambda: answers(database, "", ""),
        "answers of 8 weeks": lambda: answers(database, "2026-09-28", ""),
    }


def best(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of five rounds."""
    rounds = []
    for _ in range(5):
        began = clock()
        work()
        rounds.append(clock() - began)
    return min(rounds)


def main() -> None:
    """The table; ends with 1 when a question takes longer than the aim."""
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[1] if len(sys.argv) > 1 else ""
        database = Database(given or f"sqlite:///{Path(folder)}/bench.sqlite3")
        if not given:
            upgrade(database)
            print(seed(database, DECISIONS))
        clock = time.thread_time if database.url.startswith("sqlite") else time.perf_counter
        slow = 0
        for name, work in questions(database).items():
            seconds = best(work, clock)
            slow += seconds > AIM
            print(f"{name:<34}{seconds * 1000:>8.1f} ms{'  too slow' if seconds > AIM else ''}")
        database.close()
    sys.exit(slow > 0)


if __name__ == "__main__":
    main()
