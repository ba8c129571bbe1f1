"""Hook and audit on every patient of a folder, or of a large made-up population with its planted truth: run by hand.

``python tests/truth_audit.py FOLDER [--age 120]`` for any NDJSON; with ``--age`` every chart is moved in time so that
the patient is so many days old. ``python tests/truth_audit.py --patients 20000`` for made-up infants.

Each patient's resources are sorted and searched as an EHR would by ``ehr_prefetch.py``, which shares no code with the
service, and sent to the service's own WSGI app. Exit code 1 when one answer differs, a line is accounted for
otherwise, a planted finding is missed or a near miss is taken for one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from ehr_prefetch import SEARCHED, Ehr, at_age
from test_population_audit import CONTENT, DAY, LIBRARY, audit, summary

from cds_service.app import create_app
from cds_service.hooks.request import AS_OF
from cds_service.hooks.respond import EVALUATION
from cds_service.population.synthetic.synthetic_infants import infants, truth_of, write_population
from cds_service.settings import Settings
from cds_service.store.decision import Decision
from cds_service.web.hooks_api import LARGEST_BODY

Json = dict[str, Any]
UNEQUAL = (
    "lines accounted for otherwise", "hook and audit differ", "findings missed", "findings that were not planted",
)  # fmt: skip


class Hook:
    """The service by HTTP in this process. What it would log tells the outcome of every rule.

    ``too_large``: how many bodies are larger than the service takes; here it takes them all the same.
    """

    def __init__(self, place: Path) -> None:
        app = create_app(Settings(database_url=f"sqlite:///{place}/log.sqlite3", keep_inputs=False), LIBRARY)
        self._logged: list[Decision] = []
        app.extensions["decision_log"].record = self._logged.append
        app.config["MAX_CONTENT_LENGTH"] = None
        self.too_large = 0
        self._client = app.test_client()

    def ask(self, patient: str, prefetch: Json) -> tuple[int, Json, dict[str, str]]:
        """Status, body and the outcome of every rule that applies."""
        self._logged.clear()
        body = json.dumps({
            "hook": "patient-view", "hookInstance": "00000000-0000-4000-8000-000000000000", "prefetch": prefetch,
            "context": {"userId": "Practitioner/1", "patientId": patient}, "extension": {AS_OF: DAY.isoformat()},
        })  # fmt: skip
        self.too_large += len(body) > LARGEST_BODY
        url = "/cds-services/infant-motor-workup"
        answer = self._client.post(url, data=body, content_type="application/json")
        outcomes = self._logged[0].outcomes if self._logged else {}
        applying = {rule: told for rule, told in outcomes.items() if told != "not-applicable"}
        return answer.status_code, answer.get_json(), applying


def differences(row: Json, cards: list[Json], status: int, body: Json, outcomes: dict[str, str]) -> list[str]:
    """In what a patient's row and cards of the audit differ from the hook's answer."""
    if row["status"] == "refused":
        code = body["issue"][0]["details"]["coding"][0]["code"] if status >= 400 else status
        wanted = "data.missing" if row["why"] == "no Patient resource" else row["why"]
        return [] if code == wanted else [f"refused: {row['why']} against {code}"]
    if status != 200:
        return [f"{row['status']} against {status}"]
    report = body["extension"][EVALUATION]
    if row["status"] == "deceased":
        said = "deceased" in report.get("notShown", "") and not body["cards"]
        return [] if said and not cards else ["deceased"]
    pairs: dict[str, tuple[Any, Any]] = {
        "outcomes": ({rule["rule"]: rule["outcome"] for rule in row["rules"]}, outcomes),
        "cards": (cards, body["cards"]), "asOf": (row["asOf"], report["asOf"]),
        "missing": (
            {rule["rule"]: rule["missing"] for rule in row["rules"]
             if rule["outcome"] == "data-required" and rule["rule"] not in LIBRARY.silent},
            {item["rule"]: item["missing"] for item in report.get("notEvaluated", ())},
        ),
        **{key: (row.get(key), report.get(key)) for key in ("unreadable", "uncoded", "ignored")},
    }  # fmt: skip
    return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


def compare(folder: Path, place: Path, seen: Counter[str], exported: list[str]) -> list[Json]:
    """The audit of a folder against the hook for every patient in it, counted in ``seen``; the audit's rows."""
    out, ehr, hook = place / "out", Ehr(folder), Hook(place)
    done = audit(folder, out, "--exact", "--workers", "2", "--no-parquet", *exported)
    assert done.exit_code == 0, done.output
    told = summary(out)
    lines = {fate: number for fate, number in told["input"]["lines"].items() if number and fate != "in"}
    seen["lines"] += ehr.fates.total()
    seen["lines accounted for otherwise"] += lines != +ehr.fates or told["input"]["lines"]["in"] != ehr.fates.total()
    for fate, number in (+ehr.fates).items():
        seen[f"lines: {fate}"] += number
    left_out = set(told["input"]["notExported"])
    assert left_out == ({kind for kind in SEARCHED if not ehr.types[kind]} if not exported else set())
    rows = [json.loads(line) for line in (out / "evaluations.ndjson").read_bytes().splitlines()]
    assert [row["patient"] for row in rows] == sorted(ehr.charts)
    shown = out / "cards.ndjson"
    written = map(json.loads, shown.read_bytes().splitlines() if shown.exists() else ())
    cards = {name: [row["card"] for row in group] for name, group in groupby(written, key=lambda row: row["patient"])}
    for row in rows:
        patient = row["patient"]
        found = differences(row, cards.get(patient, []), *hook.ask(patient, ehr.prefetch(patient, left_out)))
        seen["patients"] += 1
        seen[f"patients: {row['status']}"] += 1
        seen[f"stage: {row.get('stage', 'not evaluated')}"] += 1
        seen["rules that spoke"] += len(row.get("rules", ()))
        seen["with a card"] += bool(cards.get(patient))
        seen["hook and audit differ"] += bool(found)
        for name in found:
            seen[f"differs in {name}"] += 1
    seen["bodies larger than the hook takes"] = hook.too_large
    return rows


