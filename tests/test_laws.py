"""What a chart says does not depend on how it is written down: laws over charts drawn from building blocks."""

from __future__ import annotations

import copy
import re
from collections import Counter
from datetime import date, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from infants import UCUM, ask, bundle
from wire import LIMITS, READING, charts, evidence, gist, judged, post, report, resources_of, said, texts_of, walk

from cds_service.app import create_app
from cds_service.errors import WrongPatient
from cds_service.hooks.request import AS_OF
from cds_service.record.sources import SOURCES
from cds_service.record.times import EPOCH_ORDINAL, add_months
from cds_service.settings import Settings

UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
LAWS = settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=UNHURRIED)
TIMES = re.compile(r"(birthDate|authoredOn|start|end|[a-z]+DateTime)")
MONTH_LIMITS = (1, 6, 12, 24)  # every limit in calendar months that rules or limits.yaml have


def law(*strategies, **named):
    """A test over what these strategies draw."""
    return lambda test: given(*strategies, **named)(LAWS(test))


def times_of(body):
    """Every written time of a request, as (its dict, its key)."""
    found = [(part, key) for part in walk(body["prefetch"]) for key in part if TIMES.fullmatch(key)]
    return [(part, key) for part, key in found if isinstance(part[key], str)] + [(body["extension"], AS_OF)]


def rewritten(body, change):
    """The request with every time written as ``change`` says."""
    for part, key in times_of(body):
        part[key] = change(part[key])
    return body


@law(charts(nameless=True), st.randoms(use_true_random=False))
def test_the_order_of_entries_and_keys_does_not_matter(chart, random):
    second = chart.request()
    for value in second["prefetch"].values():
        random.shuffle(value.get("entry", []))
    keys = list(second["prefetch"])
    random.shuffle(keys)
    second["prefetch"] = {key: second["prefetch"][key] for key in keys}
    assert said(chart.request()) == said(second)


@law(charts(nameless=True), st.randoms(use_true_random=False))
def test_an_entry_sent_several_times_counts_once(chart, random):
    second = chart.request()
    for value in second["prefetch"].values():
        for entry in list(value.get("entry", [])):
            value["entry"] += [copy.deepcopy(entry)] * random.randint(0, 2)
    assert said(chart.request()) == said(second)


EXTRA = st.fixed_dictionaries({}, optional={
    "extension": st.just([{"url": "https://ehr.example/x", "valueString": "tremor"}]),
    "meta": st.just({"versionId": "3", "lastUpdated": "2026-11-20T08:00:00Z", "tag": [{"code": "x"}]}),
    "text": st.just({"status": "generated", "div": "<div>seizure</div>"}),
    "x-vendor": st.sampled_from([None, 1, "clonus", {"code": "26079004"}, []]),
    "category": st.just([{"text": "exam"}]), "identifier": st.just([{"value": "1"}]), "language": st.just("en"),
})  # fmt: skip


@law(charts(), st.lists(EXTRA, min_size=1, max_size=9))
def test_unknown_extensions_and_members_do_not_matter(chart, extras):
    second = chart.request()
    for number, resource in enumerate(resources_of(second)):
        extra = copy.deepcopy(extras[number % len(extras)])
        extra["extension"] = extra.get("extension", []) + resource.get("extension", [])
        resource.update(extra)
    second["extension"]["com.vendor.unknown"] = {"a": 1}
    second["prefetch"]["vendorKey"] = {"resourceType": "Basic", "id": "b"}
    second["context"]["vendor"] = second["vendor"] = "x"
    assert said(chart.request()) == said(second)


@law(charts())
def test_an_unknown_coding_before_ours_does_not_matter(chart):
    second = chart.request()
    names = {"code", "valueCodeableConcept", "medicationCodeableConcept"}
    found = [part[name] for part in walk(second["prefetch"]) for name in names & part.keys()]
    for concept in (concept for concept in found if isinstance(concept, dict)):
        concept["coding"] = [{"system": "https://hospital.example", "code": "26079004"}, *concept.get("coding", [])]
    assert said(chart.request()) == said(second)


def renamed(text, names):
    """The text with every resource id replaced by its new name."""
    return re.sub(r"/(r\d+)\b", lambda found: f"/{names[found[1]]}", text)


def told(body, names):
    """What the answer's report and evidence name, in no order, under new names."""
    parts = [report(body).get(part, []) for part in ("notEvaluated", "unreadable", "uncoded", "ignored")]
    return [
        sorted(sorted(renamed(text, names) for text in texts_of(item)) for item in part)
        for part in [*parts, [sorted(found) for found in evidence(body)]]
    ]


