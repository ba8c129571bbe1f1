"""What each rule says, generated from the file that is executed."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response, abort, render_template

from cds_service.rules.sentences import to_text
from cds_service.web.desk.desk import Desk
from cds_service.web.desk.roles import Role, requires


def rules_blueprint(desk: Desk) -> Blueprint:
    """The list of rules and a page per rule: where a card's links lead."""
    pages = Blueprint("rules", __name__)
    library = desk.library

    @pages.get("/rules")
    @requires(Role.PUBLIC)
    def rules() -> str:
        return render_template("rules/rules.html", rules=library.rules)

    @pages.get("/rules/<rule_id>")
    @requires(Role.PUBLIC)
    def rule(rule_id: str) -> str | Response:
        found = library.rule(rule_id)
        if found is None:
            abort(404)
        criteria = {name: definition_words(criterion.definition) for name, criterion in found.criteria.items()}
        return render_template(
            "rules/rule.html",
            rule=found,
            when=to_text(found.recommend_when),
            unless=to_text(found.unless) if found.unless else "",
            criteria=criteria,
            assertions=[library.assertions[drawn] for drawn in found.draws_on],
            recommended=[
                (library.workups[item.workup], item.urgency.indicator, to_text(item.when) if item.when else "")
                for item in found.recommend
            ],
            conflicts=[(name, library.conflicts[name]) for name in found.conflicts],
            signatures=library.signatures.get(rule_id, ()),
        )

    return pages


def definition_words(definition: Mapping[str, object]) -> list[str]:
    """A criterion as its file says it, one line per key: ``finding: myoclonus, twitching``."""
    return [f"{key.replace('_', ' ')}: {_value_words(value)}" for key, value in definition.items()]


def _value_words(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_value_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_value_words(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value).replace("_", " ")
