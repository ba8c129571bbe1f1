"""Hook and audit on every infant of a large made-up population, and the planted truth: run by hand, figures in docs.

``python tests/truth_audit.py --patients 20000``. Exit code 1 when one infant's answer differs, a planted finding is
missed or a near miss is taken for one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path

from test_population_audit import CONTENT, DAY, audit, hook

from cds_service.population.synthetic.synthetic_infants import infants, truth_of, write_population


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=20_000)
    asked = parser.parse_args()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "in", Path(place) / "out"
        write_population(infants(CONTENT, asked.patients, asked.seed, DAY), folder)
        (folder / "truth.ndjson").unlink()
        done = audit(folder, out, "--exact", "--exported", "all", "--workers", "2", "--no-parquet")
        assert done.exit_code == 0, done.output
        with (out / "evaluations.ndjson").open("rb") as rows, (out / "cards.ndjson").open("rb") as cards:
            shown = groupby(map(json.loads, cards), key=lambda row: row["patient"])
            waiting = next(shown, None)
            for chart, line in zip(infants(CONTENT, asked.patients, asked.seed, DAY), rows, strict=True):
                row, said, told = json.loads(line), hook(chart), []
                assert row["patient"] == chart.identity.id
                if waiting is not None and waiting[0] == row["patient"]:
                    told, waiting = [item["card"] for item in waiting[1]], next(shown, None)
                seen["infants"] += 1
                seen["with a card"] += bool(told)
                outcomes = {rule["rule"]: rule["outcome"] for rule in row.get("rules", ())}
                seen["hook and audit differ"] += told != said["cards"] or outcomes != said["outcomes"]
                if row["status"] != "evaluated":
                    seen["not evaluated"] += 1
                    continue
                stated = [item for item in truth_of(chart)["planted"] if "finding" in item]
                wanted = {(item["finding"], item["resource"]) for item in stated if item["status"] == "present"}
                found = {(name, ref) for name, state in row["findings"].items() for ref in state["present"]}
                seen["near misses planted"] += sum(item["status"] != "present" for item in stated)
                seen["findings planted"] += len(wanted)
                seen["findings missed"] += len(wanted - found)
                seen["findings that were not planted"] += len(found - wanted)
    for name, number in seen.items():
        print(f"{name}: {number}")
    wrong = ("hook and audit differ", "findings missed", "findings that were not planted")
    return 1 if any(seen[name] for name in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
