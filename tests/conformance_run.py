"""What a run says of each requirement: `pytest --conformance tests` writes conformance.json and docs/conformance.md.

A test is of a requirement when its name carries the id: test_CARD_2_summaries_are_short.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cds_service.commands.conformance import result_of

TESTS = Path(__file__).parent
LIST = TESTS / "conformance.yaml"
RECORD = TESTS.parent / "cds_service" / "commands" / "conformance.json"
PAGE = TESTS.parent / "docs" / "conformance.md"
_ID = re.compile(r"(?<=_)([A-Z]+)_(\d+)(?=_)")
LEVELS = {"L": "ours", "BP": "best practice"}
RESULTS = {"failed": 2, "passed": 1, "skipped": 0}  # of several the first here is told
Record = dict[str, Any]


def ids_of(name: str) -> list[str]:
    """The requirements that a test's name carries."""
    return [f"{group}-{number}" for group, number in _ID.findall(name)]


def listed() -> Record:
    """tests/conformance.yaml."""
    found: Record = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return found


def named_tests() -> dict[str, list[str]]:
    """Every test function of a requirement, as ``file::name``, without running anything."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for requirement in ids_of(node.name):
                    found[requirement].append(f"{file.name}::{node.name}")
    return dict(found)


def record_of(results: dict[str, str], day: str) -> Record:
    """The list with each requirement's tests and their results."""
    tests = named_tests()
    sections = []
    for section in listed()["sections"]:
        lines = []
        for requirement, told in section["requirements"].items():
            line = {"id": requirement, "who": told["who"], "level": LEVELS.get(told["level"], told["level"]),
                    "what": told["what"]}  # fmt: skip
            if "not_applicable" in told:
                line["notApplicable"] = told["not_applicable"]
            else:
                line["tests"] = [
                    {"test": test, "result": results.get(test, "not run")} for test in tests.get(requirement, ())
                ]
            lines.append(line)
        sections.append({"title": section["title"], "requirements": lines})
    return {"specification": "CDS Hooks 2.0.1", "run": day, "sections": sections, "settled30": listed()["settled_3_0"]}


def page_of(record: Record) -> str:
    """docs/conformance.md."""
    lines = [record_line for section in record["sections"] for record_line in section["requirements"]]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        counts[line["level"]]["notApplicable" in line] += 1
    text = [
        "# Conformance", "",
        f"Against {record['specification']} and what 3.0 has settled, for the hook patient-view. Made from a test run",
        f"({record['run']}) by `pytest --conformance tests`; `cds-service conformance` shows the same. Our wording,",
        "levels are the specification's; *ours*: our own rules, *C*: duties of the client, checked or relied on.", "",
        "| Level | Tested | Not applicable |", "|---|---|---|",
        *(f"| {level} | {tested} | {left} |" for level, (tested, left) in sorted(counts.items())),
        f"| all | {sum(c[0] for c in counts.values())} | {sum(c[1] for c in counts.values())} |", "",
        "## Known deviations", "",
        "* 401 has no body (RESP-3 asks for an OperationOutcome): nothing may tell one cause from another (JWT-13).",
        "  408, for a body that does not arrive, has none either.",
        "* `aud` as a list is taken with one entry only (JWT-7): one for two audiences could be used by the other.",
        "* The call that brings an unknown `kid` is refused while the keys are looked up beside it (JWT-16).",
        "", "## Settled in 3.0", "",
    ]  # fmt: skip
    for how, items in record["settled30"].items():
        text += [f"* {how}: " + "; ".join(f"{what} ({', '.join(ids)})" for what, ids in items.items())]
    for section in record["sections"]:
        text += ["", f"## {section['title']}", "", "| Id | Level | What | Test | Result |", "|---|---|---|---|---|"]
        for line in section["requirements"]:
            tests = "<br>".join(f"`{test['test'].removeprefix('test_')}`" for test in line.get("tests", ()))
            who = ", C" if line["who"] == "C" else ""
            cell = line.get("notApplicable", tests)
            text.append(f"| {line['id']} | {line['level']}{who} | {line['what']} | {cell} | {result_of(line)} |")
    return "\n".join(text) + "\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", action="store_true", help="write conformance.json and docs/conformance.md")


class _Recorder:
    """Collects the results of a run's tests that carry an id."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if ids_of(item.name.split("[")[0])]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        test = report.nodeid.split("[")[0].rsplit("/", 1)[-1]
        known = self.results.get(test, "skipped")
        self.results[test] = max(known, report.outcome, key=RESULTS.__getitem__)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        record = record_of(self.results, datetime.now(UTC).date().isoformat())
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(page_of(record), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--conformance"):
        config.pluginmanager.register(_Recorder(), "conformance-recorder")
