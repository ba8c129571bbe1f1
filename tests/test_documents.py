"""What the five documents say: each assertion is whole, has its place in the document, and keeps its id.

The documents themselves are not in the repository; each file holds the sha256 of the text its line numbers speak of.
"""

import re
from pathlib import Path

import pytest
import yaml

DOCUMENTS = Path(__file__).resolve().parent.parent / "cards" / "documents"
EXPECTED = {  # slug: (prefix of its ids, number of assertions)
    "ankle-clonus": ("CLONUS", 25),
    "leg-tremors": ("TREMOR", 45),
    "leg-spasm": ("SPASM", 42),
    "myoclonic-jerks": ("MYO", 14),
    "dystonia": ("DYST", 18),
}
# Sections that say nothing beyond what assertions elsewhere in the same document hold.
SILENT = {
    "leg-spasm": {
        "Common Causes of Baby Leg Spasm",
        "What causes Baby Leg Spasm in infants? (FAQ)",
        "How can electrolyte imbalances lead to Baby Leg Spasm? (FAQ)",
        "Can cold exposure cause Baby Leg Spasm? (FAQ)",
    },
    "leg-tremors": {"Conclusion"},
}
KEYS = ["id", "section", "paragraph", "source_line", "type", "says", "action", "actionable"]
TYPES = {
    "definition", "cause", "risk-factor", "red-flag", "emergency", "workup", "referral", "treatment", "prognosis",
    "benign-criterion", "parental-guidance",
}  # fmt: skip

TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCUMENTS.glob("*.yaml"))}
LOADED = {slug: yaml.safe_load(text) for slug, text in TEXTS.items()}
each_document = pytest.mark.parametrize("slug", EXPECTED)


def lines(assertion):
    """First and last line an assertion rests on: "37" is (37, 37), "51-54" is (51, 54)."""
    first, _, last = assertion["source_line"].partition("-")
    return int(first), int(last or first)


def test_the_five_documents_and_no_others():
    assert set(LOADED) == set(EXPECTED)
    assert len({document["file_sha256"] for document in LOADED.values()}) == 5


def test_144_assertions_with_unique_ids():
    ids = [a["id"] for document in LOADED.values() for a in document["assertions"]]
    assert len(ids) == len(set(ids)) == 144


@each_document
def test_document_head(slug):
    document = LOADED[slug]
    assert list(document) == ["slug", "title", "file_sha256", "sections", "assertions"]
    assert document["slug"] == slug
    assert document["title"].strip()
    assert re.fullmatch(r"[0-9a-f]{64}", document["file_sha256"])


@each_document
def test_ids_number_the_assertions_of_their_document(slug):
    prefix, count = EXPECTED[slug]
    assert [a["id"] for a in LOADED[slug]["assertions"]] == [f"{prefix}-{n:02}" for n in range(1, count + 1)]


@each_document
def test_each_assertion_is_whole(slug):
    for assertion in LOADED[slug]["assertions"]:
        id_ = assertion["id"]
        assert list(assertion) == KEYS, id_
        assert [k for k in KEYS if not isinstance(assertion[k], str) or not assertion[k].strip()] == [], id_
        assert assertion["type"] in TYPES, id_
        assert assertion["action"] in {"stated", "inferred", "none"}, id_
        assert assertion["actionable"] in {"yes", "partial", "text-only"}, id_
        assert re.fullmatch(r"[1-9]\d*(-[1-9]\d*)?", assertion["source_line"]), id_


@each_document
def test_nothing_is_said_twice(slug):
    says = [a["says"].lower() for a in LOADED[slug]["assertions"]]
    assert len(says) == len(set(says))


@each_document
def test_an_assertion_without_action_is_text_only(slug):
    assert [
        a["id"] for a in LOADED[slug]["assertions"] if a["action"] == "none" and a["actionable"] != "text-only"
    ] == []


@each_document
def test_sections_follow_the_document(slug):
    sections = LOADED[slug]["sections"]
    assert [s for s in sections if list(s) != ["name", "source_line"]] == []
    starts = [s["source_line"] for s in sections]
    assert starts == sorted(set(starts)) and starts[0] >= 1
    assert len({s["name"] for s in sections}) == len(sections)


@each_document
def test_each_assertion_lies_in_its_section(slug):
    sections = LOADED[slug]["sections"]
    ends = [s["source_line"] for s in sections[1:]] + [float("inf")]
    span = {s["name"]: (s["source_line"], end) for s, end in zip(sections, ends, strict=True)}
    for assertion in LOADED[slug]["assertions"]:
        assert assertion["section"] in span, assertion["id"]
        heading, next_heading = span[assertion["section"]]
        first, last = lines(assertion)
        assert heading < first <= last < next_heading, assertion["id"]


@each_document
def test_sections_without_assertions_are_known(slug):
    spoken = {a["section"] for a in LOADED[slug]["assertions"]}
    assert {s["name"] for s in LOADED[slug]["sections"]} - spoken == SILENT.get(slug, set())


@each_document
def test_yaml_is_plain(slug):
    refused = (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)
    assert [t for t in yaml.scan(TEXTS[slug]) if isinstance(t, refused)] == []
    plain = [t.value for t in yaml.scan(TEXTS[slug]) if isinstance(t, yaml.ScalarToken) and t.plain]
    assert [v for v in plain if v.lower() in {"yes", "no", "on", "off", "true", "false", "null", "~"}] == []
    assert [v for v in plain if re.match(r"\d", v) and not v.isdigit()] == []
    assert "\t" not in TEXTS[slug] and TEXTS[slug].endswith("\n")