@law(charts(), st.permutations(range(10)))
def test_other_ids_give_the_same_answer_with_those_ids(chart, order):
    assume(sum(resource.get("valueQuantity", {}).get("code") == "wk" for resource in chart.resources) < 2)
    names = {f"r{number}": f"new-{place}" for number, place in enumerate(order)}
    second = orjson.loads(orjson.dumps(chart.request()).replace(b"Patient/p1", b"Patient/q2"))
    second["prefetch"]["patient"]["id"] = second["context"]["patientId"] = "q2"
    for resource in resources_of(second):
        resource["id"] = names[resource["id"]]
    one, two = said(chart.request()), said(second)
    assert gist(one) == gist(two)
    assert told(one, names) == told(two, {})


@law(charts(), st.sampled_from([400, 800, 2000]))
def test_moving_all_dates_by_four_centuries_changes_nothing(chart, years):
    second = rewritten(chart.request(), lambda text: re.sub(r"^\d{4}(?=$|-)", lambda y: str(int(y[0]) + years), text))
    assert gist(said(chart.request())) == gist(said(second))


def side_of_limits(body):
    """For every day that the request names: on which side of every limit in calendar months it lies."""
    born = date.fromisoformat(body["prefetch"]["patient"]["birthDate"]).toordinal() - EPOCH_ORDINAL
    births = [born, *(born + 280 - 7 * weeks for weeks in (31, 36))]
    texts = [part[key] for part, key in times_of(body)]
    days = {date.fromisoformat(text[:10]).toordinal() - EPOCH_ORDINAL + more for text in texts for more in (-1, 0, 1)}
    return [[(day > limit) - (day < limit) for limit in (add_months(b, m) for b in births for m in MONTH_LIMITS)]
            for day in sorted(days)]  # fmt: skip


@law(charts(exact=True), st.integers(-4000, 4000))
def test_moving_all_dates_by_some_days_changes_nothing_unless_a_month_limit_is_crossed(chart, days):
    second = rewritten(chart.request(), lambda text: f"{date.fromisoformat(text[:10]) + timedelta(days)}{text[10:]}")
    assume(side_of_limits(chart.request()) == side_of_limits(second))
    assert gist(said(chart.request())) == gist(said(second))


@law(charts(), st.lists(st.integers(-12 * 4, 14 * 4), min_size=1, max_size=6))
def test_the_same_instant_in_another_zone_changes_nothing(chart, quarters):
    offsets = iter(quarters * 99)

    def elsewhere(text):
        if not re.search(r"T.*(Z|[+-]\d\d:\d\d)$", text):
            return text
        return datetime.fromisoformat(text).astimezone(timezone(timedelta(minutes=15 * next(offsets)))).isoformat()

    assert said(chart.request()) == said(rewritten(chart.request(), elsewhere))


MASS = {"mg/dL": 1, "mg/dl": 1, "g/L": 100}
AMOUNT = {"mmol/L": 1, "mmol/l": 1, "meq/L": 1, "meq/l": 1}
MAGNESIUM = AMOUNT | {"meq/L": 0.5, "meq/l": 0.5}
UNITS = {"glucose": (MASS, AMOUNT), "calcium": (MASS, AMOUNT), "magnesium": (MASS, MAGNESIUM),
         "sodium": (AMOUNT,), "potassium": (AMOUNT,)}  # fmt: skip
MOLAR = {"glucose": 18.016, "calcium": 4.008, "magnesium": 2.4305}  # mg/dL in one mmol/L


def analyte_of(resource):
    """The analyte of a result with a unit."""
    found = {c.name for coding in resource.get("code", {}).get("coding", [])
             for c in READING.vocabulary.codes.get((coding["system"], coding["code"]), ())}  # fmt: skip
    named = [name for name, analyte in READING.analytes.items() if found & set(analyte.concepts)]
    return named[0] if named and resource.get("valueQuantity", {}).get("unit") else None


def rewrite(resource, unit, factor):
    """Every quantity of the result × factor, in another unit."""
    for quantity in [part for part in walk(resource) if "value" in part]:
        quantity["value"] = round(quantity["value"] * factor, 8)
        quantity |= {key: unit for key in ("code", "unit") if key in quantity}


RESULTS = charts(plain=True) | charts()


@law(RESULTS, st.data())
def test_another_unit_of_the_same_family_changes_nothing(chart, data):
    second = chart.request()
    for resource in resources_of(second):
        name = analyte_of(resource)
        for units in UNITS[name] if name else ():
            known = sorted(set(units) & set(READING.analytes[name].units))
            if resource["valueQuantity"]["unit"] in known:
                unit = data.draw(st.sampled_from(known))
                rewrite(resource, unit, units[resource["valueQuantity"]["unit"]] / units[unit])
                break
    assert judged(chart.request()) == judged(second)


