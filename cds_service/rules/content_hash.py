"""What a signature is bound to: a rule with everything that decides what it says.

The lock file watches a rule's own file. A reviewer signs more: the shared criteria its sentences use, the codes of
the findings they name, the limits of its laboratory values, the wording of its workups, how a chart is read, and the
assertions it draws on. A change in any of them makes the signature void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cds_service.rules.pack import Pack
from cds_service.rules.sentences import names_in, parse_sentence

NAMING = ("finding", "diagnosis", "every", "only_asleep", "implied_by", "first_seen", "medication", "done")


def content_hash(pack: Pack, rule_id: str) -> str:
    """The sha256, in hex, of all that decides what the rule says."""
    return hashlib.sha256(json.dumps(_content(pack, rule_id), sort_keys=True).encode()).hexdigest()


def _content(pack: Pack, rule_id: str) -> dict[str, Any]:
    rule = pack.rules[rule_id][1].data
    criteria = _criteria(pack, rule)
    workups = {item["workup"]: pack.workups[item["workup"]].data for item in rule["recommend"]}
    named = {name for definition in criteria.values() for name in _named(definition, NAMING)}
    named |= {
        concept
        for workup in workups.values()
        for way in workup.get("done_or_ordered", [])
        for concept in _named(way, ("done", "done_all", "ordered"))
    }
    labs = {name for definition in criteria.values() for name in _named(definition, ("lab",))}
    limits = {name: pack.single["limits"].data[name] for name in labs}
    named |= {concept for limit in limits.values() for concept in limit["concepts"]}
    assertions = {
        item["id"]: item
        for source in pack.documents.values()
        for item in source.data["assertions"]
        if item["id"] in rule["draws_on"]
    }
    reading = {key: value for key, value in pack.single["reading"].data.items() if key != "pack_version"}
    return {
        "rule": {key: value for key, value in rule.items() if key != "version"},
        "criteria": criteria,
        "groups": _groups(pack, named),
        "workups": workups,
        "limits": limits,
        "codes": {name: _codes(pack, name) for name in sorted(_concepts(pack, named))},
        "reading": reading,
        "assertions": assertions,
    }


def _criteria(pack: Pack, rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule's own criteria and the shared ones that its sentences use, through composites."""
    shared = pack.single["criteria"].data["criteria"]
    found: dict[str, Any] = dict(rule.get("criteria", {}))
    sentences = [rule["recommend_when"], rule["population"]]
    sentences += [rule["unless"]] if "unless" in rule else []
    sentences += [item["when"] for item in rule["recommend"] if "when" in item]
    sentences += [definition["sentence"] for definition in found.values() if "sentence" in definition]
    found |= {f"told {place}": item["ask"] for place, item in enumerate(rule.get("tell_if_not_recorded", []))}
    while sentences:
        for name in names_in(parse_sentence(sentences.pop())):
            if name not in found:
                found[name] = shared[name]
                sentences += [found[name]["sentence"]] if "sentence" in found[name] else []
    return found


def _named(definition: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        value = definition.get(key, ())
        yield from (value,) if isinstance(value, str) else value


def _groups(pack: Pack, names: set[str]) -> dict[str, list[str]]:
    """The groups among the names, and those within them, with their members."""
    groups = pack.single["criteria"].data["groups"]
    found: dict[str, list[str]] = {}
    open_ones = list(names)
    while open_ones:
        name = open_ones.pop()
        if name in groups and name not in found:
            found[name] = groups[name]
            open_ones += groups[name]
    return found


def _concepts(pack: Pack, names: set[str]) -> set[str]:
    """The findings behind names of findings and groups."""
    groups = _groups(pack, names)
    return (names | {member for members in groups.values() for member in members}) - groups.keys()


def _codes(pack: Pack, concept: str) -> list[list[str]]:
    value_set = pack.valuesets[concept.replace("_", "-")].data
    return sorted(
        [include["system"], item["code"]] for include in value_set["compose"]["include"] for item in include["concept"]
    )
