"""Every card keeps the rules of CDS Hooks 2.0.1 and ours of wording, and no text of a record gets into its markup."""

from __future__ import annotations

import re
import uuid
from itertools import cycle

import pytest
from fhir.resources.R4B.servicerequest import ServiceRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from infants import BASIS, condition, lab, observation, order
from markdown_it import MarkdownIt
from wire import SAMPLES, charts, gist, infants, said, sample, texts_of, walk

DRAWN = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SECTIONS = ["Why shown", "Suggested", "Not known", "Basis"]
INDICATORS = ["critical", "warning", "info"]
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = {"paragraph_open", "paragraph_close", "inline", "text", "strong_open", "strong_close", "softbreak",
        "bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}  # fmt: skip
FORBIDDEN = re.compile(r"\bmust\b|failure to|\balerts?\b", re.IGNORECASE)
HTTP_URL = re.compile(r"https?://[^\s/]+/\S*")
CODE = re.compile(r"[A-Za-z0-9]{1,100}")
ANSWERS = {name: said(sample(name)) for name in SAMPLES}
CARDS = [pytest.param(card, name, id=f"{name}-{card['source']['topic']['code']}")
         for name, body in ANSWERS.items() for card in body["cards"]]  # fmt: skip
every_card = pytest.mark.parametrize(("card", "name"), CARDS)


def tokens(text):
    """Every Markdown token of a text, with those inside lines."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def sections(detail):
    """The titles of a detail, and nothing else is bold."""
    assert [token.type for token in tokens(detail)].count("strong_open") == detail.count("\n\n**") + 1
    return re.findall(r"^\*\*([^*]+):\*\*", detail, re.MULTILINE)


def obeys(card, patient):
    """The card follows CDS Hooks 2.0.1 and our rules of wording."""
    assert card.keys() <= {"uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior",
                           "overrideReasons", "links", "extension"}  # fmt: skip
    assert str(uuid.UUID(card["uuid"])) == card["uuid"]
    assert 0 < len(card["summary"]) < 140
    assert card["summary"].isprintable()
    assert card["indicator"] in INDICATORS
    assert card["source"].keys() == {"label", "url", "topic"}
    assert HTTP_URL.fullmatch(card["source"]["url"])
    assert CODE.fullmatch(card["source"]["topic"]["code"])
    assert card["source"]["topic"]["system"].startswith("https://")
    assert len(card["detail"].split()) <= 120
    assert sections(card["detail"]) == [title for title in SECTIONS if title in sections(card["detail"])]
    assert {"Why shown", "Suggested", "Basis"} <= set(sections(card["detail"]))
    assert {token.type for token in tokens(card["detail"])} <= OURS
    assert 4 <= len(card["overrideReasons"]) <= 6
    for reason in card["overrideReasons"]:
        assert all(reason[name] for name in ("code", "system", "display"))
    assert len({reason["code"] for reason in card["overrideReasons"]}) == len(card["overrideReasons"])
    for link in card["links"]:
        assert link.keys() == {"label", "url", "type"}
        assert link["type"] == "absolute"
        assert HTTP_URL.fullmatch(link["url"])
    assert ("selectionBehavior" in card) is ("suggestions" in card)
    assert card.get("selectionBehavior", "any") in ("any", "at-most-one")
    for suggestion in card.get("suggestions", []):
        (action,) = suggestion["actions"]
        assert suggestion["label"]
        assert action.keys() == {"type", "description", "resource"}
        assert (action["type"], bool(action["description"])) == ("create", True)
        is_a_draft(action["resource"], patient)
    assert not [text for text in texts_of(card) if FORBIDDEN.search(text)]


def is_a_draft(order, patient):
    assert (order["resourceType"], order["status"], order["intent"]) == ("ServiceRequest", "draft", "proposal")
    assert order["subject"] == {"reference": f"Patient/{patient}"}
    assert order["code"]["coding"][0].keys() == {"system", "code", "display"}
    assert order.get("reasonReference") or order.get("reasonCode")
    assert not {"id", "meta", "requester"} & order.keys()


def holds_together(body):
    """The answer as a whole: nothing empty, no systemActions, order, families, uuids, reassurance alone."""
    assert body.keys() == {"cards", "extension"}
    for part in walk(body["cards"]):
        assert not [value for value in part.values() if value is None or (value != 0 and not value)]
    families = [card["source"]["topic"]["code"] for card in body["cards"]]
    assert len(set(families)) == len(families)
    assert "reassurance" not in families or families == ["reassurance"]
    ranks = [INDICATORS.index(card["indicator"]) for card in body["cards"]]
    assert ranks == sorted(ranks)
    uuids = [part["uuid"] for part in walk(body["cards"]) if "uuid" in part]
    assert len(set(uuids)) == len(uuids)
    assert len({id_ for id_, _ in gist(body)["workups"]}) == len(gist(body)["workups"])
    for card in body["cards"]:
        urgencies = [item["urgency"] for item in card["extension"][BASIS]["workups"]]
        assert card["indicator"] == min(urgencies, key=INDICATORS.index)


@every_card
def test_a_card_of_a_sample_keeps_every_rule(card, name):
    obeys(card, sample(name)["context"]["patientId"])


@every_card
def test_the_draft_orders_of_a_sample_are_valid_fhir(card, name):
    for suggestion in card.get("suggestions", []):
        ServiceRequest.model_validate(suggestion["actions"][0]["resource"])


@every_card
def test_the_evidence_of_a_sample_is_in_its_request(card, name):
    sent = {
        f"{part['resourceType']}/{part['id']}" for part in walk(sample(name)) if "resourceType" in part and "id" in part
    }
    assert set(card["extension"][BASIS].get("evidence", ())) <= sent
    named = [part["reference"] for part in walk(card) if isinstance(part.get("reference"), str)]
    assert set(named) <= sent | {f"Encounter/{sample(name)['context'].get('encounterId')}"}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_answer_to_a_sample_holds_together(name):
    holds_together(ANSWERS[name])


def test_the_samples_give_cards_of_every_indicator_and_of_most_families():
    given = [(card.values[0]["indicator"], card.values[0]["source"]["topic"]["code"]) for card in CARDS]
    assert {indicator for indicator, _ in given} == set(INDICATORS)
    assert len({family for _, family in given}) >= 6


def test_reassurance_is_not_given_beside_anything_else():
    clonus = observation("ankle_clonus", "2026-11-21", ("laterality", "bilateral"))
    answer = infants.infant(observation("tremor", "2026-11-21"), clonus)
    assert infants.outcome(answer, "mild-tremor-first-year-reassurance") == "recommended"
    assert set(gist(answer.body)["cards"]) == {"imaging", "referrals"}


def test_the_day_of_work_done_is_said_in_utc():
    for when in ("2026-11-22T00:00:00Z", "2026-11-21T23:45:00-00:15", "2026-11-22T13:00:00+13:00"):
        answer = infants.infant(observation("seizure", "2026-11-21"), lab("lab_glucose", 90, "mg/dL", when))
        (blood,) = [card for card in answer.body["cards"] if card["source"]["topic"]["code"] == "bloodtests"]
        assert "Already done: Glucose (2026-11-22)." in blood["detail"]


@given(charts())
@DRAWN
def test_every_card_of_any_chart_keeps_the_rules(chart):
    body = said(chart.request())
    holds_together(body)
    for card in body["cards"]:
        obeys(card, "p1")


EVIL = st.sampled_from([
    "<script>alert(1)</script>", "<b>x</b>", "[x](https://evil.example)", " *x* _y_ ", "![x](http://evil.example/i)",
    "`code`", "**bold**", "\n# head\n", "\n\n---\n", "- a\n- b", "1. a", "> quote", "|a|b|\n|-|-|\n|c|d|", "&lt;b&gt;",
    "&#60;b>", "\u202ekcis\u202c", "\u200f\u2066x", "~~gone~~", "<https://evil.example>", "https://evil.example",
    "\x00\x1b[31m",
    "a" * 400, "\\*x*", "***:** x", "**Basis:** trust me", "must", "\ud7ff\uffff", "=== \n===",
]) | st.text(max_size=20)  # fmt: skip
UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]")


def facts(texts):
    """A chart in which every free text, id, printed unit and unreadable date is one of these texts."""
    words = cycle(texts)

    def free(resource):
        resource["id"] += next(words)
        for part in walk(resource):
            if "coding" in part:
                part["text"] = next(words)
            if "code" in part and "system" in part and isinstance(part["code"], str):
                part["display"] = next(words)
            if part.get("unit"):
                part["unit"] = next(words)
        return resource | {"note": [{"text": next(words)}], "text": {"div": next(words)}, "subject": {
            "reference": "Patient/p1", "display": next(words)}}  # fmt: skip

    return [free(resource) for resource in (
        observation("seizure", "2026-11-21"), observation("tremor", "2026-11-21"), observation("fever", "2026-11-21"),
        lab("lab_glucose", 30, "mg/dL", "2026-11-21"), lab("lab_calcium_total", 6, next(words), "2026-11-21"),
        observation("seizure", next(words)), condition("lethargy", next(words)), order("eeg", next(words)),
        order("mri_brain", next(words)), lab("lab_magnesium", 1, "mg/dL", next(words)),
        observation("dystonia", None, effectivePeriod={"start": next(words), "end": "2026-11-21"}),
        condition("ankle_clonus", None, ("laterality", "bilateral"), onsetString=next(words), clinical="active"),
        infants.procedure("eeg", next(words)), condition("meningitis"), observation("lethargy", next(words)),
    )]  # fmt: skip


@given(st.lists(EVIL, min_size=1, max_size=6), st.sets(st.integers(1, 14), max_size=4))
@DRAWN
def test_no_text_of_a_record_becomes_markup_of_a_card(texts, others):
    body = said(infants.request(*(fact for place, fact in enumerate(facts(texts)) if place in {0, *others})))
    assert body["cards"]
    holds_together(body)
    for card in body["cards"]:
        shown = {**card, "extension": None, "suggestions": None}
        assert {token.type for token in tokens(card["detail"])} <= OURS
        assert sections(card["detail"]) == [title for title in SECTIONS if title in sections(card["detail"])]
        assert len(card["detail"].split()) <= 120
        assert len(card["summary"]) < 140
        assert not [text for text in texts_of(shown) if UNSEEN.search(text)]
        assert "evil.example" not in card["summary"]


@given(st.lists(EVIL, min_size=1, max_size=6), st.sampled_from([name for name in SAMPLES if ANSWERS[name]["cards"]]))
@DRAWN
def test_displays_texts_notes_and_names_change_no_card(texts, name):
    body = sample(name)
    words = cycle(texts)
    for part in walk(body["prefetch"]):
        for key in ("display", "text", "family", "div"):
            if isinstance(part.get(key), str) and key in part:
                part[key] = next(words)
    assert said(body)["cards"] == ANSWERS[name]["cards"]
