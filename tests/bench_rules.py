"""`make bench`, second part: what the rules cost of a decision, in one process, as shares of the same run.

"Rules" is every rule evaluated on a record that is there, with the indexes that this builds in it; "decision" is all
from the bytes of the request to the bytes of the answer, without the server and its HTTP.
The cost of one more rule is what every rule a second time adds, divided.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import orjson
from bench_service import CHARTS, body_of

from cds_service.hooks.prefetch import read_prefetch
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import respond
from cds_service.record.binding import bind
from cds_service.record.chart import read_chart
from cds_service.record.patient_record import PatientRecord
from cds_service.rules.library import RuleLibrary, load_library

SIZE = 100
TIMES = 300
ROUNDS = 7
SHARE_ALLOWED = 0.25


def best(work: Callable[[], object], prepare: Callable[[], object] | None = None) -> float:
    """The CPU seconds of one call, the least of several rounds; what ``prepare`` makes is not counted."""
    rounds = []
    for _ in range(ROUNDS):
        spent = 0.0
        for _ in range(TIMES):
            if prepare is not None:
                prepare()
            started = time.process_time_ns()
            work()
            spent += time.process_time_ns() - started
        rounds.append(spent / TIMES / 1e9)
    return min(rounds)


def share_of_rules(library: RuleLibrary, chart: str) -> tuple[float, float, float]:
    """Seconds of a decision, of its rules, and of a decision with every rule twice."""
    sent = body_of(SIZE, CHARTS[chart])
    request = parse_request(sent)
    assert request.as_of is not None
    as_of = request.as_of
    supplied = read_prefetch(request.prefetch, library.sources)
    bound = bind(supplied.sent, request.patient_id, request.fhir_server)
    record: list[PatientRecord] = []

    def read() -> None:
        record[:] = [read_chart(bound, supplied.answered, as_of, library.reading)]

    def decide() -> bytes:
        return orjson.dumps(respond(parse_request(sent), library, as_of, "http://127.0.0.1").body)

    decision = best(decide)
    rules = best(lambda: library.evaluate(record[0]), read)
    once = library.rules
    library.rules = once * 2
    twice = best(lambda: library.evaluate(record[0]), read)
    library.rules = once
    return decision, rules, twice


def main() -> int:
    library = load_library()
    too_dear = []
    print(f"{'chart':>8} {'rules':>6} {'decision ms':>12} {'rules ms':>9} {'share':>6} {'ms per added rule':>18}")
    for chart in CHARTS:
        decision, rules, twice = share_of_rules(library, chart)
        share, added = rules / decision, (twice - rules) / len(library.rules)
        print(
            f"{chart:>8} {len(library.rules):>6} {decision * 1e3:>12.3f} {rules * 1e3:>9.3f} {share:>6.2f}"
            f" {added * 1e3:>18.4f}"
        )
        if share > SHARE_ALLOWED:
            too_dear.append(f"{chart}: the rules take {share:.2f} of a decision, allowed {SHARE_ALLOWED}")
    print("\n".join(too_dear) or "rules within their share")
    return 1 if too_dear else 0


if __name__ == "__main__":
    sys.exit(main())
