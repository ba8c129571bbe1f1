"""cards/ → RuleLibrary: everything compiled at start, every mistake reported with file and line."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from cds_service.errors import ContentError, Mistake
from cds_service.record.patient_record import PatientRecord
from cds_service.record.reading import Band, Reading
from cds_service.record.sources import (
    BIRTH_EVENT_SOURCES,
    FINDING_SOURCES,
    LAB_SOURCES,
    MEDICATION_SOURCES,
    WORK_SOURCES,
)
from cds_service.rules.content_hash import content_hash
from cds_service.rules.criteria_builder import CriteriaBuilder
from cds_service.rules.evaluate import Asked, Evaluation, Evaluations, evaluate
from cds_service.rules.guidance import Guidance, build_guidance
from cds_service.rules.pack import Pack, packaged_cards, read_pack
from cds_service.rules.reading_builder import build_reading
from cds_service.rules.rule import Assertion, Family, Outcome, Rule, Workup
from cds_service.rules.rule_compiler import RuleCompiler
from cds_service.rules.signoff import Signature, SignOffs, read_signoffs, signatures_in_force
from cds_service.rules.workup_builder import build_families, build_workups

SILENT = " (silent)"
CRITERION_SOURCES = {
    "finding": BIRTH_EVENT_SOURCES,
    "diagnosis": FINDING_SOURCES,
    "only_asleep": FINDING_SOURCES,
    "every": FINDING_SOURCES,
    "first_seen": FINDING_SOURCES,
    "corrected_age": LAB_SOURCES,
    "born_early": LAB_SOURCES,
    "lab": (*LAB_SOURCES, "Specimen"),
    "medication": MEDICATION_SOURCES,
    "done": WORK_SOURCES,
}


class RuleLibrary:
    """The compiled knowledge pack, shared by all requests. Whoever made it does not change it once it is in use.

    ``root``: the folder it was read from, where the cases are. ``contents``: rule id → the hash to which its
    signatures are bound. ``signatures``: of the rules that are signed off. ``silent``: rules that are evaluated and
    logged, and put nothing on a card.
    """

    def __init__(
        self, *, reading: Reading, rules: tuple[Rule, ...], workups: Mapping[str, Workup],
        families: tuple[Family, ...], assertions: Mapping[str, Assertion], guidance: Mapping[str, Guidance],
        not_acted_on: Mapping[str, str], conflicts: Mapping[str, Any], criteria: int, hash: str,
        groups: Mapping[str, tuple[str, ...]], root: Traversable | Path | None, contents: Mapping[str, str],
        signatures: Mapping[str, tuple[Signature, ...]], silent: frozenset[str],
    ) -> None:  # fmt: skip
        self.reading = reading
        self.groups = groups
        self.rules = rules
        self.workups = dict(workups)
        self.families = families
        self.assertions = assertions
        self.guidance = guidance
        self.not_acted_on = not_acted_on
        self.conflicts = conflicts
        self.hash = hash
        self.populations = {rule.population: rule.criteria[rule.population] for rule in rules}
        self.by_document: defaultdict[str, list[str]] = defaultdict(list)
        for rule in rules:
            self.by_document[rule.document].append(rule.id)
        self.sources = _sources(rules, workups)
        self.limits: Mapping[str, Band] = {
            band.id: band for analyte in reading.analytes.values() for bands in analyte.bands.values() for band in bands
        }
        self.criteria_count = criteria
        self.root = root
        self.contents = contents
        self.signatures = signatures
        self.silent = silent

    def speaking_as(self, signatures: Mapping[str, tuple[Signature, ...]], silent: frozenset[str]) -> RuleLibrary:
        """The same rules with these signatures, of which these are silent."""
        other = copy.copy(self)
        other.signatures, other.silent = signatures, silent
        return other

    def evaluate(self, record: PatientRecord) -> Evaluations:
        """Every rule's outcome on this record; none for a patient who has died.

        A rule that raises is a defect of ours: it is reported as such and does not silence the others.
        """
        asked = Asked(record, self.criteria_count)
        if record.facts.deceased:
            return Evaluations((), asked, ())
        pertinent = []
        for rule in self._may_apply(record):
            try:
                evaluation = evaluate(rule, asked, self.workups)
                if evaluation.outcome is Outcome.RECOMMENDED:
                    evaluation.work_out()
            except Exception:  # the one place where a defect is contained; no text of it leaves this line
                evaluation = Evaluation(rule, asked, Outcome.INTERNAL_ERROR, missing=("internal-error",))
            if evaluation.outcome is not Outcome.NOT_APPLICABLE:
                pertinent.append(evaluation)
        return Evaluations(self.rules, asked, pertinent)

    def _may_apply(self, record: PatientRecord) -> Sequence[Rule]:
        """The rules, without those for want of whose findings it is plain that they do not apply."""
        possible = record.possible
        if possible is None:
            return self.rules
        return [rule for rule in self.rules if rule.needs is None or not possible.isdisjoint(rule.needs)]

    def outcomes(self, evaluations: Evaluations) -> dict[str, str]:
        """Rule id → outcome, as the decision log keeps it; a rule that may not speak is marked as silent."""
        said = dict.fromkeys([rule.id for rule in evaluations.rules], Outcome.NOT_APPLICABLE.value)
        said |= {evaluation.rule.id: evaluation.outcome.value for evaluation in evaluations.pertinent}
        for rule_id in self.silent & said.keys():
            said[rule_id] += SILENT
        return said

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of this id."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)


def _sources(rules: tuple[Rule, ...], workups: Mapping[str, Workup]) -> frozenset[str]:
    """The FHIR resource types that the rules ask about, by the kinds of their criteria and workups."""
    found: set[str] = set()
    open_ones = [criterion for rule in rules for criterion in rule.criteria.values()]
    while open_ones:
        criterion = open_ones.pop()
        open_ones += criterion.parts.values()
        for key, types in CRITERION_SOURCES.items():
            if key in criterion.definition:
                found.update(types)
    asked = {item.workup for rule in rules for item in rule.recommend}
    if any(workups[name].done_or_ordered for name in asked):
        found.update(WORK_SOURCES)
    return frozenset(found)


def load_library(
    root: Traversable | Path | None = None, *, signoff_file: Path | None = None, only_signed: bool = False,
    checked_hash: str = "",
) -> RuleLibrary:  # fmt: skip
    """The library in a cards/ folder; by default the packaged one. Raises ContentError.

    With ``only_signed``, rules without two valid signatures (of the folder, or of ``signoff_file``) run silently.
    ``checked_hash``: of a library that another process has loaded, to ask the same rules: what was checked there is
    not checked again (see read_pack), and ``contents`` holds signed rules only.
    """
    place = root if root is not None else packaged_cards()
    pack = read_pack(place, checked_hash)
    signoffs = read_signoffs(place, signoff_file, checks=not checked_hash)
    hashed = pack.rules.keys() & signoffs.signatures.keys() if checked_hash else pack.rules.keys()
    return compile_pack(pack, root=place, signoffs=signoffs, hashed=hashed, only_signed=only_signed)


def compile_pack(
    pack: Pack, *, root: Traversable | Path | None = None, signoffs: SignOffs | None = None,
    hashed: Iterable[str] = (), only_signed: bool = False,
) -> RuleLibrary:  # fmt: skip
    """The library of a parsed pack, nothing of it signed without ``signoffs``. ``hashed``: the rules in ``contents``.

    Raises ContentError with every unknown name and unreadable sentence.
    """
    mistakes: list[Mistake] = []
    reading = build_reading(pack, mistakes)
    if mistakes:
        raise ContentError(mistakes)
    builder = CriteriaBuilder(reading, pack.single["criteria"], mistakes)
    families = build_families(pack.single["families"], mistakes)
    workups = build_workups(pack, reading, families, mistakes)
    assertions = _assertions(pack)
    guidance = build_guidance(pack.single["guidance"], pack.documents.keys(), assertions, mistakes)
    not_acted_on = pack.single["not_acted_on"]
    for name in not_acted_on.data:
        if name not in assertions:
            mistakes.append(not_acted_on.mistake((name,), f"no document has an assertion {name!r}"))
    compiler = RuleCompiler(builder, workups, assertions, pack.single["conflicts"].data, mistakes)
    rules = [rule for slug, source in pack.rules.values() if (rule := compiler.compile(slug, source)) is not None]
    if mistakes:
        raise ContentError(mistakes)
    contents = {rule_id: content_hash(pack, rule_id) for rule_id in hashed}
    signatures = {} if signoffs is None else signatures_in_force(signoffs, contents)
    return RuleLibrary(
        reading=reading, rules=tuple(rules), workups=workups, families=families, assertions=assertions,
        guidance=guidance, not_acted_on=not_acted_on.data, conflicts=pack.single["conflicts"].data,
        criteria=builder.count, hash=pack.hash, groups=builder.groups, root=root, contents=contents,
        signatures=signatures, silent=frozenset(pack.rules) - signatures.keys() if only_signed else frozenset(),
    )  # fmt: skip


def _assertions(pack: Pack) -> dict[str, Assertion]:
    return {
        item["id"]: Assertion(
            item["id"], source.data["slug"], source.data["title"], item["section"], item["paragraph"],
            item["says"], item["action"], item["actionable"],
        )
        for source in pack.documents.values()
        for item in source.data["assertions"]
    }  # fmt: skip
