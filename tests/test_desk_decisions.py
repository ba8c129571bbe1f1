"""The desk's pages of single decisions: found, traced, explained, made into tests; never a name or id of a patient."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import infants
import pytest
from faulty import FaultyServer, serves
from flask import Flask, render_template_string
from flask.testing import FlaskClient
from infants import Json, ask, library
from services import Production, opened
from sqlalchemy import event, text
from wire import SAMPLES, post, sample

from cds_service.app import create_app
from cds_service.errors import StoreUnavailable
from cds_service.log_keys import NO_KEYS
from cds_service.record.truth import NEGATION, TRUE, Truth
from cds_service.rules.cases import cases_of, check_cases
from cds_service.rules.criteria import Criterion
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.pack import packaged_cards, read_cases
from cds_service.rules.rule import Outcome
from cds_service.rules.sentences import And, Name, Not, Or, Sentence
from cds_service.rules.smallest_changes import Change, smallest_changes, speaks_when
from cds_service.rules.written_case import CannotBeWritten, write_case
from cds_service.settings import Settings
from cds_service.store.decision import Decision
from cds_service.store.pseudonyms import key_of, pseudonym
from cds_service.store.stops import stop
from cds_service.web import in_force
from cds_service.web.desk.card_view import card_view
from cds_service.web.desk.decisions import pages as decision_pages
from cds_service.web.desk.decisions.why_not import WhyNot, why_not
from cds_service.web.desk.roles import Role

KEY, OTHER_KEY = "A" * 43 + "=", "B" * 43 + "="
KEYS = {"keep_inputs": True, "inputs_key": KEY, "pseudonym_key": OTHER_KEY}
CANARY = "canary"
PATIENT = "canary-patient-7"
HOSTILE = "<script>alert(1)</script>"


def marked(name: str = "low-calcium-mmol") -> Json:
    """A sample whose patient is marked wherever a person is named, and whose resources' ids hold the patient's."""
    old = sample(name)["context"]["patientId"]
    written = json.dumps(sample(name)).replace(f'Patient/{old}"', f'Patient/{PATIENT}"')
    body: Json = json.loads(written.replace(f'"{old}"', f'"{PATIENT}"'))
    body["prefetch"]["patient"].update(
        name=[{"family": "canary-family", "text": "canary-name"}], address=[{"text": "canary-address"}],
        identifier=[{"value": "canary-mrn"}], text={"div": "<div>canary-narrative</div>"},
    )  # fmt: skip
    for entry in body["prefetch"]["observations"]["entry"]:
        entry["resource"] |= {"id": f"{PATIENT}.{entry['resource']['id']}", "note": [{"text": "canary-note"}]}
        entry["resource"]["code"]["text"] = "canary-text"
    return body


class Decided(NamedTuple):
    """A sandbox with decisions, and the numbers of these by sample."""

    app: Flask
    client: Any
    numbers: Mapping[str, int]

    def page(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text[:300]
        return str(answer.text)

    def trace(self, name: str, more: str = "") -> str:
        return self.page(f"/decisions/{self.numbers[name]}{more}")

    def rows(self, query: str = "") -> list[Json]:
        found: list[Json] = json.loads(self.page(f"/decisions?format=json{query}"))["decisions"]
        return found


def decide(folder: Path, bodies: Mapping[str, Json], *feedback: Json, **settings: Any) -> Decided:
    """Ask the hook for each; give this feedback on the cards of the first."""
    app = opened(folder, **{**KEYS, **settings})
    client = app.test_client()
    cards: dict[str, list[Json]] = {}
    for name, body in bodies.items():
        answer = post(client, body, headers={"X-Request-Id": name})
        assert answer.status_code == 200, answer.text
        cards[name] = answer.get_json()["cards"]
    app.extensions["decision_log"].close()
    for statement, card in zip(feedback, next(iter(cards.values()), ()), strict=False):
        said = {"outcomeTimestamp": "2026-11-26T10:00:00Z", **statement, "card": card["uuid"]}
        assert post_feedback(client, said) == 1
    with app.extensions["database"].reading() as connection:
        rows = connection.execute(text("SELECT request_id, id FROM decisions")).all()
    return Decided(app, client, dict(tuple(row) for row in rows))


def post_feedback(client: Any, statement: Json) -> int:
    service = client.get("/cds-services").get_json()["services"][0]["id"]
    accepted: int = client.post(f"/cds-services/{service}/feedback", json={"feedback": [statement]}).get_json()[
        "accepted"
    ]
    return accepted


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    said = {"outcome": "overridden", "overrideReason": {"reason": {"code": "known", "system": "https://x.example",
            "display": HOSTILE}, "userComment": "canary-comment"}}  # fmt: skip
    names = ("clustered-awake-jerks", "newborn-clonus", "spasms-workup-ordered", "conditions-not-supplied",
             "mild-tremor", "deceased", "jerks-refuted", "tremor-with-fever")  # fmt: skip
    bodies = {"marked": marked(), **{name: sample(name) for name in names}}
    return decide(tmp_path_factory.mktemp("decided"), bodies, said)


# --- found ---


@pytest.mark.parametrize(("query", "found"), [
    ("request_id=newborn-clonus", {"newborn-clonus"}),
    ("rule=low-calcium-with-movement&outcome=recommended", {"marked"}),
    ("rule=infantile-spasms-eeg&outcome=satisfied", {"spasms-workup-ordered"}),
    ("outcome=data-required&rule=clonus-persistent-or-bilateral", {"conditions-not-supplied"}),
    ("feedback=overridden", {"marked"}), ("feedback=accepted", set()),
    ("indicator=critical", {"clustered-awake-jerks", "tremor-with-fever"}),
    ("client=-&request_id=marked", {"marked"}), ("client=main", set()), ("request_id=nothing", set()),
    ("since=2999-01-01", set()), ("until=2001-01-01", set()),
])  # fmt: skip
def test_a_search_finds_what_is_asked_for_and_nothing_else(decided: Decided, query: str, found: set[str]) -> None:
    assert {row["request_id"] for row in decided.rows(f"&{query}")} == found
    page = decided.page(f"/decisions?{query}")
    assert f'<p aria-live="polite">{len(found)} found.' in page
    assert ("No decision is as searched for." in page) is not bool(found)


def test_the_last_day_of_a_search_counts_in_full(decided: Decided) -> None:
    day = decided.rows()[0]["decided_at"][:10]
    assert len(decided.rows(f"&since={day}&until={day}")) == len(decided.numbers)


def test_a_search_that_cannot_be_searched_for_says_what_is_wrong_and_finds_nothing(decided: Decided) -> None:
    for query, said in (
        ("outcome=perhaps", "outcome: one of recommended"),
        ("since=soon", "since: a date such as"),
        ("until=2026", "until: a date such as"),
        ("pseudonym=infant-j", "pseudonym: 24 digits"),
    ):
        page = decided.page(f"/decisions?{query}", 400)
        assert said in page
        assert "<td" not in page
        assert decided.client.get(f"/decisions?format=csv&{query}").get_json()["resourceType"] == "OperationOutcome"


def test_pages_by_before_show_every_decision_once(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_pages, "PAGE", 2)
    seen: list[str] = []
    path = "/decisions"
    for _ in range(10):
        page = decided.page(path)
        seen += re.findall(r'<th scope="row"><a href="/decisions/(\d+)"', page)
        older = re.search(r'<a href="([^"]+)" rel="next">Older', page)
        if older is None:
            break
        path = older[1].replace("&amp;", "&")
    assert seen == sorted(map(str, decided.numbers.values()), key=int, reverse=True)


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    assert "No decision has been logged yet." in decide(tmp_path, {}).page("/decisions")


def test_a_patient_id_leads_to_the_pseudonym_and_is_written_nowhere(decided: Decided, log_lines: io.StringIO) -> None:
    token = re.search(r'name="csrf" value="([^"]+)"', decided.page("/decisions"))
    assert token is not None
    form = {"csrf": token[1], "patient": PATIENT, "client": "-"}
    answer = decided.client.post("/decisions", data=form)
    expected = pseudonym(key_of(OTHER_KEY), "", PATIENT)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/decisions?pseudonym={expected}")
    page = decided.page(answer.headers["Location"])
    assert f"/decisions/{decided.numbers['marked']}" in page
    with decided.app.extensions["database"].reading() as connection:
        looked = connection.execute(text("SELECT route, subject FROM desk_log WHERE method = 'POST'")).all()
    assert looked[-1] == ("/decisions", expected)
    assert CANARY not in answer.text + str(answer.headers) + page + log_lines.getvalue() + str(looked)


def test_a_form_of_another_page_turns_no_patient_id_into_a_pseudonym(decided: Decided) -> None:
    answer = decided.client.post("/decisions", data={"csrf": "x", "patient": PATIENT, "client": "-"})
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    assert "This form is not of this session." in answer.text
    assert pseudonym(key_of(OTHER_KEY), "", PATIENT) not in answer.text


def asked_for(client: FlaskClient, patient: str) -> Any:
    """The answer to the form that finds a patient."""
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/decisions").text)
    assert token is not None
    return client.post("/decisions", data={"csrf": token[1], "patient": patient, "client": "-"})


@pytest.mark.parametrize("patient", ["", "x" * 300])
def test_without_an_id_no_pseudonym_is_made(decided: Decided, patient: str) -> None:
    answer = asked_for(decided.client, patient)
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    assert "id as the client sends it" in answer.text


def test_without_a_key_no_pseudonym_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds_service.app.log_keys", lambda _: NO_KEYS)
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/none.sqlite3"))
    answer = asked_for(app.test_client(), PATIENT)
    assert (answer.status_code, answer.headers.get("Location")) == (409, None)
    assert "set CDS_PSEUDONYM_KEY" in answer.text
    assert PATIENT not in answer.text


def test_two_patients_never_mix(tmp_path: Path) -> None:
    other = sample("low-calcium-mmol")
    other["hookInstance"] = "06124266-25e4-5b5a-a671-76516442e44e"
    values = [entry["resource"] for entry in other["prefetch"]["observations"]["entry"]]
    next(r for r in values if r["id"] == "calcium")["valueQuantity"]["value"] = 1.57
    both = decide(tmp_path, {"one": marked(), "two": other})
    (one,) = [row for row in both.rows() if row["request_id"] == "one"]
    assert [row["request_id"] for row in both.rows(f"&pseudonym={one['pseudonym']}")] == ["one"]
    for name, own, foreign in (("one", "1.62", "1.57"), ("two", "1.57", "1.62")):
        page = both.trace(name)
        assert (own in page, foreign in page) == (True, False)


# --- who may ---


def test_every_page_of_decisions_is_for_analysts(decided: Decided) -> None:
    views = {name: view for name, view in decided.app.view_functions.items() if name.startswith("decisions.")}
    assert len(views) >= 6
    assert {getattr(view, "role", None) for view in views.values()} == {Role.ANALYST}


def test_in_production_without_a_login_no_decision_is_shown(production: Production) -> None:
    for path in ("/decisions", "/decisions/1", "/decisions/1/case", "/decisions/request/x"):
        assert production.client.get(path).status_code == 404


# --- the trace ---


def test_what_is_not_there_is_not_found(decided: Decided) -> None:
    number = decided.numbers["marked"]
    for path in ("/decisions/999999", f"/decisions/{10**30}", "/decisions/request/unknown",
                 f"/decisions/{number}/why-not/no-such-rule"):  # fmt: skip
        assert "No decision or rule is here." in decided.page(path, 404)
    assert decided.client.get("/decisions/request/marked").headers["Location"] == f"/decisions/{number}"
    assert decided.client.get(f"/decisions/{number}/case?rule=no-such-rule").status_code == 404


def part_of(page: str, rule: str) -> str:
    """What the page says of one rule."""
    found = re.search(rf'<details class="traced" id="{rule}">.*?\n</details>\n(?=\n*<|\n*$)', page, re.DOTALL)
    assert found is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0]))


def test_a_trace_shows_every_rule_with_its_criteria_and_what_they_rest_on(decided: Decided) -> None:
    page = decided.trace("marked")
    assert page.count('<details class="traced"') == len(library().rules)
    said = part_of(page, "low-calcium-with-movement")
    assert (
        "✓ true calcium low low calcium Total calcium 1.62 mmol/L , low (its own reference range), 2026-11-22" in said
    )
    assert "✓ true" in part_of(page, "low-glucose-with-movement")  # it is an infant with a movement
    assert "✗ false glucose low" in part_of(page, "low-glucose-with-movement")
    unknown = part_of(decided.trace("conditions-not-supplied"), "clonus-persistent-or-bilateral")
    assert "? unknown" in unknown
    assert "Missing: conditions" in unknown
    assert "<dd>equal</dd>" in page
    assert "3 weeks" in page or "20 days" in page


def test_a_composite_criterion_opens_into_its_parts_down_to_the_record(decided: Decided) -> None:
    said = part_of(decided.trace("newborn-clonus"), "occasional-newborn-clonus-reassurance")
    for name in ("clonus red flag", "red flag", "red flag besides lasting", "vigorous awake"):
        assert name in said


def test_cards_are_shown_as_sent_with_their_feedback(decided: Decided) -> None:
    page = decided.trace("marked")
    assert page.count("As it was sent.") == page.count('<article class="card')
    assert '"selectionBehavior": "any"' in page.replace("&#34;", '"')
    assert "<strong>overridden</strong> at 2026-11-26 10:00:00; reason:" in page
    assert "A comment is kept, which may name the patient and is not shown here" in page


def test_a_decision_that_comes_out_otherwise_says_in_what(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(rule for rule in library().rules if rule.id != "low-calcium-with-movement")
    monkeypatch.setattr(library(), "rules", rules)
    monkeypatch.setattr(library(), "hash", "another")
    page = decided.trace("marked")
    assert "another than today’s" in page
    assert "rule low-calcium-with-movement: recommended → not there" in page


def test_the_patient_is_named_on_no_page(decided: Decided) -> None:
    number = decided.numbers["marked"]
    rules = ("low-calcium-with-movement", "low-glucose-with-movement", "newborn-clonus-with-many-beats")
    paths = ["/decisions", "/decisions?format=csv", "/decisions?format=json", f"/decisions/{number}"]
    paths += [f"/decisions/{number}/{what}{rule}{more}" for rule in rules
              for what, more in (("why-not/", ""), ("case?rule=", ""), ("case?rule=", "&format=yaml"))]  # fmt: skip
    for path in paths:
        answer = decided.client.get(path)
        assert answer.status_code == 200
        assert CANARY not in answer.text + str(answer.headers), path
        assert sample("low-calcium-mmol")["prefetch"]["patient"]["birthDate"] not in answer.text.replace(
            "Gestational age at birth <strong>39 wk</strong>, 2026-11-02", "")  # fmt: skip
    assert "(the patient).calcium" in decided.trace("marked")


def test_one_whose_input_cannot_be_opened_shows_outcomes_and_what_would_help(tmp_path: Path, decided: Decided) -> None:
    closed = decide(tmp_path, {"marked": marked()}, keep_inputs=False)
    page = closed.trace("marked")
    listed, not_applicable = page.split("<summary>Not applicable</summary>")
    assert "low-glucose-with-movement" in not_applicable
    assert "low-glucose-with-movement" not in listed
    assert "its input was not kept, or was removed when its time was over" in page
    assert "CDS_KEEP_INPUTS=true and CDS_INPUTS_KEY" in page
    assert re.search(r"low-calcium-with-movement</a></th><td>recommended</td>", page)
    for word in ("1.62", "✓", 'class="traced"', "20 days"):
        assert word not in page
    assert "Its outcome was: <strong>recommended</strong>" in closed.trace(
        "marked", "/why-not/low-calcium-with-movement"
    )
    assert "- case:" not in closed.trace("marked", "/case")

    folder = tmp_path / "other"
    folder.mkdir()
    decide(folder, {"marked": marked()})
    other = decide(folder, {}, inputs_key=OTHER_KEY)
    page = other.trace("marked")
    assert "it was sealed with a key that CDS_INPUTS_KEY does not hold" in page
    assert "1.62" not in page


def test_of_a_patient_who_has_died_no_rule_is_shown(decided: Decided) -> None:
    for more in ("", "/why-not/low-calcium-with-movement"):
        assert "No rule was evaluated: the patient is recorded as deceased." in decided.trace("deceased", more)


def test_a_log_that_cannot_be_read_is_said(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("store.unavailable", "secret host name")

    for name in ("search", "decision"):
        monkeypatch.setattr(decision_pages, name, away)
    for path in ("/decisions", f"/decisions/{decided.numbers['marked']}"):
        answer = decided.client.get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "The decision log cannot be read now." in answer.text
        assert "secret" not in answer.text


@pytest.mark.parametrize(("path", "most"), [
    ("", 4), ("?rule=low-calcium-with-movement", 4), ("?format=csv", 3), ("/{}", 3),
    ("/{}/why-not/low-calcium-with-movement", 4), ("/{}/case", 3),
])  # fmt: skip
def test_a_page_asks_the_database_a_few_times_however_much_it_shows(
    decided: Decided, path: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 3600.0)  # whether a rule was stopped meanwhile is no page's question
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    engine = decided.app.extensions["database"].engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        decided.page(f"/decisions{path.format(decided.numbers['marked'])}")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert 0 < len(asked) <= most, asked


# --- text from outside ---


def test_text_from_outside_stays_text_on_pages_and_in_csv(tmp_path: Path) -> None:
    written = decide(tmp_path, {})
    log = opened(tmp_path, **KEYS).extensions["decision_log"]
    for number, client in enumerate((HOSTILE, "=HYPERLINK(1)", "@cmd", "[x](javascript:alert(1))")):
        log.record(Decision(
            decided_at=f"2026-11-26T10:00:0{number}.000+00:00", request_id=f"+{number}", client_id=client, service="s",
            hook_instance=HOSTILE, as_of="2026-11-26T10:00:00Z", rule_set_version="1", rule_set_hash="h",
            outcomes={"seizure-first-workup": HOSTILE}, inputs={"patient": HOSTILE}, cards=[],
        ))  # fmt: skip
    log.close()
    pages = [
        written.page("/decisions"),
        written.page("/decisions/1"),
        written.page("/decisions/1/why-not/seizure-first-workup"),
    ]
    for page in pages:
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page
        assert "javascript:" not in page.replace(">[x](javascript:alert(1))<", "")
    rows = list(csv.DictReader(io.StringIO(written.page("/decisions?format=csv"))))
    assert [row["client"] for row in rows] == ["[x](javascript:alert(1))", "'@cmd", "'=HYPERLINK(1)", HOSTILE]
    assert [row["request_id"] for row in rows] == ["'+3", "'+2", "'+1", "'+0"]


def test_feedback_from_outside_stays_text(decided: Decided) -> None:
    page = decided.trace("marked")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_markdown_of_a_card_becomes_text_and_never_markup(decided: Decided) -> None:
    detail = (
        f"**Why shown:** a\\_b {HOSTILE} &lt;b&gt; [x](javascript:alert(1)) [z](https://z)\n\n"
        "**Basis:**\n\n- one\n- ![y](https://z)"
    )
    hostile = {"uuid": HOSTILE, "indicator": "info", "summary": HOSTILE, "detail": detail,
               "source": {"label": HOSTILE, "topic": {"display": HOSTILE}},
               "suggestions": [{"uuid": HOSTILE, "label": HOSTILE, "actions": [{"resource": {"id": HOSTILE}}]}],
               "overrideReasons": [],
               "links": [{"label": HOSTILE, "url": "javascript:alert(1)"},
                         {"label": "r", "url": "https://elsewhere.example/x/rules/a?b"}]}  # fmt: skip
    view = card_view(hostile)
    assert view.detail == (
        "<p><strong>Why shown:</strong> a_b &lt;script&gt;alert(1)&lt;/script&gt; &lt;b&gt; [x](javascript:alert(1)) "
        "[z](https://z)</p>\n<p><strong>Basis:</strong></p>\n<ul>\n<li>one</li>\n<li>![y](https://z)</li>\n</ul>\n"
    )
    assert view.links == ((HOSTILE, ""), ("r", "/rules/a"))
    with decided.app.test_request_context():
        drawn = render_template_string('{% from "_card.html" import card %}{{ card(view) }}', view=view)
    assert HOSTILE not in drawn
    assert re.findall(r'(?:href|src)="([^"]*)"', drawn) == ["/rules/a"]


# --- why not ---


def why(name: str, rule: str, **more: Any) -> WhyNot:
    found = why_not(rule, ask(sample(name)), library(), **more)
    assert found is not None
    return found


def test_a_silent_rule_names_everything_that_fails_and_both_changes_it_needs(decided: Decided) -> None:
    found = why("newborn-clonus", "clonus-persistent-or-bilateral")
    assert [need.name for need in found.failing] == [
        "lasting_or_bilateral_clonus",
        "many_clonus_beats",
        "newborn_weeks",
    ]
    assert [[need.name for need in change] for change in found.changes] == [
        ["lasting_or_bilateral_clonus", "newborn_weeks"], ["many_clonus_beats", "newborn_weeks"],
    ]  # fmt: skip
    page = decided.trace("newborn-clonus", "/why-not/clonus-persistent-or-bilateral")
    assert "2 changes:" in page
    assert "Ankle clonus, occasional, left, 4 beats (2026-11-22)" in page
    assert "would need: ankle clonus, beats above 10" in page


def test_values_are_said_with_the_limit_that_would_decide() -> None:
    (glucose,) = why("low-calcium-mmol", "low-glucose-with-movement").failing
    assert glucose.found == ("Glucose 4.1 mmol/L, not abnormal (limit 2.8 mmol/L) (2026-11-22)",)
    assert glucose.needed == "would need at most 2.8 mmol/L"
    body = sample("low-calcium-mmol")
    calcium = next(r for e in body["prefetch"]["observations"]["entry"] if (r := e["resource"])["id"] == "calcium")
    calcium["valueQuantity"]["value"] = 2.3
    found = why_not("low-calcium-with-movement", ask(body), library())
    assert found is not None
    assert found.failing[0].found == ("Total calcium 2.3 mmol/L, not abnormal (its own reference range) (2026-11-22)",)
    assert found.failing[0].needed == "would need below 2 mmol/L (its own reference range)"
    calcium["referenceRange"][0]["age"] = {"low": {"value": 18, "system": "http://unitsofmeasure.org", "code": "a"}}
    of_adults = why_not("low-calcium-with-movement", ask(body), library())
    assert of_adults is not None
    assert of_adults.failing[0].needed == "would need below 2 mmol/L"
    del calcium["referenceRange"][0]["age"]
    del calcium["referenceRange"][0]["low"]  # what remains says nothing of low values
    open_below = why_not("low-calcium-with-movement", ask(body), library())
    assert open_below is not None
    assert open_below.failing[0].needed == "would need below 2 mmol/L"
    calcium["interpretation"] = [infants.coded(infants.FLAG, "N")]
    flagged = why_not("low-calcium-with-movement", ask(body), library())
    assert flagged is not None
    assert flagged.failing[0].needed == "would need the laboratory's flag L: it decides over the number"
    (none,) = why("newborn-clonus", "low-calcium-with-movement").failing
    assert none.found == ("no calcium near the newest finding",)
    assert "Total calcium below 8 mg/dL or 2 mmol/L" in none.needed


def test_unknown_is_kept_apart_from_false() -> None:
    found = why("conditions-not-supplied", "clonus-persistent-or-bilateral")
    assert (found.outcome, found.failing) == ("data-required", ())
    assert {(need.name, need.now, need.missing) for need in found.unknown} == {
        ("cerebral_palsy_known", "unknown", ("conditions",)), ("spinal_dysraphism_known", "unknown", ("conditions",)),
    }  # fmt: skip


def test_excluded_satisfied_and_spoken_are_said() -> None:
    excluded = why("clonus-cerebral-palsy-known", "clonus-persistent-or-bilateral")
    assert excluded.outcome == "excluded"
    assert [need.name for need in excluded.excluded_by] == ["cerebral_palsy_known"]
    assert excluded.excluded_by[0].shown[0].reference.startswith("Condition/")
    satisfied = why("spasms-workup-ordered", "infantile-spasms-eeg")
    assert [(item.label, item.done_by[0].reference) for item in satisfied.asked] == [
        ("EEG", "ServiceRequest/eeg-order"), ("Referral to pediatric neurology", "ServiceRequest/neurology-referral"),
    ]  # fmt: skip
    spoken = why("low-calcium-mmol", "low-calcium-with-movement")
    assert (spoken.speaks, spoken.failing, spoken.changes) == (True, (), ())


def test_withheld_reassurance_names_the_rules_that_withhold_it() -> None:
    tremor = infants.observation("tremor", "2026-11-21", ("severity", "mild"))
    response = infants.infant(tremor, birth="2026-05-01", as_of="2026-11-22")
    spoken = why_not("mild-tremor-first-year-reassurance", response, library())
    assert spoken is not None
    assert (spoken.speaks, spoken.withheld_by) == (True, ())
    weak = infants.observation("ankle_clonus", "2026-11-21")
    withheld = why_not("mild-tremor-first-year-reassurance", infants.infant(
        tremor, weak, birth="2026-05-01", as_of="2026-11-22"), library())  # fmt: skip
    assert withheld is not None
    assert (withheld.outcome, withheld.speaks) == ("recommended", False)
    assert "clonus-after-newborn-weeks" in dict(withheld.withheld_by)
    assert "Reassurance is withheld" in " ".join(withheld.because)


def test_unsigned_and_stopped_rules_say_why_they_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library(), "silent", frozenset({"low-calcium-with-movement"}))
    assert "not signed by two clinicians" in " ".join(why("low-calcium-mmol", "low-calcium-with-movement").because)
    stopped = why("low-calcium-mmol", "low-calcium-with-movement", stopped={"low-calcium-with-movement": "too eager"})
    assert "It is stopped: too eager" in stopped.because


def test_the_page_says_that_a_rule_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = decide(tmp_path, {"marked": marked()})
    stop(
        page.app.extensions["database"], "low-calcium-with-movement", "Dr. A", HOSTILE, "2026-11-26T10:00:00.000+00:00"
    )
    monkeypatch.setattr(library(), "silent", frozenset({"low-calcium-with-movement"}))
    said = page.trace("marked", "/why-not/low-calcium-with-movement")
    assert "It is stopped: &lt;script&gt;" in said


def holds(evaluation: Evaluation, flips: tuple[Change, ...]) -> Truth:
    """Whether the rule would speak if these questions were answered as the changes want it."""
    wanted = {change.criterion.index: change.wanted for change in flips}

    def of(sentence: Sentence, criteria: Mapping[str, Criterion]) -> Truth:
        match sentence:
            case Name(name):
                criterion = criteria[name]
                if criterion.sentence is not None:
                    return of(criterion.sentence, criterion.parts)
                return wanted.get(criterion.index, evaluation.answer(criterion).truth)
            case Not(part):
                return NEGATION[of(part, criteria)]
            case And(parts):
                return min(of(part, criteria) for part in parts)
            case Or(parts):
                return max(of(part, criteria) for part in parts)

    return of(speaks_when(evaluation), evaluation.rule.criteria)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "deceased"])
def test_the_smallest_changes_make_it_speak_and_none_of_them_is_idle(name: str) -> None:
    several = 0
    for evaluation in ask(sample(name)).evaluations:
        found = smallest_changes(evaluation)
        spoken = evaluation.outcome in (Outcome.RECOMMENDED, Outcome.SATISFIED)
        assert bool(found) is not spoken, evaluation.rule.id
        assert [len(changes) for changes in found] == sorted(len(changes) for changes in found)
        for changes in found:
            several += len(changes) > 1
            assert holds(evaluation, changes) is TRUE
            fewer = combinations(changes, len(changes) - 1)
            assert not [part for part in fewer if holds(evaluation, part) is TRUE]
    assert several


# --- made into a test ---


@pytest.mark.parametrize(("name", "rule", "expect"), [
    ("marked", "low-calcium-with-movement", "recommended"), ("marked", "low-glucose-with-movement", "not-applicable"),
    ("spasms-workup-ordered", "infantile-spasms-eeg", "satisfied"),
    ("conditions-not-supplied", "clonus-persistent-or-bilateral", "data-required"),
    ("mild-tremor", "mild-tremor-first-year-reassurance", "recommended"),
    ("newborn-clonus", "clonus-persistent-or-bilateral", "not-applicable"),
])  # fmt: skip
def test_a_decision_made_into_a_case_runs_beside_the_others_and_says_the_same(
    decided: Decided, tmp_path: Path, name: str, rule: str, expect: str
) -> None:
    entry = decided.trace(name, f"/case?rule={rule}&format=yaml")
    assert CANARY not in entry
    assert "-11-" not in entry
    known = library().rule(rule)
    assert known is not None
    only = copy.copy(library())
    only.rules = (known,)
    pack, cases = Path(str(packaged_cards())), known.file.removeprefix("cards/").replace(".yaml", ".cases.yaml")
    file = tmp_path / cases
    file.parent.mkdir(parents=True)
    shutil.copytree(pack / "schema", tmp_path / "schema")
    for needed in (cases, "limits.cases.yaml"):
        shutil.copy(pack / needed, tmp_path / needed)
    before = file.read_text(encoding="utf-8")
    counted, mistakes = check_cases(only, read_cases(tmp_path)[0])
    assert mistakes == []
    file.write_text(before + entry, encoding="utf-8")
    files, _ = read_cases(tmp_path)
    assert cases_of(files[rule])[-1].expect.value == expect
    assert check_cases(only, files) == (counted + 1, [])
    file.write_text(before + entry.replace(f"expect: {expect}", "expect: excluded"), encoding="utf-8")
    (mistake,) = check_cases(only, read_cases(tmp_path)[0])[1]
    assert f"expected excluded, got {expect}" in mistake.message


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "deceased"])
def test_what_any_sample_decides_can_be_written_as_a_case(name: str) -> None:
    for evaluation in ask(sample(name)).evaluations:
        if evaluation.outcome is not Outcome.NOT_APPLICABLE:
            written = write_case(evaluation, library())
            assert written.entry["expect"] == evaluation.outcome.value
            assert not re.search(r"Observation/|Condition/|infant-|2026-1", written.text)


def test_what_a_case_cannot_say_is_refused_and_not_bent() -> None:
    glucose = infants.lab("lab_glucose", 40, "mg/dL", "2026-11-21", comparator="<")
    response = infants.infant(
        infants.observation("tremor", "2026-11-21"), glucose, birth="2026-09-01", as_of="2026-11-22"
    )
    evaluation = next(e for e in response.evaluations if e.rule.id == "low-glucose-with-movement")
    assert evaluation.outcome is Outcome.RECOMMENDED
    with pytest.raises(CannotBeWritten):
        write_case(evaluation, library())


def test_what_was_fetched_is_told_from_what_was_sent_along(tmp_path: Path) -> None:
    request = sample("low-calcium-mmol")
    with FaultyServer(serves(request)) as server:
        app = opened(tmp_path, sandbox_fhir_bases=server.base)
        request["fhirServer"] = server.base
        del request["prefetch"]["conditions"]
        person = app.test_client()
        given = person.post("/cds-services/infant-motor-workup", json=request)
    app.extensions["decision_log"].close()
    page = person.get(f"/decisions/request/{given.headers['X-Request-Id']}", follow_redirects=True).text
    told = dict(re.findall(r'<th scope="row">(\w+)</th><td>\w*</td><td>([^<]*)</td>', page))
    fetched = {key for key, words in told.items() if words.endswith("; not sent along, asked of the FHIR server")}
    assert fetched == {key for key in told if key not in request["prefetch"]}
    assert "conditions" in fetched
    assert told["observations"] == "given"
    with app.extensions["database"].reading() as connection:
        states = (
            connection.execute(text("SELECT DISTINCT detail FROM daily_counts WHERE kind = 'state'")).scalars().all()
        )
    assert not [state for state in states if "fetched" in state]
