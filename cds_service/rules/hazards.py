"""docs/hazards.md: what harm each rule can do, in either direction, and the case that holds it."""

from __future__ import annotations

from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Rule

HEAD = """# Hazards

What happens when a rule is wrong: it speaks where it should not, or stays silent where it should speak. Each hazard is
held by a case beside the rule, which `cds-service check` runs. Written by `cds-service hazards` from `cards/rules/`;
a test holds the two together. What the software does about a wrong patient, lost facts and errors of its own:
[errors.md](errors.md), [reliability.md](reliability.md).
"""


def hazards_page(library: RuleLibrary) -> str:
    """The page as Markdown, a section per document in the order of its rules."""
    parts = [HEAD]
    for document in dict.fromkeys(rule.document for rule in library.rules):
        parts.append(f"\n## {document}\n")
        parts += [_section(rule) for rule in library.rules if rule.document == document]
    return "".join(parts)


def _section(rule: Rule) -> str:
    cases = "../" + rule.file.removesuffix(".yaml") + ".cases.yaml"
    lines = [f"\n### {rule.id}\n\n{rule.title}.\n\n"]
    for words, hazard in (
        ("If it speaks wrongly", rule.if_it_speaks_wrongly),
        ("If it stays silent", rule.if_it_stays_silent),
    ):
        lines.append(f"* **{words}:** {hazard.harm} Held by [“{hazard.held_by}”]({cases}).\n")
    return "".join(lines)
