"""What the tests of the wire share: sample requests, charts drawn from building blocks, readers of answers."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import infants
from hypothesis import strategies as st
from infants import BASIS, Json, coded, condition, lab, medicine, observation, order, resource
from msgspec import Struct

from cds_service.errors import RequestError
from cds_service.hooks.discovery import SERVICE_ID
from cds_service.hooks.respond import EVALUATION

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
URL = f"/cds-services/{SERVICE_ID}"
REFUSED = ("wrong-patient", "patient-alone")
SAMPLES = sorted(p.stem for p in FIXTURES.glob("*.json") if p.stem not in ("expected", *REFUSED))
LIBRARY = infants.library()
READING = LIBRARY.reading
CONCEPTS = READING.vocabulary.concepts.values()
FINDINGS = sorted(c.name for c in CONCEPTS if c.category in ("finding", "disorder", "risk-factor"))
WORK = sorted(c.name for c in CONCEPTS if c.category in ("procedure", "order", "referral", "specialty", "lab"))
MEDICINES = sorted(c.name for c in CONCEPTS if c.category.startswith("medication"))
# What each family of rules speaks of, with what makes it speak.
CHIEF = [
    ("ankle_clonus", ("laterality", "bilateral")), ("ankle_clonus", ("beats", 4)), ("ankle_clonus",),
    ("tremor",), ("tremor", ("severity", "severe")), ("tremor", ("course", "persistent")),
    ("tremor", ("state", "asleep")), ("jitteriness",), ("jitteriness", ("duration", (90, "s"))),
    ("muscle_spasm", ("pattern", "flexion-stiffening")), ("muscle_spasm", ("frequency", "frequent")),
    ("myoclonus", ("frequency", "clustered")), ("myoclonus", ("provoked-by", "hiccup")), ("myoclonus",),
    ("sleep_myoclonus",), ("dystonia",), ("seizure",), ("stiffness",), ("hyperreflexia",), ("cerebral_palsy",),
    ("spinal_dysraphism",), ("infantile_spasms",), ("fever",), ("lethargy",), ("meningitis",),
]  # fmt: skip
LIMITS = {"glucose": (50, 2.8), "calcium": (8, 2), "magnesium": (1.6, 0.66), "sodium": (0, 140), "potassium": (0, 5)}
TODAY = date(2026, 11, 22)


def sample(name: str) -> Json:
    """A request of fixtures/."""
    found: Json = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def said(request: Json) -> Json:
    """The body of the answer to a request, or in its place the code with which it is refused."""
    try:
        return copy.deepcopy(dict(infants.ask(request).body))
    except RequestError as error:
        return {"cards": [], "extension": {EVALUATION: {"refused": error.code}}}


def report(body: Json) -> Json:
    """The evaluation extension of an answer's body."""
    found: Json = body["extension"][EVALUATION]
    return found


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


def judged(request: Json) -> tuple[Any, ...]:
    """Decisions and evidence, and what is made of every analyte whether or not a rule asks for it."""
    body = said(request)
    analytes = () if "refused" in report(body) else READING.analytes
    return gist(body), evidence(body), [infants.ask(request).record.lab(name)[:3] for name in analytes]


def resources_of(request: Json) -> list[Json]:
    """Every resource of a request but the Patient."""
    return [entry["resource"] for value in request["prefetch"].values() for entry in value.get("entry", [])]


def walk(value: Any) -> Iterator[Json]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(part)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names of members left out."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_of(part)


class Chart(Struct):
    """An infant's chart, not yet a request; ``unsent`` are queries that were not answered."""

    birth: str
    resources: list[Json]
    as_of: str
    unsent: tuple[str, ...] = ()

    def request(self) -> Json:
        """The chart as a request of its own."""
        return copy.deepcopy(infants.request(*self.resources, birth=self.birth, as_of=self.as_of, without=self.unsent))


def day(back: int) -> str:
    """The date so many days before TODAY."""
    return (TODAY - timedelta(days=back)).isoformat()


DAYS_BACK = st.one_of(
    st.integers(0, 2), st.integers(0, 3), st.integers(0, 30), st.integers(-3, 120), st.sampled_from([14, 90, 91, 400])
)
CLOCK = st.sampled_from(["T00:00:00Z", "T10:00:00Z", "T10:20:30.500Z", "T23:30:00-05:00", "T01:15:00+02:00"])


RECENT = st.integers(0, 2).map(lambda back: {"effectiveDateTime": day(back)})


