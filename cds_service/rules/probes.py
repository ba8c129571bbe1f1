"""A made-up infant per rule on whom the rule speaks: who notices when a rule has died in silence.

Each is the rule's own first case that expects ``recommended``. Its dates are relative to the day of the question,
so that it can be asked for today; a case with a date written out is asked for its own day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cds_service.rules.cases import Case, cases_of, record_of
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Outcome
from cds_service.rules.yaml_source import parse

NO_PROBE = "no probe infant"
_WRITTEN_OUT = re.compile(r"\b\d{4}-\d\d", re.ASCII)


class Probe(NamedTuple):
    """The infant of one rule; ``today``: whether the question can be asked for any day."""

    case: Case
    today: bool


def probes_of(library: RuleLibrary) -> Mapping[str, Probe | None]:
    """The probe infant of each rule; None for a rule whose cases hold none, or cannot be read."""
    if library.root is None:
        return {}
    return {rule.id: _probe(library.root, rule.document, rule.id) for rule in library.rules}  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def _probe(root: Traversable | Path, document: str, rule_id: str) -> Probe | None:
    file = root / "rules" / document / f"{rule_id}.cases.yaml"
    try:
        source, mistakes = parse(file.name, file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    if mistakes:
        return None
    first = next((case for case in source.data["cases"] if case["expect"] == Outcome.RECOMMENDED.value), None)
    if first is None:
        return None
    (case, *_) = cases_of(source._replace(data={**source.data, "cases": [first]}))
    chart = {key: value for key, value in case.chart.items() if key != "as_of"}
    return Probe(case, not _WRITTEN_OUT.search(str(chart)))


def run_probes(library: RuleLibrary, probes: Mapping[str, Probe | None], today: str) -> dict[str, str]:
    """What each rule says of its own infant: ``recommended`` when it is alive. ``today``: an ISO date."""
    return {rule_id: _outcome(library, rule_id, probe, today) for rule_id, probe in probes.items()}


def _outcome(library: RuleLibrary, rule_id: str, probe: Probe | None, today: str) -> str:
    if probe is None:
        return NO_PROBE
    case = replace(probe.case, chart={**probe.case.chart, "as_of": today}) if probe.today else probe.case
    try:
        evaluations = library.evaluate(record_of(case, library)).all
    except Exception:  # a defect anywhere on the road to the rule; the operator is told that it did not speak
        return Outcome.INTERNAL_ERROR.value
    found = [evaluation.outcome.value for evaluation in evaluations if evaluation.rule.id == rule_id]
    return found[0] if found else "not evaluated"
