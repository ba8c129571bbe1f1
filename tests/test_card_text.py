"""What a card quotes, counts and leaves out: the passage that asks for it, advice without an order, work done."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from infants import BASIS, Json, ask, condition, infant, lab, observation, order, request
from wire import LIBRARY, SAMPLES, said, sample

from cds_service.errors import ContentError
from cds_service.hooks.card_text import DETAIL_LIMIT
from cds_service.rules.library import load_library

CARDS = Path(__file__).parents[1] / "cards"
SEIZURE = "rules/leg-tremors/seizure-first-workup.yaml"
ORDERED = {"referrals": "Referral to physical therapy", "bloodtests": "Magnesium", "furthertests": "Electromyography"}
MORE = re.compile(r"And (\d+) more in the suggestions below\.")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of cards/ to change."""
    return Path(shutil.copytree(CARDS, tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__")))


def change(pack: Path, file: str, workup: str, **keys: str) -> int:
    """Write the item of this workup anew with these keys; the line on which it stands."""
    path = pack / file
    lines = path.read_text(encoding="utf-8").splitlines()
    (place,) = [place for place, line in enumerate(lines) if f"workup: {workup}," in line]
    for key, value in keys.items():
        lines[place] = re.sub(rf", {key}: [^,}}]+", "", lines[place]).replace("}", f", {key}: {value}}}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place + 1


def card(body: Mapping[str, Any], family: str) -> Json:
    """The card of a family."""
    (found,) = [card for card in body["cards"] if card["source"]["topic"]["code"] == family]
    return dict(found)


def section(detail: str, title: str) -> str:
    """What stands in one section of a card."""
    (found,) = re.findall(rf"^\*\*{title}:\*\* (.*)$", detail, re.MULTILINE)
    return str(found)


def quoted(body: Mapping[str, Any], family: str) -> list[str]:
    """The assertions whose words stand under Basis on the card of a family, in their order."""
    basis = section(card(body, family)["detail"], "Basis")
    places = {basis.find(f": {a.says}."): a.id for a in LIBRARY.assertions.values() if f": {a.says}." in basis}
    return [places[place] for place in sorted(places)]


# Basis


@pytest.mark.parametrize(
    ("finding", "family", "says"),
    [
        ("seizure", "eeg", ["TREMOR-25"]),
        ("seizure", "bloodtests", ["TREMOR-23", "SPASM-24"]),
        ("seizure", "referrals", ["SPASM-27"]),
        ("dystonia", "imaging", ["DYST-09"]),
        ("dystonia", "furthertests", ["DYST-10"]),
        ("infantile_spasms", "eeg", ["TREMOR-25"]),
    ],
)
def test_the_basis_quotes_the_passage_that_asks_for_the_workup_of_the_card(
    finding: str, family: str, says: list[str]
) -> None:
    assert quoted(infant(observation(finding)).body, family)[: len(says)] == says


def test_a_workup_that_cites_nothing_is_quoted_by_the_first_assertion_of_its_rule() -> None:
    clonus = observation("ankle_clonus", "2026-11-21")
    body = infant(clonus, birth="2026-11-12").body
    assert quoted(body, "reassurance") == ["CLONUS-21"]


def test_the_most_urgent_workup_is_quoted_first(pack: Path) -> None:
    change(pack, SEIZURE, "electrolytes", urgency="critical")
    body = ask(request(observation("seizure")), load_library(pack)).body
    assert quoted(body, "bloodtests") == ["SPASM-24", "TREMOR-23"]


def test_no_more_than_two_passages_of_a_rule_are_quoted(pack: Path) -> None:
    change(pack, SEIZURE, "calcium", cites="TREMOR-12")
    rules = load_library(pack)
    assert len({item.cites for item in rules.rule("seizure-first-workup").recommend[2:]}) == 3  # type: ignore[union-attr]
    assert quoted(ask(request(observation("seizure")), rules).body, "bloodtests") == ["TREMOR-23", "TREMOR-12"]


def test_a_workup_that_is_taken_care_of_is_not_quoted() -> None:
    done = [lab(name, value, "mg/dL") for name, value in (("lab_glucose", 90), ("lab_magnesium", 2))]
    body = infant(observation("seizure"), *done, lab("lab_calcium_total", 10, "mg/dL")).body
    assert quoted(body, "bloodtests") == ["SPASM-24"]


def test_two_rules_that_cite_the_same_passage_do_not_quote_it_twice() -> None:
    body = infant(observation("seizure", "2026-11-20"), observation("seizure", "2026-11-21")).body
    assert len(card(body, "eeg")["extension"][BASIS]["rules"]) == 2
    assert card(body, "eeg")["detail"].count("EEG to assess brain activity") == 1


def test_a_citation_outside_draws_on_is_a_mistake_of_its_line(pack: Path) -> None:
    line = change(pack, SEIZURE, "eeg", cites="TREMOR-33")
    with pytest.raises(ContentError) as caught:
        load_library(pack)
    found = [(m.file, m.line, m.message) for m in caught.value.mistakes]
    assert found == [(f"cards/{SEIZURE}", line, "'TREMOR-33' is not in draws_on: add it or cite another")]


def test_a_citation_that_is_no_assertion_id_is_refused_by_the_schema(pack: Path) -> None:
    line = change(pack, SEIZURE, "eeg", cites="tremor twenty-five")
    with pytest.raises(ContentError) as caught:
        load_library(pack)
    assert [(m.line, "tremor twenty-five" in m.message) for m in caught.value.mistakes] == [(line, True)]


# Suggested


CROWDED = {
    "emergency": (
        observation("seizure"), observation("fever"), observation("lethargy"), observation("dehydration"),
        observation("tremor", "2026-11-21", ("severity", "severe"), ("course", "persistent")),
        lab("lab_glucose", 30, "mg/dL"), lab("lab_calcium_total", 6, "mg/dL"), lab("lab_sodium", 120, "mmol/L"),
        condition("lead_exposure"), condition("inborn_error_metabolism"),
    ),
    "referrals": (
        observation("ankle_clonus", "2026-11-21", ("laterality", "bilateral")), observation("dystonia"),
        observation("spasticity"), observation("tremor", "2026-11-21", ("course", "persistent")),
        condition("cerebral_palsy"), condition("hie"), condition("forceps_delivery"), observation("muscle_spasm"),
    ),
    "medicine": (
        observation("dystonia"), observation("muscle_weakness"), observation("muscle_spasm"), observation("tremor"),
        condition("inherited_movement_disorder"), condition("inborn_error_metabolism"), condition("meningitis"),
        condition("peripheral_neuropathy"), condition("neonatal_withdrawal"),
    ),
}  # fmt: skip


def bodies() -> list[Mapping[str, Any]]:
    """The answers to all samples and to infants about whom many rules speak."""
    crowded = [infant(*facts, birth=birth).body for facts in CROWDED.values() for birth in ("2026-07-10", "2026-11-03")]
    return [*(said(sample(name)) for name in SAMPLES), *crowded]


BODIES = bodies()


def test_advice_without_an_order_always_stands_on_its_card_and_the_rest_is_counted() -> None:
    advised, hidden = set(), 0
    for found in (card for body in BODIES for card in body["cards"]):
        text = section(found["detail"], "Suggested")
        items = found["extension"][BASIS]["workups"]
        workups = [(LIBRARY.workups[item["id"]], item["urgency"]) for item in items]
        wordings = [(w.order, w.suggest[next(u for u in w.suggest if u.indicator == said)]) for w, said in workups]
        for order_, wording in wordings:
            assert order_ is not None or wording in text
        advised |= {item["id"] for item in items if LIBRARY.workups[item["id"]].order is None}
        unsaid = sum(wording not in text for order_, wording in wordings if order_ is not None)
        counted = MORE.search(text)
        assert unsaid == (int(counted[1]) if counted else 0)
        assert unsaid <= len(found.get("suggestions", ()))
        assert len(found["detail"].split()) <= DETAIL_LIMIT
        hidden += unsaid
    everything = {workup.id for workup in LIBRARY.workups.values() if workup.order is None}
    assert hidden
    assert everything - advised == set()


def test_already_done_names_only_workups_of_the_family_of_the_card_and_comes_last() -> None:
    body = infant(observation("seizure"), lab("lab_glucose", 90, "mg/dL"), order("mri_brain")).body
    blood = section(card(body, "bloodtests")["detail"], "Suggested")
    assert blood.endswith("Consider measuring magnesium. Already done: Glucose (2026-11-21).")
    assert "Already" not in card(body, "eeg")["detail"]
    assert "Already" not in card(body, "referrals")["detail"]


def test_already_done_is_dropped_only_where_there_is_no_room_for_it() -> None:
    said_so = dropped = 0
    for facts in CROWDED.values():
        body = infant(*facts, order("referral_pt"), order("lab_magnesium"), order("emg")).body
        for found in body["cards"]:
            text = section(found["detail"], "Suggested")
            said_so += " Already ordered:" in text
            assert "Consider" not in text.partition(" Already ordered:")[2]
            if (item := ORDERED.get(found["source"]["topic"]["code"])) and item not in text and asks_for(found, item):
                dropped += 1
                sentence = f"Already ordered: {item} (2026-11-21)."
                assert len(found["detail"].split()) + len(sentence.split()) > DETAIL_LIMIT
    assert said_so
    assert dropped


def asks_for(found: Json, label: str) -> bool:
    """A rule of this card asks for the workup of this label."""
    rules = (LIBRARY.rule(rule["id"]) for rule in found["extension"][BASIS]["rules"])
    return any(LIBRARY.workups[item.workup].label == label for rule in rules if rule for item in rule.recommend)


def test_a_reassurance_speaks_of_the_data_read_and_not_of_the_infant() -> None:
    tremor = infant(observation("tremor")).body
    text = section(card(tremor, "reassurance")["detail"], "Suggested")
    assert text.startswith("Consider reassurance: nothing in the data read points to disease.")
