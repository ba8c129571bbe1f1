"""The numbers of an audit as tables, each number with the address of its infants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cds_service.population.attrition import DONE, NOT_EVALUATED, OTHER_AGE, RECOMMENDED, STAGES
from cds_service.population.disclosure import Shown
from cds_service.population.finished import Listed, Summary
from cds_service.population.report import WIDEST, amount, waterfall
from cds_service.web.desk.tables import Column, Row, Table

Link = Callable[..., str]  # filters → the address of the infants, or nothing for who may not see them
URGENCIES = ("critical", "warning", "info")
COMPARED = tuple(stage for stage in STAGES if stage not in (NOT_EVALUATED, OTHER_AGE))


def runs_table(runs: Sequence[Listed], link: Callable[[str], str]) -> Table:
    """Every output of the folder, the latest first; of what is no finished audit, what it is."""
    columns = (
        Column("name", "Folder", link="url"), Column("finished", "Finished"), Column("as_of", "As of"),
        Column("question", "Question"), Column("patients", "Patients", number=True),
        Column("with_card", "With a card", number=True), Column("rules", "Rule set", facet=True),
        Column("software", "Software", facet=True), Column("seconds", "Seconds", number=True),
        Column("numbers", "Numbers", facet=True), Column("run", "Run"), Column("state", "State", facet=True),
    )  # fmt: skip
    return Table(
        "audits",
        "Audits",
        columns,
        [_run(run, link) for run in runs],
        beside=False,
        empty="No audit yet. Run cds-service audit with --out to a folder in it.",
    )


def _run(run: Listed, link: Callable[[str], str]) -> Row:
    row: dict[str, Any] = {"name": run.name, "state": run.state or "finished"}
    if run.made is not None:
        row |= {"finished": run.made.finished, "seconds": run.made.seconds, "software": run.made.software}
    if run.summary is not None:
        head = run.summary.run
        since = f", changed since {head.since}" if head.since else ""
        row |= {
            "url": link(run.name), "as_of": head.as_of, "question": f"every rule, every patient{since}",
            "patients": run.summary.patients.all, "with_card": with_card(run.summary),
            "rules": f"{head.rules_version} {' '.join(item[:12] for item in head.rule_sets)}",
            "numbers": "exact" if head.exact else "suppressed and rounded", "run": head.id,
        }  # fmt: skip
    return row


def with_card(summary: Summary) -> Shown:
    """How many infants have a card: exactly, or about so many where parts of it are hidden or rounded."""
    parts = [summary.cards.highest.get(urgency, 0) for urgency in URGENCIES]
    if all(isinstance(part, int) for part in parts) and summary.numbers.startswith("Exact"):
        return sum(map(amount, parts))
    return f"about {sum(map(amount, parts))}"


def summary_tables(summary: Summary, link: Link) -> list[Table]:
    """Attrition, what was missing, and each way of counting, as tables that stand on one page."""
    rules = summary.by_rule
    return [
        _attrition(summary, link),
        _numbers("highest", "Most urgent card", "Card", summary.cards.highest, lambda key: link(card=key)),
        _numbers("not-evaluated", "Not evaluated at all", "Because", summary.patients.not_evaluated,
                 lambda key: link(why=key)),
        _numbers("missing", "A rule waited for", "Missing", summary.not_evaluable_by, lambda key: link(missing=key)),
        _stages("age", "By age", "Age", summary.by_age, lambda key, stage: link(age=key, stage=stage),
                without=NOT_EVALUATED),
        _stages("document", "By document", "Document", summary.by_document,
                lambda key, stage: link(document=key, stage=stage), without=NOT_EVALUATED),
        _urgencies("workup", "By workup", "Workup", summary.by_workup,
                   lambda key, urgency: link(workup=key, urgency=urgency), (*URGENCIES, DONE)),
        _urgencies("family", "By family of cards", "Family", summary.cards.by_family,
                   lambda key, urgency: link(family=key, urgency=urgency), URGENCIES),
        _stages("rules", "By rule", "Rule", {rule: numbers.attrition for rule, numbers in rules.items()},
                lambda key, stage: link(rule=key, stage=stage)),
        _reasons("excluded", "What excluded, by rule", "Excluded by",
                 {rule: numbers.excluded_by for rule, numbers in rules.items()},
                 lambda rule, key: link(rule=rule, excluded_by=key)),
        _reasons("waited", "What a rule waited for, by rule", "Missing",
                 {rule: numbers.missing for rule, numbers in rules.items()},
                 lambda rule, key: link(rule=rule, missing=key)),
    ]  # fmt: skip


def _attrition(summary: Summary, link: Link) -> Table:
    columns = (Column("words", "Step"), Column("stage", "In short"), Column("number", "Stop here", number=True,
               link="url"), Column("going", "Go on", number=True))  # fmt: skip
    rows = [
        {"words": step.words, "stage": step.stage, "number": step.number, "going": step.going,
         "url": link(stage=step.stage)}
        for step in waterfall(summary.attrition, summary.patients.all)
    ]  # fmt: skip
    return Table("attrition", "From the population to a recommendation", columns, rows, beside=True, searched=False)


def _numbers(name: str, caption: str, first: str, numbers: Mapping[str, Shown], url: Callable[[str], str]) -> Table:
    columns = (Column("what", first), Column("number", "Infants", number=True, link="url"))
    rows = [{"what": key, "number": number, "url": url(key)} for key, number in numbers.items()]
    return Table(name, caption, columns, rows, beside=True, searched=False, empty="None.")


def _stages(
    name: str, caption: str, first: str, numbers: Mapping[str, Mapping[str, Shown]], url: Callable[[str, str], str],
    without: str = "",
) -> Table:  # fmt: skip
    stages = [stage for stage in STAGES if stage != without]
    return _urgencies(name, caption, first, numbers, url, stages)


def _urgencies(
    name: str, caption: str, first: str, numbers: Mapping[str, Mapping[str, Shown]], url: Callable[[str, str], str],
    keys: Sequence[str],
) -> Table:  # fmt: skip
    columns = (Column("what", first), *(Column(key, key, number=True, link=f"{key} url") for key in keys))
    rows = [
        {"what": what, **{key: table.get(key, 0) for key in keys},
         **{f"{key} url": url(what, key) for key in keys if table.get(key, 0) != 0}}
        for what, table in numbers.items()
    ]  # fmt: skip
    return Table(name, caption, columns, rows, beside=True, searched=False, empty="None.")


def _reasons(
    name: str, caption: str, second: str, numbers: Mapping[str, Mapping[str, Shown]], url: Callable[[str, str], str]
) -> Table:
    columns = (Column("rule", "Rule"), Column("what", second), Column("number", "Infants", number=True, link="url"))
    rows = [
        {"rule": rule, "what": what, "number": number, "url": url(rule, what)}
        for rule, table in numbers.items() for what, number in table.items()
    ]  # fmt: skip
    return Table(name, caption, columns, rows, beside=True, searched=False, empty="None.")


class Bar(NamedTuple):
    """A bar of a chart: ``part`` and ``whole`` are widths in units of the SVG, ``said`` has the numbers in words."""

    label: str
    said: str
    part: int
    whole: int


def bars_of(summary: Summary) -> dict[str, list[Bar]]:
    """The charts by age, document and workup: of how many is how many asked for, the widest first in its own unit."""
    recommended = [RECOMMENDED]
    return {
        "age": _bars(summary.by_age, recommended, "recommended, of"),
        "document": _bars(summary.by_document, recommended, "recommended, of"),
        "workup": _bars(summary.by_workup, URGENCIES, "not done yet, of"),
    }


def _bars(numbers: Mapping[str, Mapping[str, Shown]], keys: Sequence[str], words: str) -> list[Bar]:
    whole = {what: [number for number in table.values() if number != 0] for what, table in numbers.items()}
    part = {what: [table[key] for key in keys if table.get(key, 0) != 0] for what, table in numbers.items()}
    most = max((sum(map(amount, found)) for found in whole.values()), default=0) or 1
    return [
        Bar(what, f"{_sum(part[what])} {words} {_sum(whole[what])}",
            round(WIDEST * sum(map(amount, part[what])) / most), round(WIDEST * sum(map(amount, whole[what])) / most))
        for what in numbers
    ]  # fmt: skip


def _sum(numbers: Sequence[Shown]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    total = sum(map(amount, numbers))
    return f"about {total}" if any(isinstance(number, str) for number in numbers) else str(total)


def difference_tables(before: Summary, after: Summary) -> list[Table]:
    """Two runs side by side: for all infants and for each rule, where the numbers shown differ."""
    stages = [{"stage": stage, **_difference(before.attrition.get(stage, 0), after.attrition.get(stage, 0))}
              for stage in STAGES]  # fmt: skip
    rows = []
    for rule in sorted({*before.by_rule, *after.by_rule}):
        old, new = before.by_rule.get(rule), after.by_rule.get(rule)
        for stage in COMPARED:
            mine, yours = (item.attrition.get(stage, 0) if item else None for item in (old, new))
            if mine != yours:
                rows.append({"rule": rule, "stage": stage, **_difference(mine, yours)})
    heads = (Column("before", "This run", number=True), Column("after", "The other", number=True),
             Column("change", "Difference", number=True))  # fmt: skip
    return [
        Table("stages", "All infants", (Column("stage", "Left at"), *heads), stages, beside=True, searched=False),
        Table("differences", "Rules that differ", (Column("rule", "Rule", facet=True),
              Column("stage", "Left at", facet=True), *heads), rows, beside=True, searched=False,
              empty="No rule differs in the numbers shown."),
    ]  # fmt: skip


def _difference(before: Shown | None, after: Shown | None) -> dict[str, Any]:
    """None: the rule is not in that run; of a hidden number no difference is told."""
    if isinstance(before, int) and isinstance(after, int):
        change: Shown = after - before
    else:
        change = "0" if before == after else "not told"
    return {"before": "no such rule" if before is None else before, "after": "no such rule" if after is None else after,
            "change": change}  # fmt: skip
