"""``check``: everything that can be wrong with the knowledge pack, found without a patient."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from cds_service.errors import ContentError, Mistake
from cds_service.rules.cases import check_cases
from cds_service.rules.codes_check import code_mistakes
from cds_service.rules.coverage import coverage, coverage_mistakes
from cds_service.rules.history import history_mistakes, read_history
from cds_service.rules.library import RuleLibrary, compile_pack
from cds_service.rules.limit_cases import check_limit_cases
from cds_service.rules.pack import read_cases, read_pack, read_single
from cds_service.rules.texts import medicines_of, read_runs, reading_grade, text_mistakes, texts_of
from cds_service.rules.together import check_together
from cds_service.rules.yaml_source import Source

LOCK = "rules.lock.json"


class Report:
    """What ``check`` found: counts to show, mistakes to mend."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.figures: dict[str, float] = {}
        self.mistakes: list[Mistake] = []


def check(
    root: Traversable | Path,
    order_problems: Callable[[RuleLibrary], list[Mistake]],
    card_problems: Callable[[RuleLibrary, Mapping[str, Source]], list[Mistake]],
) -> Report:
    """Schemas, references, assertions, lock, texts, codes and cases. Raises ContentError when it cannot be compiled.

    ``order_problems`` validates the draft orders as FHIR and ``card_problems`` looks at the cards that the cases
    bring about: neither is the business of the rules.
    """
    report = Report()
    pack = read_pack(root)
    library = compile_pack(pack)
    files, limit_cases = read_cases(root)
    report.counts["rules"] = len(library.rules)
    report.counts["assertions drawn on"] = len({drawn for rule in library.rules for drawn in rule.draws_on})
    report.counts["value sets"] = len(pack.valuesets)
    gone = retired(root)
    report.mistakes += lock_mistakes(library, locked(root), gone)
    report.mistakes += history_mistakes(library, read_history(root), set(gone))
    report.mistakes += coverage_mistakes(coverage(library))
    report.mistakes += code_mistakes(pack)
    report.mistakes += text_mistakes(pack, read_runs(root), medicines_of(pack))
    report.figures["reading grade of card texts"] = reading_grade(
        [text.says for text in texts_of(pack) if text.on_card]
    )
    report.counts["cases"], found = check_cases(library, files)
    report.mistakes += found
    for rule_id, source in files.items():
        if library.rule(rule_id) is None:
            report.mistakes.append(Mistake(source.file, 1, "no rule of this name stands beside the cases"))
    report.counts["limit cases"], found = check_limit_cases(library, limit_cases)
    report.mistakes += found
    report.counts["charts of several rules"], found = check_together(library, root)
    report.mistakes += found
    report.mistakes += order_problems(library)
    report.mistakes += card_problems(library, files)
    return report


def locked(root: Traversable | Path) -> dict[str, Any]:
    """What the lock file says of each rule: its version and the hash of its content."""
    file = root / LOCK
    if not file.is_file():
        return {}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def retired(root: Traversable | Path) -> dict[str, Any]:
    """The rules that were in a release and are no more. Raises ContentError."""
    source, mistakes = read_single(root, root / "retired.yaml", "retired")
    if mistakes:
        raise ContentError(mistakes)
    found: dict[str, Any] = source.data
    return found


def lock_mistakes(library: RuleLibrary, lock: Mapping[str, Any], retired: Mapping[str, Any]) -> list[Mistake]:
    """A rule whose content changed under the same version, that the lock file does not know, or that is gone
    without having been retired; a retired name that lives again."""
    mistakes = []
    for rule in library.rules:
        entry = lock.get(rule.id)
        if entry is None:
            mistakes.append(Mistake(f"cards/{LOCK}", 1, f"{rule.id} is not locked: run cds-service check --lock"))
        elif entry["version"] == rule.version and entry["sha256"] != rule.sha256:
            mistakes.append(
                Mistake(rule.file, 2, f"the content changed but not the version {rule.version}: raise the version")
            )
        elif entry["version"] != rule.version:
            mistakes.append(
                Mistake(rule.file, 2, f"version {rule.version} is not locked: run cds-service check --lock")
            )
    known = {rule.id for rule in library.rules}
    mistakes += [
        Mistake(
            f"cards/{LOCK}", 1, f"{name} is locked but there is no such rule: name it in retired.yaml with the reason"
        )
        for name in lock
        if name not in known and name not in retired
    ]
    mistakes += [
        Mistake("cards/retired.yaml", 1, f"{name} is retired: a new rule needs a new name")
        for name in sorted(known & retired.keys())
    ]
    return mistakes


def lock_text(library: RuleLibrary, lock: Mapping[str, Any]) -> tuple[str, list[Mistake]]:
    """The lock file for the rules as they are; refused for a rule that changed without a new version."""
    refused = [m for m in lock_mistakes(library, lock, {}) if "raise the version" in m.message]
    content = {rule.id: {"version": rule.version, "sha256": rule.sha256} for rule in library.rules}
    return json.dumps(dict(sorted(content.items())), indent=2) + "\n", refused
