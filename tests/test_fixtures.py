"""The sample patients are valid FHIR, get the answer that fixtures/expected.json asks for, and are all listed."""

import json
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class

from cds_service.app import create_app
from cds_service.explain import read_request
from cds_service.hooks.discovery import SERVICE_ID, prefetch_templates
from cds_service.hooks.request import AS_OF
from cds_service.hooks.respond import EVALUATION, respond
from cds_service.record.times import parse_as_of
from cds_service.rules.library import load_library
from cds_service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
BASIS = "example.infant-motor-cds.basis"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
POSTED = [name for name, expected in EXPECTED.items() if "as_of" not in expected]
READ = [name for name, expected in EXPECTED.items() if "as_of" in expected]
OURS = sorted(path for path in FIXTURES.glob("*.json") if path.name != "expected.json")
FOREIGN = sorted(path for path in FIXTURES.glob("foreign/*.json"))


def path_of(name):
    return FIXTURES / (name if name.endswith(".ndjson") else f"{name}.json")


def load(name):
    return json.loads(path_of(name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def library():
    return load_library()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    database = tmp_path_factory.mktemp("decisions") / "decisions.sqlite3"
    app = create_app(Settings(database_url=f"sqlite:///{database}"))
    yield app.test_client()
    app.extensions["decision_log"].close()


def post(client, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/cds-services/{SERVICE_ID}", data=content, content_type="application/json")


def cards(body):
    return {card["source"]["topic"]["code"]: card["indicator"] for card in body["cards"]}


def workups(body):
    named = [item for card in body["cards"] for item in card["extension"][BASIS]["workups"]]
    return {item["id"]: item["urgency"] for item in named}


def not_evaluated(body):
    return {item["rule"]: item["missing"] for item in body["extension"][EVALUATION].get("notEvaluated", [])}


def agrees(body, expected):
    assert cards(body) == expected["cards"]
    assert workups(body) == expected["workups"]
    assert sorted(not_evaluated(body)) == sorted(expected.get("notEvaluated", []))


@pytest.mark.parametrize("name", POSTED)
def test_request_is_answered_as_expected(client, name):
    answer = post(client, path_of(name).read_bytes())
    expected = EXPECTED[name]
    assert answer.status_code == expected["status"]
    if answer.status_code == 200:
        agrees(answer.get_json(), expected)
    else:
        assert answer.get_json()["resourceType"] == "OperationOutcome"
        assert not expected["cards"]
        assert not expected["workups"]


@pytest.mark.parametrize("name", READ)
def test_bundle_or_ndjson_is_answered_as_expected(library, name):
    request = read_request(name, path_of(name).read_bytes())
    response = respond(request, library, parse_as_of(EXPECTED[name]["as_of"]), "http://127.0.0.1:8080")
    assert EXPECTED[name]["status"] == 200
    agrees(response.body, EXPECTED[name])


# What makes a quiet sample quiet: change that one thing, and it speaks.


def confirm(data):
    (entry,) = data["prefetch"]["conditions"]["entry"]
    entry["resource"]["verificationStatus"]["coding"][0]["code"] = "confirmed"


def next_day(data):
    data["extension"][AS_OF] = "2026-11-23"


def day_before(data):
    data["extension"][AS_OF] = "2026-11-21"


def forget(data, key, identity):
    bundle = data["prefetch"][key]
    bundle["entry"] = [entry for entry in bundle["entry"] if entry["resource"]["id"] != identity]
    bundle["total"] = len(bundle["entry"])


def unit(data, code):
    (glucose,) = [e["resource"] for e in data["prefetch"]["observations"]["entry"] if e["resource"]["id"] == "glucose"]
    glucose["valueQuantity"] |= {"unit": code, "system": "http://unitsofmeasure.org", "code": code}
    glucose.pop("interpretation", None)


QUIET = {
    "confirmed after all": ("jerks-refuted", confirm, {"eeg": "critical", "referrals": "critical"}),
    "a clinician looks": (
        "family-view",
        lambda data: data["context"].update(userId="Practitioner/sample-clinician"),
        {"eeg": "critical", "referrals": "critical"},
    ),
    "the day before the second birthday": (
        "second-birthday", day_before, {"eeg": "critical", "referrals": "critical"},
    ),
    "one day past the newborn weeks": ("nearly-clonus", next_day, {"imaging": "warning", "referrals": "warning"}),
    "the birth at 34 weeks not recorded": (
        "preterm-jitteriness",
        lambda data: forget(data, "observations", "gestational-age"),
        {"bloodtests": "warning", "referrals": "warning"},
    ),
    "30 mg/dL": (
        "glucose-without-unit",
        lambda data: unit(data, "mg/dL"),
        {"emergency": "critical", "bloodtests": "critical"},
    ),
    "46 mg/dL without the laboratory's flag": (
        "laboratory-says-normal",
        lambda data: unit(data, "mg/dL"),
        {"emergency": "critical", "bloodtests": "critical"},
    ),
    "conditions asked for, none found": (
        "conditions-not-supplied",
        lambda data: data["prefetch"].update(conditions={"resourceType": "Bundle", "type": "searchset", "total": 0}),
        {"imaging": "warning", "referrals": "warning"},
    ),
    "no cerebral palsy": (
        "clonus-cerebral-palsy-known",
        lambda data: forget(data, "conditions", "cerebral-palsy"),
        {"imaging": "warning", "referrals": "warning"},
    ),
    "EEG not ordered": (
        "spasms-workup-ordered",
        lambda data: forget(data, "serviceRequests", "eeg-order"),
        {"eeg": "critical"},
    ),
    "EEG not done": (
        "eeg-already-done",
        lambda data: forget(data, "procedures", "video-eeg"),
        {"eeg": "critical", "referrals": "critical"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", QUIET)
def test_the_one_thing_that_holds_a_card_back(client, case):
    name, change, spoken = QUIET[case]
    data = load(name)
    assert cards(post(client, data).get_json()) != spoken
    change(data)
    assert cards(post(client, data).get_json()) == spoken


def test_what_was_not_supplied_is_named(client):
    missing = not_evaluated(post(client, load("conditions-not-supplied")).get_json())
    assert missing["clonus-persistent-or-bilateral"] == ["conditions"]


def test_words_without_a_code_are_reported(client):
    report = post(client, load("text-only")).get_json()["extension"][EVALUATION]
    assert {item["resource"] for item in report["uncoded"]} == {
        "Observation/jerks-in-words", "Condition/spasm-in-words",
    }  # fmt: skip


def test_the_same_infant_as_request_and_as_ndjson():
    data = load("clonus-both-sides")["prefetch"]
    sent = [data["patient"]] + [
        entry["resource"] for key, value in data.items() if key != "patient" for entry in value.get("entry", [])
    ]
    lines = [json.loads(line) for line in path_of("one-infant.ndjson").read_text(encoding="utf-8").splitlines()]
    assert sorted(lines, key=str) == sorted(sent, key=str)


def resources(path):
    """Every resource in a sample of ours, Bundles included."""
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = []
    for value in json.loads(path.read_text(encoding="utf-8"))["prefetch"].values():
        found += [value, *(entry["resource"] for entry in value.get("entry", []))]
    return found


@pytest.mark.parametrize("path", [*OURS, FIXTURES / "one-infant.ndjson"], ids=lambda path: path.name)
def test_every_resource_is_valid_fhir(path):
    assert resources(path)
    for resource in resources(path):
        assert "meta" not in resource
        get_fhir_model_class(resource["resourceType"]).model_validate_json(json.dumps(resource))


def codings(value):
    if isinstance(value, dict):
        if {"system", "code"} <= value.keys() and "value" not in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from codings(item)


def test_codes_carry_the_displays_of_our_value_sets():
    displays = {}
    for path in (ROOT / "cards" / "valuesets").glob("*.json"):
        for include in json.loads(path.read_text(encoding="utf-8"))["compose"]["include"]:
            displays |= {(include["system"], item["code"]): item["display"] for item in include.get("concept", [])}
    known = [
        (coding["display"], displays[coding["system"], coding["code"]])
        for path in OURS
        for coding in codings(json.loads(path.read_text(encoding="utf-8")))
        if (coding["system"], coding["code"]) in displays
    ]
    assert len(known) > len(OURS)
    assert [pair for pair in known if pair[0] != pair[1]] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_request_is_pretty_fixed_in_time_and_fills_our_keys(library, path):
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    assert text == json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    assert data["extension"] == {AS_OF: "2026-11-22"}
    assert set(data["prefetch"]) <= set(prefetch_templates(library))
    assert data["prefetch"]["patient"]["name"][0]["text"].startswith("Sample ")
    for key, value in data["prefetch"].items():
        if key != "patient":
            assert (value["resourceType"], value["type"]) == ("Bundle", "searchset")
            assert value["total"] == len(value.get("entry", []))


def test_every_call_has_its_own_instance():
    instances = [json.loads(path.read_text(encoding="utf-8"))["hookInstance"] for path in OURS]
    assert len(set(instances)) == len(instances)


def test_every_sample_is_expected_and_listed():
    files = {*OURS, *FOREIGN, *FIXTURES.glob("**/*.ndjson")}
    assert {path_of(name) for name in EXPECTED} == files
    table = (FIXTURES / "README.md").read_text(encoding="utf-8")
    missing = [name for name, expected in EXPECTED.items() if row(name, expected) not in table]
    assert missing == []
    assert table.count("\n| [") == len(EXPECTED)


def row(name, expected):
    """A sample's line in fixtures/README.md, as expected.json has it."""
    if expected["status"] != 200:
        gives = f"refused with {expected['status']}"
    else:
        gives = ", ".join(f"{family} {indicator}" for family, indicator in expected["cards"].items()) or "no card"
        if silent := expected.get("notEvaluated"):
            gives += f"; {len(silent)} rules lack data"
    title = name.removeprefix("foreign/")
    return f"| [{title}]({path_of(name).relative_to(FIXTURES)}) | {gives} | {expected['why']} |"


def test_foreign_data_is_small_and_its_licence_told():
    told = (FIXTURES / "foreign" / "LICENCES.md").read_text(encoding="utf-8")
    for path in FOREIGN:
        assert path.stat().st_size < 60_000
        assert f"| `{path.name}` |" in told