@law(RESULTS)
def test_mass_or_amount_gives_the_same_answer_away_from_the_limits(chart):
    second = chart.request()
    for resource in resources_of(second):
        name = analyte_of(resource)
        if name not in MOLAR:
            continue
        mass, amount = UNITS[name]
        unit, value = resource["valueQuantity"]["unit"], resource["valueQuantity"]["value"]
        if unit in mass:
            assume(abs(value * mass[unit] / LIMITS[name][0] - 1) > 0.05)
            rewrite(resource, "mmol/L", mass[unit] / MOLAR[name])
        else:
            assume(abs(value * amount[unit] / LIMITS[name][1] - 1) > 0.05)
            rewrite(resource, "mg/dL", amount[unit] * MOLAR[name])
    assert judged(chart.request()) == judged(second)


@law(charts(), st.randoms(use_true_random=False))
def test_a_twin_entered_in_error_changes_nothing(chart, random):
    second = chart.request()
    for value in second["prefetch"].values():
        for number, entry in enumerate(list(value.get("entry", []))):
            twin = copy.deepcopy(entry["resource"]) | {"id": f"twin-{number}"}
            if twin["resourceType"] == "Condition":
                twin["verificationStatus"] = {"coding": [{"code": "entered-in-error"}]}
            else:
                twin["status"] = "entered-in-error"
            value["entry"].insert(random.randint(0, len(value["entry"])), {"resource": twin})
    assert said(chart.request()) == said(second)


KEYS = ["patient", *SOURCES.values()]
STRANGERS = st.one_of(
    st.sampled_from(["Patient/p2", "Patient/p11", "Patient/p1x/_history/1", "https://ehr.example/fhir/Patient/p2",
                     "Patient/P1"]).map(lambda reference: {"subject": {"reference": reference}}),
    st.just({"patient": {"reference": "Patient/p2"}}),
    st.just({"resourceType": "Patient", "birthDate": "2026-01-01"}),
)  # fmt: skip


@law(charts(), st.sampled_from(KEYS), STRANGERS, st.sampled_from([*SOURCES, "Immunization"]), st.integers(0, 9))
def test_a_resource_of_another_patient_in_any_key_refuses_the_whole_request(chart, key, stranger, kind, place):
    body = chart.request()
    resource = {"resourceType": kind, "id": "x", "status": "final", "code": {"text": "tremor"}, **stranger}
    sent = body["prefetch"].setdefault(key, bundle())
    if key == "patient":
        sent = body["prefetch"]["patient"] = bundle(sent)
    sent["entry"].insert(place, {"resource": resource})
    with pytest.raises(WrongPatient):
        ask(body)


TEXTS = st.sampled_from(["tremor of both legs", "Clonus!", "well child", "seizure", ""])
VALUES = st.sampled_from([{}, {"valueString": "yes"}, {"valueBoolean": True},
                          {"valueQuantity": {"value": 20, "system": UCUM, "code": "mg/dL"}}])  # fmt: skip


@law(charts(), TEXTS, VALUES)
def test_an_observation_in_words_changes_nothing_but_the_list_of_the_uncoded(chart, text, value):
    second = chart.request()
    words = {"resourceType": "Observation", "id": "words", "status": "final", "code": {"text": text},
             "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2026-11-22", **value}  # fmt: skip
    second["prefetch"]["observations"]["entry"].append({"resource": words})
    one, two = said(chart.request()), said(second)
    before, after = report(one).pop("uncoded", []), report(two).pop("uncoded", [])
    report(one).get("inputs", {})["observations"] = report(two).get("inputs", {}).get("observations")
    assert one == two
    told_of = any(word in text.casefold() for word in READING.finding_words) and "refused" not in report(two)
    assert [item["resource"] for item in after if item not in before] == ["Observation/words"] * told_of


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('laws')}/decisions.sqlite3"))
    yield app.test_client()
    app.extensions["decision_log"].close()


@law(chart=charts(nameless=True))
def test_the_same_request_twice_gives_the_same_bytes(client, chart):
    one, two = (post(client, chart.request()) for _ in range(2))
    assert one.status_code == two.status_code
    assert one.data == two.data or one.status_code == 412


def test_the_charts_drawn_make_most_rules_speak():
    speaking = Counter()

    @law(charts())
    def count(chart):
        speaking.update({rule for rules in gist(said(chart.request()))["rules"] for rule in rules})

    count()
    assert len(speaking) >= 10
    assert sum(speaking.values()) > 100