def planted(rows: list[Json], asked: argparse.Namespace, seen: Counter[str]) -> None:
    """The findings of the made-up infants against those that were planted."""
    by_patient = {row["patient"]: row for row in rows}
    for chart in infants(CONTENT, asked.patients, asked.seed, DAY):
        row = by_patient.pop(chart.identity.id)
        if row["status"] != "evaluated":
            continue
        stated = [item for item in truth_of(chart)["planted"] if "finding" in item]
        wanted = {(item["finding"], item["resource"]) for item in stated if item["status"] == "present"}
        found = {(name, ref) for name, state in row["findings"].items() for ref in state["present"]}
        seen["near misses planted"] += sum(item["status"] != "present" for item in stated)
        seen["findings planted"] += len(wanted)
        seen["findings missed"] += len(wanted - found)
        seen["findings that were not planted"] += len(found - wanted)
    assert not by_patient


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", help="NDJSON; default: made-up infants")
    parser.add_argument("--age", type=int, help="move every chart so that its patient is so many days old")
    parser.add_argument("--only-exported", action="store_true", help="without --exported all")
    parser.add_argument("--patients", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=20_000)
    asked = parser.parse_args()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = asked.folder or place / "in"
        if asked.folder is None:
            write_population(infants(CONTENT, asked.patients, asked.seed, DAY), folder)
            (folder / "truth.ndjson").unlink()
        if asked.age is not None:
            folder = place / "moved"
            at_age(Ehr(asked.folder), asked.age, date.fromisoformat(DAY.isoformat()), folder)
        rows = compare(folder, place, seen, [] if asked.only_exported else ["--exported", "all"])
        if asked.folder is None:
            planted(rows, asked, seen)
    for what, number in seen.items():
        print(f"{what}: {number}")
    return 1 if any(seen[what] for what in UNEQUAL) else 0


if __name__ == "__main__":
    sys.exit(main())
