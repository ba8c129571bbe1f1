"""Two rule sets side by side: for each rule what is otherwise, and whether it is of weight.

Three weights. *Who gets it*: sentences, limits, codes, workups, urgency. *What it says*: texts on cards and pages.
*Proof only*: cases, hazards, versions. A rule whose content hash is another although none of its parts is has
something shared that changed, such as how charts are read: that is of the first weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from cds_service.record.ages import Age
from cds_service.record.times import HOUR
from cds_service.rules.criteria import Criterion
from cds_service.rules.difference_texts import cases_changed, proof_of, texts_of
from cds_service.rules.readable import Node
from cds_service.rules.rule import DoneOrOrdered, Rule, Workup
from cds_service.rules.rule_sets import RuleSet

JOINTS = {"all": "all of:", "any": "any of:", "not": "not:"}


class Severity(IntEnum):
    """How much a change weighs."""

    PROOF = 0
    WORDS = 1
    WHO = 2

    @property
    def word(self) -> str:
        """As people read it."""
        return ("proof only", "what it says", "who gets it")[self]


class Part(NamedTuple):
    """One part of a rule that is otherwise. ``what`` names it; ``before`` or ``after`` is empty where it is not."""

    kind: str
    severity: Severity
    what: str
    before: str
    after: str


class Difference(NamedTuple):
    """A rule that is added, retired or changed. A version is empty where the rule is not."""

    rule: str
    title: str
    change: str
    before: str
    after: str
    parts: tuple[Part, ...]

    @property
    def severity(self) -> Severity:
        """The weight of its heaviest part; a rule that comes or goes decides who gets it."""
        return max((part.severity for part in self.parts), default=Severity.WHO)


def differences(before: RuleSet, after: RuleSet) -> list[Difference]:
    """Every rule that is not the same in both, the weightiest first."""
    old = {rule.id: rule for rule in before.library.rules}
    new = {rule.id: rule for rule in after.library.rules}
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            found.append(Difference(name, new[name].title, "added", "", new[name].version, ()))
        elif name not in new:
            found.append(Difference(name, old[name].title, "retired", old[name].version, "", ()))
        elif parts := tuple(_parts(old[name], new[name], before, after)):
            found.append(Difference(name, new[name].title, "changed", old[name].version, new[name].version, parts))
    return sorted(found, key=lambda item: (-item.severity, item.rule))


def difference_as_json(item: Difference) -> dict[str, Any]:
    """The difference for programs."""
    parts = [part._asdict() | {"severity": part.severity.word} for part in item.parts]
    return item._asdict() | {"severity": item.severity.word, "parts": parts}


def _parts(old: Rule, new: Rule, before: RuleSet, after: RuleSet) -> Iterator[Part]:
    logic = [
        *_sentences(old, new, before, after), *_criteria(old, new, before, after),
        *_pairs("limit", _limits(old, before), _limits(new, after)), *_codes(old, new, before, after),
        *_pairs("workup", _workups(old, before), _workups(new, after)),
    ]  # fmt: skip
    yield from logic
    words = [*_pairs("text", texts_of(old, before), texts_of(new, after), Severity.WORDS)]
    yield from words
    one, two = before.library.contents.get(old.id), after.library.contents.get(new.id)
    proof = [*_pairs("proof", proof_of(old), proof_of(new), Severity.PROOF)]
    if one != two and not logic and not words and not proof:
        yield Part("shared", Severity.WHO, "what several rules share, such as how charts are read", str(one)[:12],
                   str(two)[:12])  # fmt: skip
    yield from proof
    for name, then, now in cases_changed(before.cases.get(old.id, {}), after.cases.get(new.id, {})):
        yield Part("case", Severity.PROOF, name, then, now)
    if old.version != new.version:
        yield Part("version", Severity.PROOF, "version", old.version, new.version)


def _pairs(
    kind: str, old: Mapping[str, str], new: Mapping[str, str], severity: Severity = Severity.WHO
) -> Iterator[Part]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name, "") != new.get(name, ""):
            yield Part(kind, severity, name, old.get(name, ""), new.get(name, ""))


def _sentences(old: Rule, new: Rule, before: RuleSet, after: RuleSet) -> Iterator[Part]:
    """Sentences of other names or joints; what a name asks is told under its criterion."""
    if (old.recommend_when, old.population) != (new.recommend_when, new.population):
        yield from _pairs("sentence", _when(old, before), _when(new, after))
    if old.unless != new.unless:
        yield Part("sentence", Severity.WHO, "unless", _unless(old, before), _unless(new, after))


def _when(rule: Rule, side: RuleSet) -> dict[str, str]:
    tree = side.readable.tree(rule.recommend_when, rule.criteria)
    return {"for infants": side.readable.words(rule.criteria[rule.population]), "when it speaks": tree_text(tree)}


def _unless(rule: Rule, side: RuleSet) -> str:
    return tree_text(side.readable.tree(rule.unless, rule.criteria)) if rule.unless is not None else ""


def tree_text(node: Node, depth: int = 0) -> str:
    """A sentence's tree as indented lines."""
    if node.kind == "ask":
        return "  " * depth + node.words
    return "\n".join(["  " * depth + JOINTS[node.kind], *(tree_text(part, depth + 1) for part in node.parts)])


