"""What the tests of the wire share: sample requests, charts drawn from building blocks, readers of answers."""

from __future__ import annotations

import copy
import json
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st
from msgspec import Struct

from cds_service.errors import RequestError
from cds_service.hooks.request import AS_OF, parse_request
from cds_service.hooks.respond import EVALUATION, HookResponse, respond
from cds_service.record.sources import SOURCES
from cds_service.rules.library import RuleLibrary, load_library

Json = dict[str, Any]
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SAMPLES = sorted(
    path.stem
    for path in FIXTURES.glob("*.json")
    if path.name != "expected.json" and path.stem not in ("wrong-patient", "patient-alone")
)
BASE = "http://127.0.0.1:8080"
BASIS = "example.infant-motor-cds.basis"
UCUM = "http://unitsofmeasure.org"
FLAGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
DISEASE = "http://terminology.hl7.org/CodeSystem/condition-"
TODAY = date(2026, 11, 22)
LIBRARY = load_library()
READING = LIBRARY.reading
CONCEPTS = READING.vocabulary.concepts.values()
FINDINGS = sorted(c.name for c in CONCEPTS if c.category in ("finding", "disorder", "risk-factor"))
WORK = sorted(c.name for c in CONCEPTS if c.category in ("procedure", "order", "referral", "specialty", "lab"))
MEDICINES = sorted(c.name for c in CONCEPTS if c.category.startswith("medication"))
CHIEF = ["ankle_clonus", "tremor", "jitteriness", "muscle_spasm", "myoclonus", "sleep_myoclonus", "dystonia", "seizure",
         "stiffness", "hyperreflexia", "cerebral_palsy", "spinal_dysraphism", "infantile_spasms", "fever", "lethargy",
         "meningitis"]  # fmt: skip
SCALES = {"glucose": (50, 2.8), "calcium": (8, 2.0), "magnesium": (1.6, 0.66), "sodium": (0, 140), "potassium": (0, 5)}


@cache
def codes_of(concept: str) -> list[tuple[str, str]]:
    """Every (system, code) by which we know a concept."""
    return sorted(pair for pair, named in READING.vocabulary.codes.items() if concept in {c.name for c in named})


def sample(name: str) -> Json:
    """A request of fixtures/."""
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def ask(body: Json, library: RuleLibrary = LIBRARY) -> HookResponse:
    """The service's answer, without HTTP."""
    request = parse_request(orjson.dumps(body))
    return respond(request, library, request.as_of, BASE)


def said(body: Json, library: RuleLibrary = LIBRARY) -> Json:
    """The body of the answer, or the code with which the request is refused."""
    try:
        return ask(body, library).body
    except RequestError as error:
        return {"cards": [], "extension": {EVALUATION: {"refused": error.code}}}


def bundle(resources: list[Json]) -> Json:
    """A search set of these resources."""
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": item} for item in resources]}


def resources_of(body: Json) -> list[Json]:
    """Every resource of the request but the Patient."""
    return [entry["resource"] for key, value in body["prefetch"].items() if key != "patient" and value
            for entry in value.get("entry", [])]  # fmt: skip


def report(body: Json) -> Json:
    """The evaluation extension of an answer's body."""
    return body["extension"][EVALUATION]


def gist(body: Json) -> Json:
    """The decisions in an answer's body, without wording, order and identifiers of cards."""
    bases = [card["extension"][BASIS] for card in body["cards"]]
    return {
        "cards": {card["source"]["topic"]["code"]: card["indicator"] for card in body["cards"]},
        "workups": sorted((item["id"], item["urgency"]) for basis in bases for item in basis["workups"]),
        "rules": [sorted(item["id"] for item in basis["rules"]) for basis in bases],
        "silent": sorted(item["rule"] for item in report(body).get("notEvaluated", [])),
    }


def evidence(body: Json) -> list[set[str]]:
    """The resources on which each card rests."""
    return [set(card["extension"][BASIS].get("evidence", ())) for card in body["cards"]]


def walk(value: Any) -> Any:
    """Every dict in a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(part)


class Chart(Struct):
    """An infant's chart: a Patient and resources, not yet a request."""

    birth: str
    resources: list[Json]
    as_of: str
    unsent: list[str] = []

    def request(self) -> Json:
        """The chart as a request in which every query is answered but those in ``unsent``."""
        prefetch = {key: bundle([]) for key in SOURCES.values() if key not in self.unsent}
        prefetch["patient"] = {"resourceType": "Patient", "id": "p1", "birthDate": self.birth}
        for resource in self.resources:
            key = SOURCES[resource["resourceType"]]
            if key in prefetch:
                prefetch[key]["entry"].append({"resource": copy.deepcopy(resource)})
        return {
            "hook": "patient-view", "hookInstance": "7f4c5d1e-2a3b-4c5d-8e6f-0a1b2c3d4e5f",
            "context": {"userId": "Practitioner/u1", "patientId": "p1"}, "prefetch": prefetch,
            "extension": {AS_OF: self.as_of},
        }  # fmt: skip


