"""The code lists under cards/ are valid FHIR R4, well formed, and never let one code mean two things.

A check digit proves that a code is well formed, not that it means what its display says.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from fhir.resources.R4B.codesystem import CodeSystem
from fhir.resources.R4B.valueset import ValueSet

CARDS = Path(__file__).resolve().parent.parent / "cards"
BASE = "https://infant-motor-cds.example/fhir"
OWN = f"{BASE}/CodeSystem/finding"
FINDINGS = ("finding", "disorder", "risk-factor")
FILES = sorted([*CARDS.glob("valuesets/*.json"), *CARDS.glob("codesystems/*.json")])
RESOURCES = {path: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
VALUESETS = {r["id"]: r for p, r in RESOURCES.items() if p.parent.name == "valuesets"}
CODESYSTEMS = {r["id"]: r for p, r in RESOURCES.items() if p.parent.name == "codesystems"}

# A code that several value sets may hold, with the reason: {(system, code): (reason, {value set ids})}.
SHARED = {}

# Codes looked at and refused: too wide, history, a group, unconfirmed, or another thing under a tempting name.
REFUSED = {
    "R25.8", "R29.2", "P81.9", "P84", "P03.4", "253098009", "18191000",
    "Z82.0", "Z86.69", "N03A", "N05BA", "77307-7", "14807-2",
}  # fmt: skip

# Component of a movement finding: the coded values it may take; none when its value is a number or a boolean.
QUALIFIERS = {
    "duration": "", "beats": "", "vigorous": "", "event-count": "",
    "frequency": "occasional frequent clustered",
    "state": "awake asleep",
    "awareness": "preserved altered lost",
    "provoked-by": "activity cold excitement startle hiccup sleep-onset",
    "laterality": "left right bilateral",
    "course": "persistent worsening improving",
    "severity": "mild moderate severe",
    "pattern": "flexion-stiffening rhythmic irregular",
    "body-area": "leg arm trunk face whole-body",
    "interferes-with": "feeding sleep activity",
    "onset-manner": "sudden gradual",
}  # fmt: skip

FAMILIES = {"emergency", "eeg", "bloodtests", "imaging", "furthertests", "referrals", "reassurance"}
WORKUPS = set(
    """
    eeg mri_brain us_head mri_spine ct_head glucose calcium magnesium electrolytes lumbar_puncture ncs
    emg genetic_test metabolic_screen lead_level referral_peds_neuro referral_pt referral_ot
    referral_early_intervention emergency_evaluation pediatric_review neuro_exam medication_review
    developmental_monitoring correct_metabolic reassurance
    """.split()
)


def verhoeff_ok(digits):
    """Verhoeff's check over the dihedral group of order ten."""
    check = 0
    for position, digit in enumerate(map(int, reversed(digits))):
        for _ in range(position % 8):
            digit = int("1576283094"[digit])
        turned = (check + digit if check < 5 else check - digit) % 5
        check = turned + 5 * ((check < 5) != (digit < 5))
    return check == 0


def snomed_ok(code):
    """A SNOMED CT concept id: partition 00 (international) or 10 (extension), and its check digit."""
    return bool(re.fullmatch(r"[1-9]\d{2,14}[01]0\d", code)) and verhoeff_ok(code)


def loinc_ok(code):
    """A LOINC number: its mod 10 check digit doubles every second digit from the right."""
    if not re.fullmatch(r"[1-9]\d{0,6}-\d", code):
        return False
    body, check = code.split("-")
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return (total + int(check)) % 10 == 0


