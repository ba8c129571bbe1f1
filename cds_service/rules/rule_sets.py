"""A rule set as it is compared with another: compiled, with what the compiled rules no longer say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.pack import packaged_cards, read_cases
from cds_service.rules.readable import Readable


class RuleSet(NamedTuple):
    """``codes``: finding → its (system, code); ``cases``: rule id → name of a case → all it says, as JSON."""

    library: RuleLibrary
    readable: Readable
    codes: Mapping[str, frozenset[tuple[str, str]]]
    cases: Mapping[str, Mapping[str, str]]


def rule_set(library: RuleLibrary) -> RuleSet:
    """The set behind a library that was read from a folder. Raises ContentError for cases that cannot be read."""
    root = library.root if library.root is not None else packaged_cards()
    files, _ = read_cases(root)
    cases = {
        rule_id: {
            case["case"]: json.dumps({"as_of": source.data["as_of"], **case}, sort_keys=True)
            for case in source.data["cases"]
        }
        for rule_id, source in files.items()
    }
    return RuleSet(library, Readable(library.reading, library.groups), _codes(root), cases)


def read_rule_set(root: Traversable | Path) -> RuleSet:
    """The set in a cards/ folder, in which every rule speaks. Raises ContentError."""
    return rule_set(load_library(root))


def _codes(root: Traversable | Path) -> dict[str, frozenset[tuple[str, str]]]:
    found = {}
    for file in (root / "valuesets").iterdir():
        if file.name.endswith(".json") and file.name[0] not in "._":
            includes = json.loads(file.read_text(encoding="utf-8"))["compose"]["include"]
            name = file.name.removesuffix(".json").replace("-", "_")
            found[name] = frozenset((item["system"], code["code"]) for item in includes for code in item["concept"])
    return found
