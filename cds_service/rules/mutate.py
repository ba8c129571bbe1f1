"""Do the cases notice? Every mutant is compiled and held against the cases; one that nobody notices survives."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from cds_service.errors import ContentError
from cds_service.record.patient_record import PatientRecord
from cds_service.rules.cases import Case, cases_of, disagreement, record_of
from cds_service.rules.evaluate import Asked, evaluate
from cds_service.rules.library import RuleLibrary, compile_pack
from cds_service.rules.limit_cases import check_limit_cases
from cds_service.rules.mutants import Mutant, mutants_of
from cds_service.rules.pack import Pack
from cds_service.rules.sentences import SentenceError
from cds_service.rules.yaml_source import Source


class Trial:
    """The cases of a pack, their records built once, ready to be held against mutants."""

    def __init__(self, pack: Pack, files: Mapping[str, Source], limit_cases: Source) -> None:
        self._pack = pack
        self._limit_cases = limit_cases
        library = compile_pack(pack)
        self._cases: dict[str, list[Case]] = {
            rule.id: cases_of(files[rule.id]) for rule in library.rules if rule.id in files
        }
        self._records: dict[int, PatientRecord] = {
            id(case): record_of(case, library) for cases in self._cases.values() for case in cases
        }

    def survivors(
        self, tell: Callable[[int], None] = lambda _: None, rules: Container[str] | None = None
    ) -> tuple[int, list[Mutant]]:
        """How many mutants there are, and those that no case notices. ``tell`` hears how many are tried.

        With ``rules``, only the mutants of these rules' own files.
        """
        survivors = []
        count = 0
        for mutant in mutants_of(self._pack):
            if rules is not None and (mutant.kind != "rule" or mutant.key not in rules):
                continue
            count += 1
            if not self.is_noticed(mutant):
                survivors.append(mutant)
            tell(count)
        return count, survivors

    def is_noticed(self, mutant: Mutant) -> bool:
        """Whether a case fails under the mutant, or it does not even compile."""
        try:
            library = compile_pack(_with(self._pack, mutant))
        except (ContentError, SentenceError):
            return True
        if mutant.kind in ("limits", "reading") and check_limit_cases(library, self._limit_cases)[1]:
            return True
        rebuild = mutant.kind in ("limits", "reading")
        return any(self._fails(library, rule_id, rebuild) for rule_id in _touched(self._pack, mutant))

    def _fails(self, library: RuleLibrary, rule_id: str, rebuild: bool) -> bool:
        rule = library.rule(rule_id)
        if rule is None:
            return True
        for case in self._cases.get(rule_id, ()):
            record = record_of(case, library) if rebuild else self._records[id(case)]
            evaluation = evaluate(rule, Asked(record, library.criteria_count), library.workups)
            if disagreement(case, evaluation) is not None:
                return True
        return False


def _with(pack: Pack, mutant: Mutant) -> Pack:
    """The pack with the mutant's file in place of the true one."""

    def changed(source: Source) -> Source:
        return source._replace(data=mutant.data)

    if mutant.kind == "rule":
        slug, source = pack.rules[mutant.key]
        return msgspec.structs.replace(pack, rules={mutant.key: (slug, changed(source))})
    if mutant.kind == "workup":
        workups = {**pack.workups, mutant.key: changed(pack.workups[mutant.key])}
        rules = {rule_id: pack.rules[rule_id] for rule_id in _touched(pack, mutant)}
        return msgspec.structs.replace(pack, workups=workups, rules=rules)
    single = {**pack.single, mutant.key: changed(pack.single[mutant.key])}
    return msgspec.structs.replace(pack, single=single)


def _touched(pack: Pack, mutant: Mutant) -> list[str]:
    """The rules that a change of this file can reach; the others need not be compiled again."""
    if mutant.kind == "rule":
        return [mutant.key]
    if mutant.kind == "workup":
        return [
            rule_id
            for rule_id, (_, source) in pack.rules.items()
            if any(item["workup"] == mutant.key for item in source.data["recommend"])
        ]
    return list(pack.rules)


def describe(survivors: Iterable[Mutant]) -> list[str]:
    """The survivors as ``file:line: change``."""
    return [f"{mutant.file}:{mutant.line}: {mutant.change}" for mutant in survivors]