@st.composite
def moments(draw: Any, name: str, exact: bool) -> Json:
    """One of the forms of a time that FHIR allows for this choice element, or one that cannot be read."""
    back = draw(DAYS_BACK)
    instant = day(back) + draw(CLOCK)
    match draw(st.sampled_from("ddiiips" if exact else "ddddiiiipsomnu")):
        case "i":
            return {f"{name}DateTime": instant}
        case "p" | "s" | "o" as form:
            start, end = {
                "p": (day(back + 2), day(back)), "s": (f"{day(back)}T10:00:00Z", f"{day(back)}T10:01:30Z"),
                "o": (instant, None),
            }[form]  # fmt: skip
            return {f"{name}DateTime": None, f"{name}Period": {"start": start} | ({"end": end} if end else {})}
        case "m":
            return {f"{name}DateTime": day(back)[: draw(st.sampled_from([4, 7]))]}
        case "n":
            return {f"{name}DateTime": None}
        case "u":
            return {f"{name}DateTime": draw(st.sampled_from(["soon", f"{day(back)}T10:00", "2026-13-01"]))}
    return {f"{name}DateTime": day(back)}


@st.composite
def qualifiers(draw: Any) -> tuple[str, Any]:
    """What is said of a movement."""
    name = draw(st.sampled_from([*READING.coded_qualifiers, "duration", "beats", "vigorous"]))
    match name:
        case "duration":
            return name, (draw(st.sampled_from([1, 60, 61])), draw(st.sampled_from(["s", "min", "furlong"])))
        case "beats":
            return name, draw(st.integers(1, 20))
        case "vigorous":
            return name, draw(st.booleans())
    return name, draw(st.sampled_from([*sorted(READING.coded_qualifiers[name]), "unheard-of"]))


@st.composite
def findings(draw: Any, exact: bool) -> Json:
    """A finding in one of the ways of ENCODING §2, with qualifiers."""
    name, *said = draw(st.one_of(*[st.sampled_from(CHIEF)] * 3, st.sampled_from(FINDINGS).map(lambda name: (name,))))
    said = [*said, *draw(st.lists(qualifiers(), max_size=1))]
    system, code = draw(st.sampled_from(sorted(infants.codes_of(name))))
    concept = coded(system, code)
    way = draw(st.sampled_from(["code", "code", "value", "component", "condition", "condition"]))
    if way == "condition":
        clinical = draw(st.sampled_from([*["active"] * 4, None, "resolved", "sleeping"]))
        verified = draw(st.sampled_from([*["confirmed"] * 4, None, "provisional", "refuted", "entered-in-error"]))
        found = condition(concept, None, *said, clinical=clinical, verification=verified)
        return found | {name: time for name, time in draw(moments("onset", exact)).items() if time}
    value: Json = draw(st.sampled_from([
        *[{}] * 8, {"valueBoolean": True}, {"valueBoolean": False}, {"valueString": "a little"}, {"valueInteger": 2},
        {"valueCodeableConcept": coded(infants.SNOMED, "2667000")},
    ]))  # fmt: skip
    status = {"status": draw(st.sampled_from([*["final"] * 6, "preliminary", "amended", "entered-in-error", "odd"]))}
    when = draw(moments("effective", exact))
    general = coded(infants.LOINC, "8716-3")
    if way == "code":
        return observation(concept, None, *said, **status, **value, **when)
    if way == "value":
        return observation(general, None, *said, valueCodeableConcept=concept, **status, **when)
    return observation(general, None, *said, component=[{"code": concept, **value}], **status, **when)


@st.composite
def labs(draw: Any, exact: bool, plain: bool = False) -> Json:
    """A laboratory value near or far from its limit. ``plain``: of today, and only its number in its unit decides."""
    name = draw(st.sampled_from(sorted(LIMITS)))
    analyte = READING.analytes[name]
    unit = draw(st.sampled_from(sorted(analyte.units)))
    scale, factor = analyte.units[unit]
    limit = LIMITS[name]["mg" not in scale] / factor
    value = round(limit * draw(st.sampled_from([0.5, 0.8, 1, 1.1, 1.5])), 4)
    concept = draw(st.sampled_from(analyte.concepts))
    if plain:
        return lab(concept, value, unit, day(0))
    ends = (round(limit * 0.9, 4), round(limit * 1.2, 4), unit)
    return lab(
        concept, value, draw(st.sampled_from([unit, unit, unit, None])),
        comparator=draw(st.sampled_from([*[None] * 4, "<", ">="])),
        flagged=draw(st.sampled_from([*[None] * 4, "L", "H", "N", "A"])),
        referenceRange=infants.reference_range(*ends) if not draw(st.integers(0, 2)) else None,
        status=draw(st.sampled_from([*["final"] * 4, "entered-in-error"])),
        **draw(RECENT | RECENT | moments("effective", exact)),
    )  # fmt: skip