WELL_FORMED = {
    "http://snomed.info/sct": snomed_ok,
    "http://loinc.org": loinc_ok,
    "http://hl7.org/fhir/sid/icd-10-cm": re.compile(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?").fullmatch,
    "http://human-phenotype-ontology.org": re.compile(r"HP:\d{7}").fullmatch,
    "http://www.whocc.no/atc": re.compile(r"[A-Z]\d\d[A-Z]{2}\d\d").fullmatch,
    "http://www.nlm.nih.gov/research/umls/rxnorm": re.compile(r"[1-9]\d*").fullmatch,
    OWN: re.compile(r"[a-z]+(-[a-z]+)*").fullmatch,
}


def category(valueset):
    return {e["url"]: e["valueCode"] for e in valueset["extension"]}[f"{BASE}/StructureDefinition/concept-category"]


def codings(valueset):
    return [(i["system"], c["code"], c) for i in valueset["compose"]["include"] for c in i["concept"]]


def properties(concept):
    found = defaultdict(set)
    for each in concept.get("property", []):
        found[each["code"]].add(each["valueCode"])
    return found


def coded(name):
    return {c["code"]: properties(c) for c in CODESYSTEMS[name]["concept"]}


def test_every_kind_of_concept_has_its_value_sets():
    assert Counter(map(category, VALUESETS.values())) == {
        "finding": 42, "disorder": 32, "risk-factor": 10, "lab": 16, "order": 3, "procedure": 17, "referral": 6,
        "specialty": 2, "medication": 7, "medication-cause": 5, "context": 2,
    }  # fmt: skip
    assert set(CODESYSTEMS) == {"finding", "movement-qualifier", "workup"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_resource_is_valid_fhir_r4(path):
    model = {"valuesets": ValueSet, "codesystems": CodeSystem}[path.parent.name]
    model.model_validate(RESOURCES[path])


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_file_is_written_one_way(path):
    written = json.dumps(RESOURCES[path], indent=2, ensure_ascii=False) + "\n"
    assert path.read_bytes() == written.encode()


def test_resources_are_named_after_their_files():
    for path, r in RESOURCES.items():
        kind = {"valuesets": "ValueSet", "codesystems": "CodeSystem"}[path.parent.name]
        camel = "".join(word.capitalize() for word in path.stem.split("-"))
        assert (r["resourceType"], r["id"], r["name"]) == (kind, path.stem, camel), path.name
        assert r["url"] == f"{BASE}/{kind}/{path.stem}"
        assert re.fullmatch(r"\d+\.\d+\.\d+", r["version"]), path.name
        assert (r["status"], r["experimental"], r["publisher"]) == ("draft", False, "Infant motor CDS project"), (
            path.name
        )
        assert r["title"].strip() and r["description"].endswith("."), path.name


def test_root_elements_come_in_fhir_order():
    first = ["resourceType", "id"]
    then = ["url", "version", "name", "title", "status", "experimental", "publisher", "description"]
    for id_, r in VALUESETS.items():
        assert list(r) == [*first, "extension", *then, "compose"], id_
    for id_, r in CODESYSTEMS.items():
        assert list(r) == [*first, *then, "caseSensitive", "content", "property", "concept"], id_


def test_check_digits_catch_every_single_wrong_digit():
    for ok, good in (
        (snomed_ok, "39055007"),
        (snomed_ok, "34101000119105"),
        (loinc_ok, "2345-7"),
        (loinc_ok, "76516-4"),
    ):
        assert ok(good)
        wrong = {good[:i] + d + good[i + 1 :] for i, c in enumerate(good) if c != "-" for d in "0123456789"} - {good}
        assert [w for w in wrong if ok(w)] == []
    assert verhoeff_ok("101013") and not snomed_ok("101013"), "a description id is no concept id"


def test_every_code_is_well_formed_in_a_known_system():
    bad = [(id_, s, c) for id_, v in VALUESETS.items() for s, c, _ in codings(v) if not WELL_FORMED[s](c)]
    assert bad == []


def test_each_concept_has_a_display_and_says_where_it_was_seen():
    for id_, valueset in VALUESETS.items():
        for _, code, concept in codings(valueset):
            assert list(concept) == ["code", "display", "extension"], (id_, code)
            assert concept["display"] == concept["display"].strip() != "", (id_, code)
            (seen,) = concept["extension"]
            assert seen["url"] == f"{BASE}/StructureDefinition/seen-in", (id_, code)
            assert re.match(r"(VERIFIED(-HPO-XREF|-1-SOURCE|-WEAK)?|PROJECT): \S", seen["valueString"]), (id_, code)


def test_no_system_or_code_is_listed_twice_in_a_value_set():
    for id_, valueset in VALUESETS.items():
        systems = [include["system"] for include in valueset["compose"]["include"]]
        codes = [(s, c) for s, c, _ in codings(valueset)]
        assert len(systems) == len(set(systems)) and len(codes) == len(set(codes)), id_
        assert codes, id_


def test_no_code_is_in_two_value_sets():
    holders = defaultdict(set)
    for id_, valueset in VALUESETS.items():
        for system, code, _ in codings(valueset):
            holders[system, code].add(id_)
    assert {key: ids for key, ids in holders.items() if len(ids) > 1} == {key: ids for key, (_, ids) in SHARED.items()}


def test_refused_codes_stay_out():
    held = {code for valueset in VALUESETS.values() for _, code, _ in codings(valueset)}
    assert held & REFUSED == set()


def test_every_finding_has_its_own_code_and_other_concepts_have_none():
    for id_, valueset in VALUESETS.items():
        own = [code for system, code, _ in codings(valueset) if system == OWN]
        expected = [] if category(valueset) not in FINDINGS else [id_]
        if id_ == "muscle-spasm":
            expected.append("muscle-cramp")
        assert own == expected, id_


def test_own_codes_are_exactly_those_of_the_code_system():
    own = {c: (k["display"], category(v)) for v in VALUESETS.values() for s, c, k in codings(v) if s == OWN}
    defined = {c["code"]: (c["display"], *properties(c)["category"]) for c in CODESYSTEMS["finding"]["concept"]}
    assert own == defined
    assert len(defined) == 85


def test_cramp_counts_as_spasm():
    assert "muscle-cramp" not in VALUESETS
    codes = {(s.rsplit("/", 1)[-1], c) for s, c, _ in codings(VALUESETS["muscle-spasm"])}
    assert {("icd-10-cm", "R25.2"), ("finding", "muscle-cramp"), ("sct", "55300003")} <= codes


def test_code_systems_are_complete_and_use_a_code_once():
    for id_, r in CODESYSTEMS.items():
        assert (r["caseSensitive"], r["content"]) == (True, "complete"), id_
        codes = [c["code"] for c in r["concept"]]
        assert [c for c, n in Counter(codes).items() if n > 1] == [], id_
        assert [c["code"] for c in r["concept"] if not c["display"].strip()] == [], id_
        declared = {p["code"] for p in r["property"]}
        assert {p for c in r["concept"] for p in properties(c)} <= declared, id_


def test_movement_qualifiers_and_their_values():
    concepts = coded("movement-qualifier")
    values = defaultdict(set)
    for code, props in concepts.items():
        if props["kind"] == {"value"}:
            for component in props["component"]:
                values[component].add(code)
    components = {code for code, props in concepts.items() if props["kind"] == {"component"}}
    assert components == set(QUALIFIERS)
    assert values == {c: set(v.split()) for c, v in QUALIFIERS.items() if v}
    assert set(concepts) == components.union(*values.values())


def test_workups_and_card_families():
    kinds = {code: props["kind"] for code, props in coded("workup").items()}
    assert {code for code, kind in kinds.items() if "workup" in kind} == WORKUPS
    assert {code for code, kind in kinds.items() if "card-family" in kind} == FAMILIES
    assert set(kinds) == WORKUPS | FAMILIES
    assert all(family.isalnum() for family in FAMILIES), "a topic code is alphanumeric"
