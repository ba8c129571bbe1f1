"""What a rule says and what proves it, as named texts that can be held side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cds_service.rules.rule import Rule
from cds_service.rules.rule_sets import RuleSet


def texts_of(rule: Rule, side: RuleSet) -> dict[str, str]:
    """Every text of the rule that a card or its page shows, by what it is."""
    found = {
        "title": rule.title, "because": rule.because, "status": rule.status, "basis": rule.basis,
        "citation": rule.citation, "limitations": "\n".join(rule.limitations),
        "told when not recorded": "\n".join(item.say for item in rule.tell),
        "passages": "\n".join(_passage(name, side) for name in rule.draws_on),
        "contradictions": ", ".join(rule.conflicts),
    }  # fmt: skip
    families = {family.id: family for family in side.library.families}
    for item in rule.recommend:
        workup = side.library.workups[item.workup]
        family = families[workup.family]
        said = workup.suggest.get(item.urgency, "")
        found[f"wording of {item.workup} ({item.urgency.indicator})"] = f"{workup.label}: {said}"
        found[f"card {family.id}"] = f"{family.title} / {family.urgent_title}"
    return found


def _passage(name: str, side: RuleSet) -> str:
    assertion = side.library.assertions[name]
    return f"{name}: {assertion.says} ({assertion.action})"


def proof_of(rule: Rule) -> dict[str, str]:
    """The hazards in both directions."""
    return {
        "if it speaks wrongly": f"{rule.if_it_speaks_wrongly.harm} ({rule.if_it_speaks_wrongly.held_by})",
        "if it stays silent": f"{rule.if_it_stays_silent.harm} ({rule.if_it_stays_silent.held_by})",
    }


def cases_changed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Each case that is there once only, or says something else: its name and what it says in both."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, old.get(name, ""), new.get(name, "")