@st.composite
def others(draw: Any, exact: bool) -> Json:
    """Work done or ordered, a medicine, gestation, a weight, words without a code, resources of a bad shape."""
    when, work, finding = day(draw(DAYS_BACK)), draw(st.sampled_from(WORK)), draw(st.sampled_from(FINDINGS))
    match draw(st.integers(0, 10)):
        case 0:
            return infants.procedure(work, **draw(moments("performed", exact)))
        case 1:
            times = {key: time for key, time in draw(moments("effective", exact)).items() if time}
            return resource("DiagnosticReport", status="final", code=infants.codeable(work), **times)
        case 2 | 3:
            return order(work, when, status=draw(st.sampled_from(["active", "completed"])))
        case 4:
            return medicine("MedicationRequest", draw(st.sampled_from(MEDICINES)), authoredOn=when)
        case 5 | 6:
            return infants.gestation(draw(st.sampled_from([31, 36, 37, 40])), effectiveDateTime=when)
        case 7:
            return observation(coded(infants.LOINC, "29463-7"), when, valueQuantity=infants.quantity(6.5, "kg"))
        case 8:
            return observation(coded("https://x.example", "9", text="a tremor?"), when)
        case 9:
            return condition({"text": "leg spasm, says the mother"}, when)
    misshapen = observation(finding, when) | {"component": "none"}, condition(finding) | {"onsetDateTime": 1}
    return draw(st.sampled_from(misshapen))


AGES = st.integers(0, 50) | st.integers(0, 700) | st.integers(30, 400) | st.sampled_from([28, 29, 42, 43, 730, 731])


@st.composite
def charts(draw: Any, exact: bool = False, plain: bool = False, nameless: bool = False) -> Chart:
    """A chart. ``exact``: every time is a whole day or an instant, so that days can be moved. ``nameless``: some
    resources have no id; the service numbers these by their content, so they stay out where content is rewritten."""
    found = draw(st.lists(findings(exact), min_size=1, max_size=4))
    found += draw(st.lists(labs(exact, plain), min_size=plain, max_size=3)) + draw(st.lists(others(exact), max_size=3))
    for number, item in enumerate(found):
        item["id"] = f"r{number}"
        if nameless and not draw(st.integers(0, 5)):
            del item["id"]
    as_of = draw(st.sampled_from([day(0), day(0), f"{day(0)}T12:00:00Z"]))
    unsent = draw(st.sampled_from([*[()] * 6, ("conditions",), ("specimens", "procedures"), ("medicationRequests",)]))
    return Chart(day(draw(AGES)), found, as_of, unsent)


def post(client: Any, body: Any, **how: Any) -> Any:
    """The answer to a call of the service; bytes are sent as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(URL, data=content, **{"content_type": "application/json", **how})


def refused(answer: Any, status: int, code: str) -> Json:
    """The answer is an OperationOutcome of this status and code that names the request."""
    body: Json = answer.get_json(force=True)
    found = answer.status_code, body["issue"][0]["details"]["coding"][0]["code"], body["resourceType"]
    assert found == (status, code, "OperationOutcome"), found
    assert answer.content_type == "application/fhir+json; charset=utf-8"
    assert answer.headers["X-Request-Id"] in body["issue"][0]["diagnostics"]
    return body


def infant_of(number: int) -> tuple[str, str, Json]:
    """A request of one of two infants: ids, age and workups tell whose answer it is."""
    me, birth, age, finding = (
        ("one", "2026-07-20", "4 months", "ankle_clonus"), ("two", "2026-02-20", "9 months", "dystonia"),
    )[number % 2]  # fmt: skip
    own = {"id": f"{me}-{number}", "subject": {"reference": f"Patient/{me}"}}
    fact = observation(finding, "2026-11-20", ("laterality", "bilateral")) | own
    body = infants.request(fact, birth=birth, patient={"id": me}, hookInstance=str(uuid.UUID(int=number)))
    body["context"]["patientId"] = me
    return me, age, body


JUNK = st.integers() | st.text(max_size=5) | st.sampled_from([
    None, True, 1.5, "Patient/x", "2026-11-22", "9999-12-31T23:59:60Z", [], {}, [[]], [None], {"code": []}, {"x": {}},
]).map(copy.deepcopy)  # fmt: skip
