"""CDS Hooks, "CDS Service Response": envelope, card, source, links, suggestions, actions (tests/conformance.yaml)."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from fhir.resources.R4B.servicerequest import ServiceRequest
from infants import Json, library
from infants import request as infant_request
from markdown_it import MarkdownIt
from services import PUBLIC, dated
from wire import SAMPLES, post, refused, sample, texts_of, walk

from cds_service.settings import Settings
from cds_service.web.openapi import urls_of

REASONS = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def actions_of(suggestions: list[Json]) -> list[Json]:
    return [action for suggestion in suggestions for action in suggestion["actions"]]


def test_RESP_1_STATUS_200_an_object_with_cards(sandbox: Any) -> None:
    answer = post(sandbox, dated())
    assert answer.status_code == 200
    assert answer.get_json().keys() == {"cards", "extension"}
    assert isinstance(answer.get_json()["cards"], list) and answer.get_json()["cards"]


def test_RESP_2_nothing_to_say_is_an_empty_list(sandbox: Any) -> None:
    answer = post(sandbox, infant_request())
    assert (answer.status_code, answer.get_json()["cards"]) == (200, [])


def test_RESP_3_RESP_4_every_refusal_but_401_is_an_outcome(sandbox: Any) -> None:
    refused(post(sandbox, b"{"), 400, "json.syntax")
    refused(sandbox.get("/nowhere"), 404, "not-found")
    refused(sandbox.put("/cds-services/infant-motor-workup"), 405, "method")
    refused(post(sandbox, dated(prefetch={})), 412, "data.missing")
    refused(post(sandbox, b"x", content_type="text/plain"), 415, "media-type")


def test_RESP_5_each_answer_is_whole_and_speaks_of_no_earlier_one(sandbox: Any, cards: list[Json]) -> None:
    first = [card["summary"] for card in post(sandbox, dated()).get_json()["cards"]]
    post(sandbox, infant_request())
    assert first and [card["summary"] for card in post(sandbox, dated()).get_json()["cards"]] == first
    earlier = re.compile(r"(earlier|previous|other|last) cards?|as before|see above", re.IGNORECASE)
    assert not [text for card in cards for text in texts_of(card) if earlier.search(text)]


def test_RESP_6_SRC_5_each_topic_has_a_stable_alphanumeric_code(cards: list[Json], answers: dict[str, Json]) -> None:
    codes = {card["source"]["topic"]["code"] for card in cards}
    assert codes <= {family.id for family in library().families}
    assert all(re.fullmatch(r"[A-Za-z0-9]{1,100}", code) for code in codes)
    assert {card["source"]["topic"]["system"] for card in cards} == {f"{library().reading.canonical}/CodeSystem/workup"}


def test_SYS_4_no_system_actions(answers: dict[str, Json]) -> None:
    assert not [body for body in answers.values() if "systemActions" in body]


def test_CARD_1_a_uuid_for_each_card_of_each_call(sandbox: Any) -> None:
    seen = []
    for number in range(3):
        body = post(sandbox, dated(hookInstance=str(uuid.UUID(int=number)))).get_json()
        seen += [card["uuid"] for card in body["cards"]]
    assert all(str(uuid.UUID(each)) == each for each in seen)
    assert len(seen) > 3 and len(set(seen)) == len(seen)


def test_CARD_2_summaries_are_one_plain_line_below_140_characters(cards: list[Json]) -> None:
    for card in cards:
        assert 0 < len(card["summary"]) < 140
        assert card["summary"].isprintable() and not re.search(r"[*_`<>#\[\]]", card["summary"])


def test_CARD_3_details_are_markdown_without_html(cards: list[Json]) -> None:
    for card in cards:
        parts = [token for block in MARKDOWN.parse(card["detail"]) for token in (block, *(block.children or ()))]
        assert not [token for token in parts if token.type.startswith("html") or token.type in ("image", "link_open")]
        assert any(token.type == "strong_open" for token in parts)


def test_CARD_4_indicators(cards: list[Json]) -> None:
    assert {card["indicator"] for card in cards} == {"info", "warning", "critical"}


def test_CARD_5_SRC_1_SRC_2_SRC_3_the_source_is_who_says_it(cards: list[Json]) -> None:
    for card in cards:
        assert card["source"].keys() == {"label", "url", "topic"}
        assert 0 < len(card["source"]["label"]) < 80
        assert card["source"]["url"] == f"{PUBLIC}/"  # the same for every card: no drill-down


def test_CARD_6_CARD_7_CARD_8_suggestions_and_their_selection_go_together(cards: list[Json]) -> None:
    kinds = set()
    for card in cards:
        assert ("suggestions" in card) is ("selectionBehavior" in card)
        kinds.add(card.get("selectionBehavior"))
        assert card.get("suggestions", True)
    assert kinds == {None, "any"}


def test_CARD_9_CARD_10_CARD_12_reasons_are_codings_of_hl7(cards: list[Json]) -> None:
    for card in cards:
        assert len(card["overrideReasons"]) >= 4
        for reason in card["overrideReasons"]:
            assert reason.keys() == {"code", "system", "display"} and all(reason.values())
            assert reason["system"] == REASONS


def test_CARD_13_LINK_1_LINK_2_LINK_3_LINK_4_links_are_absolute_pages_that_open(
    sandbox: Any, cards: list[Json]
) -> None:
    links = [link for card in cards for link in card["links"]]
    assert links
    for link in links:
        assert link.keys() == {"label", "url", "type"}  # appContext is for smart links
        assert (link["type"], bool(link["label"])) == ("absolute", True)
    for url in {link["url"] for link in links}:
        answer = sandbox.get(url.removeprefix(PUBLIC))
        assert (answer.status_code, answer.mimetype) == (200, "text/html")


def test_LINK_9_SEC_7_urls_are_https_stable_published_and_without_the_patient(
    sandbox: Any, answers: dict[str, Json]
) -> None:
    published = set(urls_of(library(), Settings(public_url=PUBLIC)))
    page = sandbox.get("/api").text
    assert all(f"<code>{url}</code>" in page and url.startswith("https://") for url in published)
    for body in answers.values():
        for card in body["cards"]:
            assert {card["source"]["url"], *(link["url"] for link in card["links"])} <= published


def test_CARD_14_one_card_per_topic_most_urgent_first_and_bounded(answers: dict[str, Json]) -> None:
    order = ["critical", "warning", "info"]
    assert max(len(body["cards"]) for body in answers.values()) > 2
    for body in answers.values():
        topics = [card["source"]["topic"]["code"] for card in body["cards"]]
        assert len(topics) == len(set(topics)) < len(library().families)
        ranks = [order.index(card["indicator"]) for card in body["cards"]]
        assert ranks == sorted(ranks)


def test_CARD_14_text_of_the_chart_is_no_markdown(sandbox: Any) -> None:
    evil = "![x](https://evil.example) <img src=x> **Basis:**"
    body = dated()
    for part in walk(body["prefetch"]):
        for name in ("display", "text"):
            if isinstance(part.get(name), str):
                part[name] = evil
    shown = [(card["summary"], card["detail"]) for card in post(sandbox, body).get_json()["cards"]]
    assert shown and "evil" not in str(shown)


def test_SUG_1_SUG_2_suggestions_have_label_and_uuid(answers: dict[str, Json], suggestions: list[Json]) -> None:
    assert all(
        suggestion["label"] and str(uuid.UUID(suggestion["uuid"])) == suggestion["uuid"] for suggestion in suggestions
    )
    for body in answers.values():
        uuids = [part["uuid"] for part in walk(body["cards"]) if "uuid" in part]
        assert len(uuids) == len(set(uuids))


def test_SUG_4_one_action_for_each_suggestion(suggestions: list[Json]) -> None:
    assert {len(suggestion["actions"]) for suggestion in suggestions} == {1}


def test_SUG_5_no_behaviour_that_clients_may_not_know(suggestions: list[Json]) -> None:
    assert {frozenset(suggestion) for suggestion in suggestions} == {frozenset({"label", "uuid", "actions"})}


def test_ACT_1_ACT_2_ACT_3_actions_create_something_described(suggestions: list[Json]) -> None:
    for action in actions_of(suggestions):
        assert action.keys() == {"type", "description", "resource"}
        assert (action["type"], bool(action["description"])) == ("create", True)
        assert action["resource"]["resourceType"] == "ServiceRequest"
        assert "id" not in action["resource"]


@pytest.mark.parametrize("name", SAMPLES)
def test_ACT_6_only_draft_proposals_for_the_patient_of_the_context(answers: dict[str, Json], name: str) -> None:
    subject = {"reference": f"Patient/{sample(name)['context']['patientId']}"}
    for card in answers[name]["cards"]:
        for action in actions_of(card.get("suggestions", [])):
            order = action["resource"]
            assert (order["status"], order["intent"], order["subject"]) == ("draft", "proposal", subject)


def test_ACT_7_resources_are_valid_r4(suggestions: list[Json]) -> None:
    for action in actions_of(suggestions):
        ServiceRequest.model_validate(action["resource"])