def _criteria(old: Rule, new: Rule, before: RuleSet, after: RuleSet) -> Iterator[Part]:
    """Questions of one name that ask otherwise: where only numbers differ, as thresholds."""
    mine, yours = dict(_questions(old.criteria)), dict(_questions(new.criteria))
    for name in sorted(mine.keys() & yours.keys()):
        one, two = mine[name], yours[name]
        if one.definition != two.definition:
            numbers = _without_numbers(str(one.definition)) == _without_numbers(str(two.definition))
            kind = "threshold" if numbers else "criterion"
            words = before.readable.words(one), after.readable.words(two)
            if words[0] == words[1]:
                words = str(dict(one.definition)), str(dict(two.definition))
            yield Part(kind, Severity.WHO, name.replace("_", " "), *words)


def _questions(criteria: Mapping[str, Criterion]) -> Iterator[tuple[str, Criterion]]:
    for name, criterion in criteria.items():
        yield name, criterion
        yield from _questions(criterion.parts)


def _without_numbers(text: str) -> str:
    return "".join(character for character in text if not (character.isdigit() or character in ".-"))


def _limits(rule: Rule, side: RuleSet) -> dict[str, str]:
    found = {}
    for display, band in side.readable.limits(rule):
        values = ", ".join(f"{value:g} {unit}" for unit, value in band.limit.items())
        found[band.id] = (
            f"{display} {band.direction} {'at or ' if band.inclusive else ''}"
            f"{'below' if band.direction == 'low' else 'above'} {values}, from {_age(band.start)} to {_age(band.end)}"
        )
    return found


def _age(age: Age) -> str:
    return f"{age.amount} {age.unit}"


def _codes(old: Rule, new: Rule, before: RuleSet, after: RuleSet) -> Iterator[Part]:
    """Code lists of findings that both ask about. Which findings those are is told under sentences and criteria."""
    for name in sorted(before.readable.concepts(old).keys() & after.readable.concepts(new).keys()):
        one, two = before.codes.get(name, frozenset()), after.codes.get(name, frozenset())
        if one != two:
            yield Part("codes", Severity.WHO, f"{name.replace('_', ' ')}: {len(one)} codes, then {len(two)}",
                       _coded("less: ", one - two), _coded("more: ", two - one))  # fmt: skip


def _coded(head: str, codes: frozenset[tuple[str, str]]) -> str:
    return head + ", ".join(f"{code} ({system})" for system, code in sorted(codes)) if codes else ""


def _workups(rule: Rule, side: RuleSet) -> dict[str, str]:
    """What is asked for, how soon and when; what counts as done; with which code it is ordered."""
    found: dict[str, str] = {}
    for item in rule.recommend:
        workup, name = side.library.workups[item.workup], item.workup.replace("_", " ")
        when = tree_text(side.readable.tree(item.when, rule.criteria), 1) if item.when is not None else ""
        lines = [item.urgency.indicator + (", when" if when else ""), when, _order(workup)]
        text = "\n".join(line for line in (*lines, *map(_way, workup.done_or_ordered)) if line)
        found[name] = f"{found[name]}\n{text}" if name in found else text
    return found


def _order(workup: Workup) -> str:
    order = f"ordered as {workup.order.code} ({workup.order.system})" if workup.order is not None else ""
    return "; ".join(part for part in (order, f"yields to {workup.yields_to}" if workup.yields_to else "") if part)


def _way(way: DoneOrOrdered) -> str:
    what = (" and " if way.all_of_them else " or ").join(way.concepts).replace("_", " ")
    parts = [f"{'ordered' if way.ordered else 'done'}: {what}"]
    parts += [f"within {way.within / HOUR:g} h"] if way.within is not None else []
    parts += [f"not before {way.not_before}"] if way.not_before else []
    parts += [f"not before the onset of {', '.join(way.onset_of)}"] if way.onset_of else []
    return ", ".join(parts)
