"""A comparison of two rule sets as tables: what of the rules is otherwise, and to whom something else is said."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from flask import url_for

from cds_service.population.compare import CHANGES, SAME
from cds_service.population.disclosure import Disclosure
from cds_service.population.effect import Effect
from cds_service.rules.difference import Difference
from cds_service.web.desk.changes.comparisons import Compared
from cds_service.web.desk.tables import Column, Row, Table

EXAMPLES = 3
DIFFERENCES = (
    Column("rule", "Rule", link="page"), Column("change", "Change", facet=True), Column("weight", "Weight", facet=True),
    Column("part", "Part", facet=True), Column("what", "Of it"), Column("before", "Before"), Column("after", "After"),
)  # fmt: skip
INFANTS = (
    Column("infant", "Infant", link="page"), Column("age", "Age", facet=True), Column("cards", "Cards", facet=True),
    Column("before", "Highest before"), Column("after", "Highest after"), Column("rules", "Rules"),
    Column("why", "Why"),
)  # fmt: skip


def compared_tables(compared: Compared, running: Collection[str], exact: bool, infants: bool) -> list[Table]:
    """The tables of the page; rules that are ``running`` have a page of their own.

    Without ``infants`` no single one stands in any of them.
    """
    rows = list(_rows_of(compared.differences, running))
    tables = [
        Table("differences", "What of the rules is otherwise", DIFFERENCES, rows,
              empty="Every rule is the same.", beside=True),
        _by_rule(compared.effect, exact), _reasons(compared.effect, exact, infants),
    ]  # fmt: skip
    return [*tables, infants_table(compared)] if infants else tables


def infants_table(compared: Compared) -> Table:
    """Each infant to whom something else is said; those of a folder as numbers, in the order of their ids."""
    rows = []
    for number, item in enumerate(compared.effect.changed, 1):
        made_up = compared.made_up
        rows.append({
            "infant": item.infant if made_up else f"infant {number}", "age": item.age, "cards": item.cards,
            "before": item.before or "none", "after": item.after or "none",
            "rules": [f"{rule}: {change}" for rule, (change, _) in item.rules.items()],
            "why": [f"{rule}: {why}" for rule, (_, why) in item.rules.items()],
            "page": url_for("changes.infant", name=item.infant) if made_up else "",
        })  # fmt: skip
    return Table("infants", "Infants to whom something else is said", INFANTS, rows,
                 empty="Every infant gets the same.", beside=True)  # fmt: skip


def _rows_of(found: Sequence[Difference], running: Collection[str]) -> Iterator[Row]:
    for item in found:
        page = url_for("rules.rule", rule_id=item.rule) if item.rule in running else ""
        head = {"rule": item.rule, "change": item.change, "page": page}
        versions = f"version {item.before}" if item.before else "", f"version {item.after}" if item.after else ""
        if not item.parts:
            yield head | {"weight": item.severity.word, "part": "rule", "what": item.title, "before": versions[0],
                          "after": versions[1]}  # fmt: skip
        for part in item.parts:
            yield head | {"weight": part.severity.word, "part": part.kind, "what": part.what, "before": part.before,
                          "after": part.after}  # fmt: skip


def _by_rule(effect: Effect, exact: bool) -> Table:
    columns = (Column("rule", "Rule"), *(Column(change, change.capitalize(), number=True) for change in CHANGES))
    disclosure = Disclosure(exact)
    rows = [
        {"rule": rule, **disclosure.table({change: found.get(change, 0) for change in CHANGES})}
        for rule, found in effect.by_rule.items()
    ]
    rows.sort(key=lambda row: all(row[change] == 0 for change in CHANGES if change != SAME))
    return Table("effect", "Infants by rule", columns, rows, empty="No rule speaks to any infant.", beside=True)


def _reasons(effect: Effect, exact: bool, infants: bool) -> Table:
    columns = [Column("rule", "Rule", facet=True), Column("change", "Change", facet=True), Column("why", "Why"),
               Column("number", "Infants", number=True)]  # fmt: skip
    if infants:
        columns.append(Column("examples", "Such as"))
    rows = []
    for (rule, change, why), number in effect.reasons.items():
        some = [item.infant for item in effect.changed if item.rules.get(rule) == (change, why)]
        rows.append({"rule": rule, "change": change, "why": why, "number": Disclosure(exact).shown(number),
                     "examples": some[:EXAMPLES]})  # fmt: skip
    return Table("reasons", "Why", columns, rows, empty="Nobody gets anything else.", beside=True)
