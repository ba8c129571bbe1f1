"""The sandbox page: what is sent from it goes the whole road, errors stand at their place, all stays inert."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from infants import library
from services import PUBLIC, Production, kept, opened
from wire import FIXTURES, URL, sample

from cds_service.hooks.request import AS_OF, parse_request
from cds_service.hooks.respond import respond
from cds_service.record.times import parse_as_of
from cds_service.store.feedback import FeedbackStore
from cds_service.web import rates
from cds_service.web.desk.roles import Role, User
from cds_service.web.desk.sandbox.builder import build, rows_of
from cds_service.web.desk.sandbox.choices import choices_of
from cds_service.web.desk.sandbox.infants import infants

TODAY = date(2026, 11, 22)
JERKS = "clustered-awake-jerks"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    running = opened(tmp_path_factory.mktemp("desk-sandbox"))
    yield running
    running.extensions["decision_log"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def token_of(client: FlaskClient) -> str:
    found = re.search(r'name="csrf" value="([^"]*)"', client.get("/sandbox").text)
    return found[1] if found else ""


def posted(client: FlaskClient, path: str, fields: dict[str, Any], **more: Any) -> Any:
    return client.post(path, data={"csrf": token_of(client), **fields}, content_type="multipart/form-data", **more)


def send(client: FlaskClient, text: str, **fields: Any) -> Any:
    return posted(client, "/sandbox/send", {"request": text, "action": "send", **fields})


def text_in(page: str) -> str:
    """What stands in the request's field."""
    found = re.search(r'<textarea id="request"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def cards_in(page: str) -> list[tuple[str, str]]:
    """Uuid and indicator of every card drawn."""
    return re.findall(r'<article class="card (\w+)" id="card-([^"]+)"', page)


def ages_in(page: str) -> list[tuple[str, str, str]]:
    """Age, cards of the same chart, cards of the same findings, of each row of the table."""
    rows = re.findall(r'<tr[^>]* data-label="([^"]*)".*?<td>(.*?)</td><td>(.*?)</td></tr>', page, re.DOTALL)
    return [(label.partition(",")[0], chart, moved) for label, chart, moved in rows]


def status_in(page: str) -> str:
    found = re.search(r'<h2 id="answer">Answer: (\d+)', page)
    return found[1] if found else "not sent"


def answer_in(page: str) -> Any:
    found = re.search(r"The whole answer</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))


def calls(log_lines: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    return [line for line in lines if line.get("route") in ("hooks.call", "feedback.give")]


def test_every_sample_is_listed_with_why_it_is_there(client: FlaskClient) -> None:
    page = unescape(client.get("/sandbox").text)
    assert len(infants()) >= 14
    for name, infant in infants().items():
        assert f'href="/sandbox/infants/{name}"' in page
        assert infant.why in page
    assert client.get("/sandbox/infants/nobody").status_code == 404
    assert client.get("/sandbox/infants/../expected").status_code == 404


@pytest.mark.parametrize("name", infants())
def test_a_sample_is_shown_unsent_and_gives_what_it_has_to_when_sent(
    client: FlaskClient, name: str, log_lines: io.StringIO
) -> None:
    infant = infants()[name]
    page = client.get(f"/sandbox/infants/{name}")
    assert page.status_code == 200
    assert unescape(infant.why).replace("’", "'") in unescape(page.text)
    assert calls(log_lines) == []
    if "as_of" in EXPECTED[name]:
        assert json.loads(text_in(page.text))["extension"] == {AS_OF: EXPECTED[name]["as_of"]}
    sent = send(client, text_in(page.text), sample=name, fresh="1").text
    assert [line["status"] for line in calls(log_lines)] == [infant.status]
    assert status_in(sent) == str(infant.status)
    assert sorted(indicator for indicator, _ in cards_in(sent)) == sorted(infant.cards.values())
    if infant.status == 200:
        topics = {card["source"]["topic"]["code"]: card["indicator"] for card in answer_in(sent)["cards"]}
        assert topics == infant.cards
    else:
        assert 'id="problem"' in sent


def test_a_call_has_an_id_and_a_decision_of_its_own(tmp_path: Path, log_lines: io.StringIO) -> None:
    app = opened(tmp_path)
    page = send(app.test_client(), json.dumps(sample(JERKS)))
    (call,) = calls(log_lines)
    (decision,) = kept(app)
    assert decision["request_id"] == call["request_id"] != page.headers["X-Request-Id"]
    assert f"<code>{call['request_id']}</code>" in page.text
    (link,) = re.findall(r'<a href="([^"]*)">This decision in the log', page.text)
    assert app.test_client().get(link, follow_redirects=True).status_code == 200


def test_a_call_is_one_of_the_address_that_looks(
    tmp_path: Path, log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From elsewhere it lacks a token; and it counts like any call, beside the page itself."""
    app = opened(tmp_path, calls_per_address=1)
    counted: list[str] = []
    monkeypatch.setattr(rates, "_wait", lambda _, key: counted.append(key) or 7 * (counted.count(key) > 3))
    client = app.test_client()
    fields = {"csrf": token_of(client), "request": json.dumps(sample(JERKS)), "action": "send"}
    far = client.post("/sandbox/send", data=fields, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    assert status_in(far.text) == "401"
    assert counted == ["127.0.0.1", "192.0.2.7", "192.0.2.7"]
    assert status_in(client.post("/sandbox/send", data=fields).text) == "200"
    counted.remove("127.0.0.1")
    limited = client.post("/sandbox/send", data=fields)
    assert (limited.status_code, status_in(limited.text)) == (200, "429")
    assert re.search(r"<dt>Retry-After</dt><dd><code>7</code>", limited.text)
    assert "calls too often" in limited.text
    assert len(kept(app)) == 1


def test_a_new_hook_instance_is_given_unless_it_is_to_stay(client: FlaskClient) -> None:
    text = json.dumps(sample(JERKS))
    kept, fresh = send(client, text).text, send(client, text, fresh="1").text
    assert text_in(kept).split() == text.split()
    assert json.loads(text_in(fresh))["hookInstance"] != sample(JERKS)["hookInstance"]
    assert {uuid for _, uuid in cards_in(kept)}.isdisjoint(uuid for _, uuid in cards_in(fresh))


def test_the_day_is_changed_by_the_field_and_by_a_step_of_the_ages(client: FlaskClient) -> None:
    text = json.dumps(sample(JERKS))
    day = send(client, text, as_of="2026-11-21", as_of_was="2026-11-22").text
    assert json.loads(text_in(day))["extension"][AS_OF] == "2026-11-21"
    edited = text.replace(sample(JERKS)["extension"][AS_OF], "2026-11-20")
    left = send(client, edited, as_of="2026-11-22", as_of_was="2026-11-22").text
    assert json.loads(text_in(left))["extension"][AS_OF] == "2026-11-20"
    step = posted(client, "/sandbox/send", {"request": text, "move_to": "2028-01-01"}).text
    assert status_in(step) == "200"
    assert json.loads(text_in(step))["extension"][AS_OF] == "2028-01-01"
    assert cards_in(step) == []


def test_the_ages_show_how_the_advice_changes(client: FlaskClient) -> None:
    page = client.get(f"/sandbox/infants/{JERKS}").text
    said = {label: ("EEG" in chart, "EEG" in moved) for label, chart, moved in ages_in(page)}
    assert len(said) == 10
    assert said["as asked: 5 months"] == (True, True)
    assert said["at birth"][0] is False  # the jerks have not been seen yet
    assert said["18 months"] == (False, True)  # by then they are too long ago; in an older infant they would speak
    assert 'aria-current="true"' in page
    newborn = client.get("/sandbox/infants/newborn-clonus").text
    later = {label: "Reassurance" in moved for label, _, moved in ages_in(newborn)}
    assert (later["2 weeks"], later["6 months"]) == (True, False)


def test_the_cards_are_drawn_with_all_that_they_offer(client: FlaskClient) -> None:
    page = send(client, json.dumps(sample(JERKS))).text
    answer = answer_in(page)
    told = unescape(page.split('id="cards"')[1].split('id="trace"')[0])
    for card in answer["cards"]:
        assert card["summary"] in told
        assert card["source"]["label"] in told
        for item in [*card["suggestions"], *card["links"]]:
            assert item["label"] in told
        for reason in card["overrideReasons"]:
            assert reason["display"] in told
    assert "<strong>Why shown:</strong>" in page
    assert page.count("Draft order</summary>") == sum(len(card["suggestions"]) for card in answer["cards"])


def test_the_trace_and_why_a_rule_is_silent(client: FlaskClient) -> None:
    page = send(client, json.dumps(sample(JERKS))).text
    assert 'id="trace"' in page
    assert re.search(r'id="clustered-awake-jerks".*?recommended', page, re.DOTALL)
    why = posted(
        client, "/sandbox/send",
        {"request": json.dumps(sample(JERKS)), "action": "why", "rule": "dystonia-therapies"},
    ).text  # fmt: skip
    assert "It is silent." in why
    assert status_in(why) == "not sent"


# Feedback


def test_feedback_arrives_in_the_store_with_its_card(tmp_path: Path) -> None:
    app = opened(tmp_path)
    client = app.test_client()
    sent = send(client, json.dumps(sample(JERKS)), fresh="1").text
    eeg, referrals = answer_in(sent)["cards"]
    (order, *_) = eeg["suggestions"]
    reason = referrals["overrideReasons"][0]
    fields = {
        "request": text_in(sent),
        f"label-{order['uuid']}": order["label"],
        f"reason-{referrals['uuid']}": f"{reason['code']}|{reason['system']}|{reason['display']}",
        f"comment-{referrals['uuid']}": f"seen yesterday {SCRIPT}",
    }
    accept = {**fields, "answer": f"accept {eeg['uuid']} {order['uuid']}"}
    page = posted(client, "/sandbox/feedback", accept).text
    assert "Feedback: 200" in page
    assert f"Sent as feedback: accepted: {order['label']}" in page
    said = unescape(re.findall(r'name="said" value="([^"]*)"', page)[0])
    page = posted(client, "/sandbox/feedback", {**fields, "answer": f"dismiss {referrals['uuid']}", "said": said}).text
    assert page.count("Sent as feedback") == 2  # the first is not forgotten
    assert SCRIPT not in page
    app.extensions["decision_log"].close()
    rows = list(FeedbackStore(app.extensions["database"]).joined())
    assert [row["outcome"] for row in rows] == ["accepted", "overridden"]
    assert [row["family"] for row in rows] == ["eeg", "referrals"]
    assert rows[0]["suggestions"] == [order["uuid"]]
    assert (rows[1]["reason_code"], rows[1]["reason_system"]) == (reason["code"], reason["system"])
    assert rows[1]["comment"] == f"seen yesterday {SCRIPT}"


def test_no_feedback_without_a_card(client: FlaskClient, log_lines: io.StringIO) -> None:
    page = posted(client, "/sandbox/feedback", {"request": json.dumps(sample(JERKS)), "answer": "accept"})
    assert page.status_code == 422
    assert calls(log_lines) == []


# What is wrong, at its place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"hook": "patient-view",\n "context": {]}', "Line 2, column 14"),
        (json.dumps(sample(JERKS), indent=1).replace('"Practitioner/', '"Robot/'), "At <code>context.userId</code>"),
        ('{"hook": "patient-view",\n"hookInstance": "1",\n"hookInstance": "2"}', "Line 3"),
        (
            '{"hook": "patient-view", "hookInstance": "x",\n "context": {\n  "userId": "Practitioner/1"}}',
            "At <code>context.patientId</code>, line 2",
        ),
        ('{"hook": "order-select"}', "At <code>hook</code>, line 1"),
    ],
)
def test_a_wrong_request_is_refused_by_the_service_and_explained_at_its_place(
    client: FlaskClient, text: str, said: str
) -> None:
    page = send(client, text).text
    assert status_in(page) == "400"
    assert said in page
    assert text_in(page).split() == text.split()
    assert 'aria-invalid="true" aria-describedby="problem"' in page
    assert cards_in(page) == []


def test_the_line_is_that_of_the_wrong_element(client: FlaskClient) -> None:
    text = json.dumps(sample("wrong-patient"), indent=1)
    page = send(client, text).text
    found = re.search(r"At <code>prefetch\.(\w+)[^<]*</code>, line (\d+)\.", page)
    assert found is not None
    assert f'"{found[1]}"' in text.splitlines()[int(found[2]) - 1]


def two_patients() -> str:
    patients = [{"resourceType": "Patient", "id": name} for name in ("one", "two")]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": p} for p in patients]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (two_patients(), "It holds 2 patients; one is needed"),
        ("[1, 2]", "It is no cds hooks request"),
        ("", "Paste a request"),
        ('{"resourceType": "Patient", "id": "a"}\n\n{"resourceType": ]}\n{}', "Line 3, column 18"),
        ('{"resourceType": "Patient", "id": "a"}\n{"resourceType": "Patient", "id": "b"}', "It holds 2 patients"),
    ],
)
def test_what_no_request_can_be_made_of_is_explained_and_not_sent(
    client: FlaskClient, text: str, said: str, log_lines: io.StringIO
) -> None:
    page = send(client, text)
    assert page.status_code == 422
    assert said in page.text
    assert text_in(page.text).split() == text.split()
    assert calls(log_lines) == []


@pytest.mark.parametrize("form", ["bundle", "ndjson"])
def test_an_uploaded_file_becomes_a_request(client: FlaskClient, form: str) -> None:
    content = (FIXTURES / "one-infant.ndjson").read_bytes()
    if form == "bundle":
        entries = [{"resource": json.loads(line)} for line in content.splitlines() if line.strip()]
        content = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()
    fields = {"file": (io.BytesIO(content), f"infant.{form}"), "as_of": "2026-11-22"}
    page = send(client, "", **fields).text
    assert status_in(page) == "200"
    assert sorted(indicator for indicator, _ in cards_in(page)) == ["warning", "warning"]
    assert json.loads(text_in(page))["hook"] == "patient-view"


def test_what_is_too_large_is_refused_with_a_page(client: FlaskClient, log_lines: io.StringIO) -> None:
    """As a browser sends the form; the test client would leave a file open for a body of this size."""
    token = token_of(client)

    def sent(text: str) -> Any:
        fields = {"csrf": token, "action": "send", "request": text}
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()
        ]
        body = "\r\n".join([*parts, "--b--\r\n"]).encode()
        return client.post("/sandbox/send", data=body, content_type="multipart/form-data; boundary=b")

    page = sent('"' + "x" * 2_100_000 + '"')
    assert page.status_code == 413
    assert "larger than 2 MB" in page.text
    assert calls(log_lines) == []
    assert status_in(sent(json.dumps({**sample(JERKS), "padding": "x" * 1_500_000})).text) == "200"


def test_what_is_no_fhir_is_named_by_element_and_line(client: FlaskClient) -> None:
    body = sample(JERKS)
    body["prefetch"]["patient"]["birthDate"] = ["2026-06-20"]
    body["prefetch"]["observations"]["entry"][0]["resource"]["resourceType"] = "Observatory"
    text = json.dumps(body, indent=1)
    page = posted(client, "/sandbox/send", {"request": text, "action": "check"}).text
    line = next(number for number, line in enumerate(text.splitlines(), 1) if '"birthDate"' in line)
    assert f"<code>prefetch.patient.birthDate</code>, line {line}" in page
    assert "prefetch.observations.entry[0].resource.resourceType" in page
    good = posted(client, "/sandbox/send", {"request": json.dumps(sample(JERKS)), "action": "check"}).text
    assert "Every resource is FHIR R4" in good


def test_words_without_a_code_are_named_with_their_line(client: FlaskClient) -> None:
    page = client.get("/sandbox/infants/text-only").text
    assert 'id="unused"' in page
    (line, *_) = re.findall(r"<li><code>[^<]*</code>, line (\d+): words without a code", page)
    assert "resource" in text_in(page).splitlines()[int(line) - 1]


# The builder


EVERY_QUALIFIER = {name: options[0][0] for name, options in choices_of(library()).coded.items()}
MINIMAL = {"age": "5", "age-unit": "months", "as_of": "2026-11-22"}


def built(app: Flask, **fields: str) -> Any:
    made = build({**MINIMAL, **fields}, library(), choices_of(library()), TODAY)
    assert made.wrong == {}
    assert made.body is not None
    return made.body


def record(body: Any) -> Any:
    asked = parse_request(json.dumps(body).encode())
    return respond(asked, library(), asked.as_of or 0, PUBLIC).record


@pytest.mark.parametrize(("name", "value"), EVERY_QUALIFIER.items())
@pytest.mark.parametrize("form", ["observation", "condition"])
def test_each_qualifier_is_read_from_a_built_infant(app: Flask, name: str, value: str, form: str) -> None:
    body = built(app, **{"finding-0": "myoclonus", "finding-0-as": form, f"finding-0-{name}": value})
    (found,) = record(body).facts.findings["myoclonus"]
    assert value in found.qualifiers.coded[name]


@pytest.mark.parametrize(
    ("field", "value", "number"),
    [("beats", "12", 12.0), ("event-count", "3", 3.0), ("duration", "1.5", 90.0)],
)
def test_each_number_is_read_from_a_built_infant(app: Flask, field: str, value: str, number: float) -> None:
    fields = {"finding-0": "ankle_clonus", f"finding-0-{field}": value, "finding-0-duration-unit": "min"}
    (found,) = record(built(app, **fields)).facts.findings["ankle_clonus"]
    assert found.qualifiers.numbers[field].lo == number


def test_age_gestation_results_and_work_are_read_from_a_built_infant(app: Flask) -> None:
    body = built(
        app, **{
            "age": "6", "age-unit": "weeks", "gestation-weeks": "34", "gestation-days": "3",
            "finding-0": "tremor", "finding-0-vigorous": "yes", "finding-1": "dystonia", "finding-1-as": "absent",
            "lab-0": "lab_glucose", "lab-0-value": "1,9", "lab-0-unit": "mmol/L",
            "rows-lab": "2", "lab-1": "lab_sodium", "lab-1-value": "139", "lab-1-unit": "mmol/L",
            "lab-1-low": "140", "lab-1-high": "150", "lab-1-on": "1",
            "rows-work": "5", "work-0": "eeg_video", "work-0-how": "done", "work-0-on": "2",
            "work-1": "mri_brain", "work-1-how": "ordered", "work-2": "specialty_peds_neurology",
            "work-2-how": "visited", "work-3": "med_vigabatrin", "work-3-how": "prescribed",
            "work-4": "med_metoclopramide", "work-4-how": "given", "unsent-imagingStudies": "1",
        },
    )  # fmt: skip
    read = record(body)
    assert body["prefetch"]["patient"]["birthDate"] == "2026-10-11"
    assert read.birth.gestation.days == 34 * 7 + 3
    assert "true" in read.facts.findings["tremor"][0].qualifiers.coded["vigorous"]
    assert (read.finding("dystonia").present, len(read.finding("dystonia").denied)) == ((), 1)
    assert read.lab("glucose").low.name == "TRUE"
    assert read.lab("sodium").low.name == "TRUE"
    assert "imagingStudies" not in body["prefetch"]
    kinds = [entry["resource"]["resourceType"] for key in body["prefetch"] for entry in
             body["prefetch"][key].get("entry", ())]  # fmt: skip
    assert {"Procedure", "ServiceRequest", "Encounter", "MedicationRequest", "MedicationAdministration"} <= set(kinds)


def test_an_infant_without_age_has_no_birth_date(app: Flask) -> None:
    body = built(app, age="")
    assert "birthDate" not in body["prefetch"]["patient"]


def test_a_built_infant_is_shown_and_sent(client: FlaskClient, log_lines: io.StringIO) -> None:
    fields = {**MINIMAL, "finding-0": "myoclonus", "finding-0-frequency": "clustered", "finding-0-state": "awake"}
    page = posted(client, "/sandbox/build", {**fields, "action": "show"}).text
    assert status_in(page) == "not sent"
    assert calls(log_lines) == []
    sent = posted(client, "/sandbox/build", {**fields, "action": "send"}).text
    assert status_in(sent) == "200"
    assert ("critical" in {indicator for indicator, _ in cards_in(sent)}) is True


@pytest.mark.parametrize(
    ("fields", "wrong", "said"),
    [
        ({"age": "five"}, "age", "whole number"),
        ({"age": "-1"}, "age", "whole number"),
        ({"as_of": "22.11.2026"}, "as_of", "2026-11-22"),
        ({"as_of": "0001-01-01"}, "as_of", "1900"),
        ({"gestation-days": "3"}, "gestation-weeks", "weeks"),
        ({"finding-0": "unicorn"}, "finding-0", "Choose one"),
        ({"finding-0-state": "awake"}, "finding-0", "Choose the finding"),
        ({"finding-0": "tremor", "finding-0-state": "dreaming"}, "finding-0-state", "Choose one"),
        ({"finding-0": "tremor", "finding-0-on": "yesterday"}, "finding-0-on", "whole number"),
        ({"finding-0": "tremor", "finding-0-duration": "3"}, "finding-0-duration-unit", "unit"),
        ({"finding-0": "ankle_clonus", "finding-0-beats": "1.5"}, "finding-0-beats", "whole number"),
        ({"lab-0-value": "3"}, "lab-0", "measured"),
        ({"lab-0": "lab_glucose"}, "lab-0-value", "Give a value"),
        ({"lab-0": "lab_glucose", "lab-0-value": "low"}, "lab-0-value", "number"),
        ({"lab-0": "lab_glucose", "lab-0-value": "3", "lab-0-unit": "Cel"}, "lab-0-unit", "mmol/L"),
        ({"lab-0": "lab_glucose", "lab-0-value": "3", "lab-0-unit": "mmol/L", "lab-0-low": "2"}, "lab-0-high", "both"),
        ({"lab-0": "lab_glucose", "lab-0-value": "3", "lab-0-low": "2", "lab-0-high": "4"}, "lab-0-unit", "unit"),
        ({"work-0": "eeg"}, "work-0-how", "how"),
        ({"work-0-how": "done"}, "work-0", "what"),
        ({"work-0": "eeg", "work-0-how": "given"}, "work-0-how", "cannot be said"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told_at_the_field(
    client: FlaskClient, fields: dict[str, str], wrong: str, said: str, log_lines: io.StringIO
) -> None:
    page = posted(client, "/sandbox/build", {**MINIMAL, **fields, "action": "send"})
    assert page.status_code == 422
    assert re.search(rf'id="{wrong}"[^>]*aria-invalid="true" aria-describedby="{wrong}-wrong"', page.text)
    told = re.search(rf'id="{wrong}-wrong">([^<]*)<', page.text)
    assert told is not None
    assert said in told[1]
    assert f'<a href="#{wrong}">' in page.text
    assert calls(log_lines) == []


def test_one_row_more_keeps_what_was_typed_and_finds_no_fault(client: FlaskClient) -> None:
    page = posted(client, "/sandbox/build", {**MINIMAL, "age": "five", "finding-0": "tremor", "more": "finding"})
    assert page.status_code == 200
    assert 'id="finding-2"' in page.text
    assert "aria-invalid" not in page.text
    assert 'value="five"' in page.text
    assert '<option value="tremor" selected>' in page.text
    assert rows_of({"rows-finding": "99999999", "more": "finding"})["finding"] <= 12


# curl


def test_the_curl_line_sends_the_very_request(client: FlaskClient, tmp_path: Path) -> None:
    """Pasted into bash; in curl's place a script that writes down what it was given."""
    body = {**sample(JERKS), "padding": 'it\'s $HOME `id` \\ "quoted" EOF'}
    page = send(client, json.dumps(body, indent=1)).text
    found = re.search(r'<pre tabindex="0" class="here">(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    assert ran(unescape(found[1]), tmp_path) == (f"{PUBLIC}{URL}", body)


def test_the_curl_line_of_a_sample_names_its_file(client: FlaskClient, tmp_path: Path) -> None:
    page = client.get(f"/sandbox/infants/{JERKS}").text
    found = re.search(r"<pre tabindex=\"0\">(curl [^<]*)</pre>", page)
    assert found is not None
    assert ran(unescape(found[1]), tmp_path) == (f"{PUBLIC}{URL}", sample(JERKS))
    assert "curl -s" not in client.get("/sandbox/infants/one-infant.ndjson").text.split("This very request")[0]


def ran(command: str, folder: Path) -> tuple[str, Any]:
    fake = folder / "curl"
    fake.write_text(
        '#!/bin/bash\nfor word; do last=$word; case $word in @-) cat;; @*) cat "${word#@}";; esac; done\n'
        'echo "$last" >&2\n'
    )
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command], cwd=FIXTURES.parent, env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": "/nowhere"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr.strip(), json.loads(done.stdout)


# Inert, and absent


def test_nothing_of_a_request_becomes_markup(client: FlaskClient) -> None:
    body = sample(JERKS)
    for entry in body["prefetch"]["observations"]["entry"]:
        entry["resource"]["code"]["text"] = SCRIPT
    body["prefetch"]["patient"]["name"] = [{"text": SCRIPT}]
    body["extension"][SCRIPT] = f"</textarea>{SCRIPT}<img src=x onerror=alert(1)>"
    page = send(client, json.dumps(body)).text
    assert status_in(page) == "200"
    assert SCRIPT in text_in(page)
    assert SCRIPT not in page
    assert "<img" not in page
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/static/sandbox.js" defer>']
    wrong = send(client, f'{{"{SCRIPT}": \n}}').text
    assert SCRIPT not in wrong
    said = posted(
        client, "/sandbox/feedback",
        {"request": json.dumps(body), "answer": f"dismiss {SCRIPT}", "said": f"{cards_in(page)[0][1]} {SCRIPT}"},
    ).text  # fmt: skip
    assert SCRIPT not in said
    assert unescape(said).count(SCRIPT) >= 2


def test_absent_in_production_unless_it_is_switched_on(production: Production) -> None:
    for path in ("/sandbox", f"/sandbox/infants/{JERKS}", "/sandbox/build"):
        assert production.client.get(path).status_code == 404
    for path in ("/sandbox/send", "/sandbox/build", "/sandbox/feedback"):
        assert production.client.post(path, data={}).status_code == 404
    assert not [rule for rule in production.app.url_map.iter_rules() if rule.rule.startswith("/sandbox")]


def test_in_production_it_evaluates_and_sends_nothing(tmp_path: Path, log_lines: io.StringIO) -> None:
    running = Production(tmp_path, sandbox_page=True)
    try:
        assert {rule.endpoint for rule in running.app.url_map.iter_rules()} >= {"sandbox.sandbox", "sandbox.infant"}
        fields = {"request": json.dumps(sample(JERKS)), "action": "send", "answer": "dismiss x"}
        with running.app.test_request_context("/sandbox/send", method="POST", data=fields):
            g.user = User("somebody", Role.VIEWER)
            page, status = running.app.view_functions["sandbox.send_request"]()
            assert status == 200
            assert "This is production" in page
            assert status_in(page) == "not sent"
            assert len(cards_in(page)) == 2
            assert "formaction" not in page.split('id="trace"')[0]
            with pytest.raises(Exception, match="404"):
                running.app.view_functions["sandbox.give_feedback"]()
        assert calls(log_lines) == []
    finally:
        running.app.extensions["decision_log"].close()


def test_every_page_says_who_may_see_it(app: Flask) -> None:
    views = {name: view for name, view in app.view_functions.items() if name.startswith("sandbox.")}
    assert len(views) == 6
    assert {view.role for view in views.values()} == {Role.VIEWER}  # type: ignore[attr-defined]


assert parse_as_of(TODAY.isoformat()) is not None