def day(back: int) -> str:
    """The date so many days before TODAY."""
    return (TODAY - timedelta(days=back)).isoformat()


def concept_of(name: str, pick: int = 0, **more: Any) -> Json:
    """A CodeableConcept of one of our concepts, by one of its codes."""
    system, code = codes_of(name)[pick % len(codes_of(name))]
    return {"coding": [{"system": system, "code": code}], **more}


def status_of(kind: str, code: str) -> Json:
    """A clinicalStatus or verificationStatus."""
    return {"coding": [{"system": f"{DISEASE}{kind}", "code": code}]}


DAYS_BACK = st.one_of(
    st.integers(0, 4), st.integers(0, 4), st.integers(0, 30), st.integers(-3, 120), st.sampled_from([14, 90, 91, 400])
)
CLOCK = st.sampled_from(["T00:00:00Z", "T10:00:00Z", "T10:20:30.5Z", "T23:30:00-05:00", "T01:15:00+02:00"])


@st.composite
def moments(draw: Any, name: str, exact: bool) -> Json:
    """One of the forms of a time that FHIR allows for this choice element."""
    back = draw(DAYS_BACK)
    form = draw(st.sampled_from("ddiiips" if exact else "dddiiiipsomnu"))
    instant = day(back) + draw(CLOCK)
    match form:
        case "i":
            return {f"{name}DateTime": instant}
        case "p":
            return {f"{name}Period": {"start": day(back + draw(st.integers(0, 3))), "end": day(back)}}
        case "s":
            return {f"{name}Period": {"start": f"{day(back)}T10:00:00Z", "end": f"{day(back)}T10:01:30Z"}}
        case "o":
            return {f"{name}Period": {"start": instant}}
        case "m":
            return {f"{name}DateTime": day(back)[: draw(st.sampled_from([4, 7]))]}
        case "n":
            return {}
        case "u":
            return {f"{name}DateTime": draw(st.sampled_from(["soon", f"{day(back)}T10:00", "2026-13-01"]))}
    return {f"{name}DateTime": day(back)}


@st.composite
def qualifiers(draw: Any) -> Json:
    """What is said of a movement: code and value of one qualifier."""
    name = draw(st.sampled_from(sorted(READING.coded_qualifiers)) | st.sampled_from(["duration", "beats", "vigorous"]))
    system = READING.qualifier_system
    value: Json
    if name == "duration":
        unit = draw(st.sampled_from(["s", "min", "furlong"]))
        value = {"valueQuantity": {"value": draw(st.sampled_from([1, 60, 61])), "system": UCUM, "code": unit}}
    elif name == "beats":
        value = {"valueInteger": draw(st.integers(1, 20))}
    elif name == "vigorous":
        value = {"valueBoolean": draw(st.booleans())}
    else:
        code = draw(st.sampled_from([*sorted(READING.coded_qualifiers[name]), "unheard-of"]))
        value = {"valueCodeableConcept": {"coding": [{"system": system, "code": code}]}}
    return {"code": {"coding": [{"system": system, "code": name}]}, **value}


