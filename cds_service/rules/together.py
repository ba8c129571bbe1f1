"""Charts on which several rules meet: what all the rules together suggest (cards/together.cases.yaml)."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path

from cds_service.errors import ContentError, Mistake
from cds_service.rules.cases import Case, record_of
from cds_service.rules.library import RuleLibrary
from cds_service.rules.pack import read_single
from cds_service.rules.recommend import recommend
from cds_service.rules.rule import Outcome

FILE = "together.cases.yaml"


def check_together(library: RuleLibrary, root: Traversable | Path) -> tuple[int, list[Mistake]]:
    """How many charts there are, and every one that gets other workups than it asks for. Raises ContentError."""
    source, mistakes = read_single(root, root / FILE, "together")
    if mistakes:
        raise ContentError(mistakes)
    for place, data in enumerate(source.data["cases"]):
        said = {key: data[key] for key in ("born", "facts", "unanswered") if key in data}
        chart = {"as_of": source.data["as_of"], **said}
        case = Case(
            name=data["case"], line=source.line(("cases", place)), chart=chart, expect=Outcome.RECOMMENDED,
            workups=data["workups"], missing=(),
        )  # fmt: skip
        evaluations = library.evaluate(record_of(case, library)).pertinent
        got = {item.workup.id: item.urgency.indicator for item in recommend(evaluations)}
        if got != case.workups:
            mistakes.append(source.mistake(("cases", place), f"{case.name}: expected {case.workups}, got {got}"))
        waiting = sorted(e.rule.id for e in evaluations if e.outcome is Outcome.DATA_REQUIRED)
        lacking = sorted(set(data.get("waiting", ())) - set(waiting))
        if lacking:
            mistakes.append(source.mistake(("cases", place), f"{case.name}: {', '.join(lacking)} waits for nothing"))
    return len(source.data["cases"]), mistakes