@st.composite
def findings(draw: Any, exact: bool) -> Json:
    """A finding in one of the ways of ENCODING §2, with qualifiers."""
    code = concept_of(draw(st.sampled_from(CHIEF) | st.sampled_from(FINDINGS)), draw(st.integers(0, 9)))
    said = draw(st.lists(qualifiers(), max_size=3))
    way = draw(st.sampled_from(["observation", "observation", "value", "component", "condition", "condition"]))
    if way == "condition":
        condition = {"resourceType": "Condition", "code": code, **draw(moments("onset", exact))}
        clinical = draw(st.sampled_from([None, "active", "active", "active", "resolved", "sleeping"]))
        verified = draw(
            st.sampled_from([None, None, "confirmed", "confirmed", "provisional", "refuted", "entered-in-error"])
        )
        condition |= {"clinicalStatus": status_of("clinical", clinical)} if clinical else {}
        condition |= {"verificationStatus": status_of("ver-status", verified)} if verified else {}
        extensions = []
        for item in said:
            (value,) = [{"url": "value", kind: content} for kind, content in item.items() if kind != "code"]
            name = {"url": "code", "valueCode": item["code"]["coding"][0]["code"]}
            extensions.append({"url": READING.qualifier_extension, "extension": [name, value]})
        return condition | ({"extension": extensions} if extensions else {})
    status = draw(st.sampled_from([*["final"] * 6, "preliminary", "amended", "entered-in-error", "odd"]))
    value = draw(st.sampled_from([
        *[{}] * 8, {"valueBoolean": True}, {"valueBoolean": False}, {"valueString": "a little"}, {"valueInteger": 2},
        {"valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "2667000"}]}},
    ]))  # fmt: skip
    found: Json = {"resourceType": "Observation", "status": status, **draw(moments("effective", exact))}
    general = {"coding": [{"system": "http://loinc.org", "code": "8716-3"}]}
    if way == "observation":
        return found | {"code": code, **value} | ({"component": said} if said else {})
    if way == "value":
        return found | {"code": general, "valueCodeableConcept": code} | ({"component": said} if said else {})
    return found | {"code": general, "component": [{"code": code, **value}, *said]}


@st.composite
def labs(draw: Any, exact: bool) -> Json:
    """A laboratory value near or far from its limit, in one of its units or none, with or without a judgement."""
    name = draw(st.sampled_from(sorted(SCALES)))
    analyte = READING.analytes[name]
    unit = draw(st.sampled_from(sorted(analyte.units)))
    scale, factor = analyte.units[unit]
    limit = SCALES[name]["mg" not in scale] / factor
    lab: Json = {
        "resourceType": "Observation", "status": draw(st.sampled_from(["final", "final", "entered-in-error"])),
        "code": concept_of(draw(st.sampled_from(analyte.concepts))), **draw(moments("effective", exact)),
        "valueQuantity": {"value": round(limit * draw(st.sampled_from([0.5, 0.8, 1, 1, 1.1, 1.5])), 4),
                          **draw(st.sampled_from([{"system": UCUM, "code": unit}, {"unit": unit}, {}]))},
    }  # fmt: skip
    if draw(st.booleans()) and not exact:
        lab["valueQuantity"]["comparator"] = draw(st.sampled_from(["<", ">="]))
    flag = draw(st.sampled_from([None, None, "L", "H", "N", "A"]))
    if flag:
        lab["interpretation"] = [{"coding": [{"system": FLAGS, "code": flag}]}]
    if draw(st.booleans()):
        ends = {"value": round(limit * 0.9, 4), "unit": unit}, {"value": round(limit * 1.2, 4), "unit": unit}
        lab["referenceRange"] = [{"low": ends[0], "high": ends[1]}]
    return lab


@st.composite
def others(draw: Any, exact: bool) -> Json:
    """Work done or ordered, a medicine, gestation, a weight, words without a code, a resource of a bad shape."""
    kind = draw(st.sampled_from(["Procedure", "DiagnosticReport", "ServiceRequest", "medicine", "gestation", "weight",
                                 "words", "said", "broken",
                                 "misshapen"]))  # fmt: skip
    work, when = {"resourceType": kind, "code": concept_of(draw(st.sampled_from(WORK)))}, day(draw(DAYS_BACK))
    observed = {"resourceType": "Observation", "status": "final", "effectiveDateTime": when}
    match kind:
        case "Procedure":
            return work | {"status": "completed", **draw(moments("performed", exact))}
        case "DiagnosticReport":
            return work | {"status": "final", **draw(moments("effective", exact))}
        case "ServiceRequest":
            return work | {
                "status": draw(st.sampled_from(["active", "completed"])),
                "intent": "order",
                "authoredOn": when,
            }
        case "medicine":
            code = concept_of(draw(st.sampled_from(MEDICINES)))
            return {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "authoredOn": when,
                    "medicationCodeableConcept": code}  # fmt: skip
        case "gestation":
            weeks = draw(st.sampled_from([31, 36, 37, 40]))
            code = concept_of("gestational_age_birth")
            return observed | {"code": code, "valueQuantity": {"value": weeks, "system": UCUM, "code": "wk"}}
        case "weight":
            code = {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}
            return observed | {"code": code, "valueQuantity": {"value": 6.5, "system": UCUM, "code": "kg"}}
        case "words":
            return observed | {"code": {"coding": [{"system": "https://x.example", "code": "9"}], "text": "a tremor?"}}
        case "said":
            return {"resourceType": "Condition", "code": {"text": "leg spasm, says the mother"}}
        case "broken":
            return observed | {"code": concept_of(draw(st.sampled_from(FINDINGS))), "component": "none"}
    return {"resourceType": "Condition", "code": concept_of(draw(st.sampled_from(CHIEF))), "onsetDateTime": 20261122}


BIRTHS = st.one_of(st.integers(0, 50), st.integers(0, 400), st.integers(30, 700), st.sampled_from([730, 731])).map(day)


@st.composite
def charts(draw: Any, exact: bool = False, blocks: Any = None) -> Chart:
    """A chart. ``exact``: every time is a whole day or an instant, so that days can be moved."""
    whole = (
        st.lists(findings(exact), min_size=1, max_size=4),
        st.lists(labs(exact), max_size=2),
        st.lists(others(exact), max_size=3),
    )
    drawn = [draw(part) for part in whole] if blocks is None else [draw(st.lists(findings(exact))), draw(blocks)]
    found = [item for part in drawn for item in part]
    for number, resource in enumerate(found):
        resource["subject"] = {"reference": "Patient/p1"}
        if draw(st.integers(0, 9)):
            resource["id"] = f"r{number}"
    as_of = draw(st.sampled_from([day(0), day(0), f"{day(0)}T12:00:00Z"]))
    unsent = draw(st.sampled_from([*[[]] * 6, ["conditions"], ["specimens", "procedures"], ["medicationRequests"]]))
    return Chart(draw(BIRTHS), found, as_of, unsent)
