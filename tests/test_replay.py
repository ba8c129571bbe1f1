"""Replay: logged decisions come out as they were logged, and what has changed since is named.

Below: a chart replayed at its encounters, and the diagnosis that followed a first card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from infants import ICD, VERIFICATION, codeable, coded, coding, qualifier
from infants import request as infant
from sqlalchemy import select, update
from test_store import KEY, OTHER_KEY, run
from wire import URL, post, sample

from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import SettingsError
from cds_service.population.disclosure import Disclosure
from cds_service.population.leads import quartiles
from cds_service.population.report import replay_page
from cds_service.replay import replay
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.rule import Outcome
from cds_service.settings import Settings, load_settings
from cds_service.store.database import Database
from cds_service.store.logged import logged_since
from cds_service.store.schema import cards, decisions, kept_inputs
from cds_service.store.schema_version import upgrade
from cds_service.store.sealed_inputs import InputKeys

SAMPLES = sorted(path.stem for path in (Path(__file__).parents[1] / "fixtures").glob("*.json"))


def ask(url: str, *bodies: Any, **settings: Any) -> list[int]:
    """Answer the requests and log them; the statuses."""
    database = Database(url)
    upgrade(database)
    database.close()
    app = create_app(Settings(database_url=url, **({"keep_inputs": True, "inputs_key": KEY} | settings)))
    client = app.test_client()
    statuses = [post(client, body).status_code for body in bodies]
    app.extensions["decision_log"].close()
    return statuses


def again(url: str, library: RuleLibrary, keys: str = KEY, since: str = "") -> Any:
    database = Database(url)
    found = replay(list(logged_since(database, since, InputKeys(keys))), library)
    database.close()
    return found


def test_every_sample_comes_out_as_it_was_logged(url: str) -> None:
    bodies = [body for name in SAMPLES if "hook" in (body := sample(name))]
    answered = ask(url, *bodies).count(200)
    assert answered > 20
    found = again(url, load_library())
    assert (found.decisions, found.by_other_rules, found.differences, found.unreadable) == (answered, 0, [], [])
    code, output = run("replay", url=url, CDS_INPUTS_KEY=KEY)
    assert code == 0
    assert f"{answered} logged, {answered} with their input (0 decided by other rules than now): 0 differ" in output


def test_a_rule_that_says_something_else_is_named_with_its_outcomes(url: str) -> None:
    ask(url, sample("low-glucose-mg"))
    library = load_library()
    library.rules = tuple(rule for rule in library.rules if rule.id != "low-glucose-with-movement")
    library.hash = "another"
    (difference,) = again(url, library).differences
    assert again(url, library).by_other_rules == 1
    assert f"rule low-glucose-with-movement: {Outcome.RECOMMENDED.value} → not there" in difference.what
    assert any(line.startswith("card ") for line in difference.what)


@pytest.mark.parametrize(("change", "said"), [
    ({"indicator": "info"}, "critical → info"), ({"family": "elsewhere"}, "not there"),
    ({"digest": "0"}, "its text or its draft orders differ"),
])  # fmt: skip
def test_a_card_that_differs_is_named(tmp_path: Path, change: dict[str, str], said: str) -> None:
    url = f"sqlite:///{tmp_path}/cards.sqlite3"
    ask(url, sample("clustered-awake-jerks"))
    database = Database(url)
    with database.writing() as connection:
        connection.execute(update(cards).where(cards.c.place == 0).values(**change))
    database.close()
    (difference,) = again(url, load_library()).differences
    expected = {"critical → info": "info → critical"}.get(said, said)
    assert expected in " ".join(difference.what)
    code, output = run("replay", url=url, CDS_INPUTS_KEY=KEY)
    assert (code, "1 differ" in output, "not every decision comes out as it was logged" in output) == (1, True, True)


def test_a_decision_is_replayed_for_the_moment_at_which_it_was_made(url: str) -> None:
    body = infant()
    del body["extension"]
    ask(url, body)
    assert again(url, load_library()).differences == []


def test_what_was_sealed_with_another_key_is_reported_unread(url: str) -> None:
    ask(url, sample("low-glucose-mg"))
    found = again(url, load_library(), keys=OTHER_KEY)
    assert (found.differences, len(found.unreadable)) == ([], 1)
    code, output = run("replay", url=url, CDS_INPUTS_KEY=OTHER_KEY)
    assert (code, "1 cannot be read" in output) == (1, True)


def test_since_leaves_out_what_is_older(url: str) -> None:
    ask(url, sample("low-glucose-mg"))
    assert again(url, load_library(), since="2999").decisions == 0
    assert "0 logged, 0 with their input" in run("replay", "--since", "2999-01-01", url=url, CDS_INPUTS_KEY=KEY)[1]
    assert "1 logged, 1 with their input" in run("replay", "--since", "2026-01-01", url=url, CDS_INPUTS_KEY=KEY)[1]
    assert "give a date" in run("replay", "--since", "soon", url=url, CDS_INPUTS_KEY=KEY)[1]


def test_inputs_are_kept_only_where_the_settings_say_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.sqlite3"
    ask(url, sample("low-glucose-mg"), keep_inputs=False, inputs_key=KEY)
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(select(kept_inputs)).all() == []
        assert connection.execute(select(decisions.c.kept_digest)).scalars().all() == [""]
    database.close()
    assert "1 logged, 0 with their input" in run("replay", url=url, CDS_INPUTS_KEY=KEY)[1]


def test_inputs_are_not_kept_without_a_key_and_the_refusal_says_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_KEEP_INPUTS", "1")
    monkeypatch.setenv("CDS_DATABASE_URL", "postgresql://cds.example/cds")
    with pytest.raises(SettingsError, match=r"CDS_KEEP_INPUTS: .* Set CDS_INPUTS_KEY"):
        load_settings()
    monkeypatch.setenv("CDS_INPUTS_KEY", KEY)
    assert load_settings().keep_inputs
    assert KEY not in repr(load_settings())


def test_nothing_of_a_kept_input_is_readable_in_the_file_and_no_token_is_in_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sealed.sqlite3"
    body = sample("low-glucose-mg")
    body["fhirServer"] = "https://ehr.example/fhir"
    body["fhirAuthorization"] = {
        "access_token": "CANARY-TOKEN", "token_type": "Bearer", "expires_in": 300, "scope": "x", "subject": "s",
    }  # fmt: skip
    family = body["prefetch"]["patient"]["name"][0]["family"]
    assert ask(url, body) == [200]
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert (family.encode() in on_disk, b"CANARY" in on_disk) == (False, False)
    database = Database(url)
    (logged,) = logged_since(database, "", InputKeys(KEY))
    database.close()
    assert logged.kept is not None
    assert (family.encode() in logged.kept, b"CANARY" in logged.kept) == (True, False)
    assert json.loads(logged.kept)["request"]["prefetch"] == body["prefetch"]


def test_replay_without_a_key_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["replay"], env={"CDS_DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3"})
    assert (done.exit_code, "CDS_INPUTS_KEY" in done.output, list(tmp_path.iterdir())) == (1, True, [])


def test_inputs_that_do_not_fit_into_memory_cost_the_input_and_not_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.store.decisions.WAITING_BYTES", 10)
    url = f"sqlite:///{tmp_path}/large.sqlite3"
    app = create_app(Settings(database_url=url, keep_inputs=True, inputs_key=KEY))
    client = app.test_client()
    assert client.post(URL, json=sample("low-glucose-mg")).status_code == 200
    app.extensions["decision_log"].close()
    problems = client.get("/readyz").get_json()["problems"]
    assert problems == ["decision log: 1 decisions were logged without their input"]
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(select(decisions.c.kept_digest)).scalars().all() == [""]
    database.close()


# A chart replayed: a diagnosis that followed the first card


Said = tuple[Any, dict[str, Any]]  # the concept of a Condition, and its other elements
SEEN = "2026-10-01T09:00:00Z"  # the encounter at which each infant's first card comes
# The infant's Conditions → what followed in days, and what is not known.
COUNTED: dict[str, tuple[list[Said], list[tuple[str, int | None]], list[str]]] = {
    "none": ([], [], []),
    "before": ([("epilepsy", {"recordedDate": "2026-09-01"})], [], []),
    "at that moment": ([("epilepsy", {"recordedDate": SEEN})], [], []),
    "a second later": ([("epilepsy", {"recordedDate": "2026-10-01T09:00:01Z"})], [("epilepsy", 0)], []),
    "that day, no clock": ([("epilepsy", {"recordedDate": "2026-10-01"})], [], ["epilepsy"]),
    "after": ([("epilepsy", {"recordedDate": "2026-10-13T10:00:00Z"})], [("epilepsy", 12)], []),
    "by its onset": ([("epilepsy", {"onsetDateTime": "2026-10-11"})], [("epilepsy", 10)], []),
    "recorded after its onset": (
        [("epilepsy", {"onsetDateTime": "2026-09-01", "recordedDate": "2026-10-21"})], [("epilepsy", 20)], []),
    "a month": ([("epilepsy", {"recordedDate": "2026-11"})], [("epilepsy", None)], []),
    "the month of the card": ([("epilepsy", {"recordedDate": "2026-10"})], [], ["epilepsy"]),
    "undated": ([("epilepsy", {})], [], ["epilepsy"]),
    "after, and undated": (
        [("epilepsy", {"recordedDate": "2026-10-13"}), ("epilepsy", {})], [], ["epilepsy"]),
    "after as-of": ([("epilepsy", {"onsetDateTime": "2026-10-13", "recordedDate": "2027-01-01"})], [], []),
    "across as-of": ([("epilepsy", {"onsetDateTime": "2026-10-13", "recordedDate": "2026"})], [], ["epilepsy"]),
    "maybe after as-of": ([("epilepsy", {"onsetDateTime": "2026-10-13", "recordedDate": "2026-12"})], [], ["epilepsy"]),
    "refuted": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "refuted"})], [], []),
    "in error": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "entered-in-error"})], [], []),
    "provisional": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "provisional"})], [], []),
    "differential": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "differential"})], [], []),
    "unconfirmed": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "unconfirmed"})], [], []),
    "confirmed": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "confirmed"})], [("epilepsy", 12)], []),
    "nobody knows": ([("epilepsy", {"recordedDate": "2026-10-13", "is": "perhaps"})], [], ["epilepsy"]),
    "nobody knew": ([("epilepsy", {"recordedDate": "2026-09-01", "is": "perhaps"})], [], []),
    "known and again": (
        [("epilepsy", {"recordedDate": "2026-09-01"}), ("epilepsy", {"recordedDate": "2026-10-13"})], [], []),
    "suspected, then confirmed": (
        [("epilepsy", {"recordedDate": "2026-09-01", "is": "provisional"}),
         ("epilepsy", {"recordedDate": "2026-10-13"})], [("epilepsy", 12)], []),
    "resolved since": (
        [("epilepsy", {"recordedDate": "2026-10-13", "abatementDateTime": "2026-11-01"})], [("epilepsy", 12)], []),
    "two": (
        [("epilepsy", {"recordedDate": "2026-11-10"}), ("cerebral_palsy", {"recordedDate": "2026-10-31"})],
        [("cerebral_palsy", 30), ("epilepsy", 40)], []),
    "the same twice": (
        [("epilepsy", {"recordedDate": "2026-11-10"}), ("epilepsy", {"recordedDate": "2026-10-13"})],
        [("epilepsy", 12)], []),
    "one, and one undated": (
        [("epilepsy", {"recordedDate": "2026-10-13"}), ("cerebral_palsy", {})], [("epilepsy", 12)], ["cerebral_palsy"]),
    "no disorder": ([("tremor", {"recordedDate": "2026-10-13"})], [], []),
    "family's": (
        [({"coding": [coding("epilepsy"), {"system": ICD, "code": "Z82.0"}]}, {"recordedDate": "2026-10-13"})], [], []),
}  # fmt: skip


def chart_of(name: str, *conditions: Said) -> list[dict[str, Any]]:
    """Jerks that cluster, seen at the one encounter; and these Conditions."""
    about = {"subject": {"reference": f"Patient/{name}"}}
    jerks = about | {"resourceType": "Observation", "id": f"{name}-jerks", "status": "final",
                     "code": codeable("myoclonus"), "effectiveDateTime": "2026-10-01T08:00:00Z",
                     "component": [qualifier("frequency", "clustered"), qualifier("state", "awake")]}  # fmt: skip
    seen = about | {"resourceType": "Encounter", "id": f"{name}-seen", "status": "finished", "period": {"start": SEEN}}
    found: list[dict[str, Any]] = [{"resourceType": "Patient", "id": name, "birthDate": "2026-05-10"}, jerks, seen]
    for place, (concept, elements) in enumerate(conditions):
        said = dict(elements)
        if "is" in said:
            said["verificationStatus"] = coded(VERIFICATION, said.pop("is"))
        what = {"resourceType": "Condition", "id": f"{name}-{place}", "code": codeable(concept)}
        found.append(about | what | said)
    return found


def patient_named(name: str) -> str:
    return name.replace(" ", "-").replace(",", "").replace("'", "")


def replayed(folder: Path, resources: list[dict[str, Any]], *more: str, lines: str = "") -> tuple[Any, dict[str, Any]]:
    """The numbers of a replay of these resources at their encounters, and its row of each infant."""
    (folder / "in").mkdir()
    content = "".join(f"{json.dumps(resource)}\n" for resource in resources) + lines
    (folder / "in" / "all.ndjson").write_text(content, encoding="utf-8")
    done = CliRunner().invoke(
        main, ["audit", str(folder / "in"), "--out", str(folder / "out"), "--as-of", "2026-12-15", "--workers", "1",
               "--at", "encounters", *more])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = map(json.loads, (folder / "out" / "replay.ndjson").read_bytes().splitlines())
    return json.loads((folder / "out" / "replay.json").read_bytes()), {row["patient"]: row for row in rows}


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    resources = [item for name, (conditions, _, _) in COUNTED.items()
                 for item in chart_of(patient_named(name), *conditions)]  # fmt: skip
    return replayed(tmp_path_factory.mktemp("charts"), resources, "--exported", "all", "--exact")


@pytest.mark.parametrize("name", COUNTED)
def test_a_diagnosis_followed_when_it_was_first_known_after_the_first_card(
    charts: tuple[Any, dict[str, Any]], name: str
) -> None:
    row = charts[1][patient_named(name)]
    assert row["firstCard"] == SEEN
    followed = [(item["disorder"], item["days"]) for item in row["diagnosed"]]
    assert (followed, row["diagnosedNotKnown"]) == COUNTED[name][1:]


def test_the_diagnosis_is_named_by_its_first_record(charts: tuple[Any, dict[str, Any]]) -> None:
    assert [item["reference"] for item in charts[1]["two"]["diagnosed"]] == ["Condition/two-1", "Condition/two-0"]
    assert charts[1]["the-same-twice"]["diagnosed"][0]["reference"] == "Condition/the-same-twice-1"


def test_each_infant_is_counted_once_by_the_first_diagnosis_and_each_disorder_for_itself(
    charts: tuple[Any, dict[str, Any]],
) -> None:
    told = charts[0]
    assert told["diagnosisFollowedAfter"] == {
        "same day": 1, "1 to 7 days": 0, "8 to 30 days": 9, "31 to 90 days": 0, "over 90 days": 0,
        "followed, day not known": 1, "not known whether any followed": 7, "nothing followed": 13,
    }  # fmt: skip
    assert sum(told["diagnosisFollowedAfter"].values()) == len(COUNTED)
    assert told["diagnosisFollowedDays"] == {"firstQuartile": 12, "median": 12, "thirdQuartile": 12}
    cerebral_palsy = told["byDisorder"]["cerebral_palsy"]
    days = {"firstQuartile": 30, "median": 30, "thirdQuartile": 30}
    assert cerebral_palsy == {"followed": 1, "notKnown": 1, "days": days}
    assert {name: (item["followed"], item["notKnown"]) for name, item in told["byDisorder"].items()} == {
        "cerebral_palsy": (1, 1), "epilepsy": (11, 7)}  # fmt: skip


def test_a_diagnosis_is_counted_for_its_own_infant_alone(tmp_path: Path) -> None:
    resources = [*chart_of("a"), *chart_of("b", ("epilepsy", {"recordedDate": "2026-10-13"}))]
    told, rows = replayed(tmp_path, resources, "--exported", "all", "--exact")
    assert (rows["a"]["diagnosed"], rows["a"]["diagnosedNotKnown"]) == ([], [])
    assert [item["reference"] for item in rows["b"]["diagnosed"]] == ["Condition/b-0"]
    assert told["diagnosisFollowedAfter"]["nothing followed"] == told["byDisorder"]["epilepsy"]["followed"] == 1


@pytest.mark.parametrize(("elements", "followed"), [
    ({}, 12), ({"valueBoolean": False}, None), ({"status": "entered-in-error"}, None),
])  # fmt: skip
def test_a_diagnosis_may_be_written_as_an_observation(
    tmp_path: Path, elements: dict[str, Any], followed: int | None
) -> None:
    said = {"resourceType": "Observation", "id": "said", "status": "final", "code": codeable("epilepsy"),
            "subject": {"reference": "Patient/a"}, "effectiveDateTime": "2026-09-01",
            "issued": "2026-10-13T09:00:00Z"} | elements  # fmt: skip
    _, rows = replayed(tmp_path, [*chart_of("a"), said], "--exported", "all")
    assert [item["days"] for item in rows["a"]["diagnosed"]] == ([] if followed is None else [followed])
    assert rows["a"]["diagnosedNotKnown"] == []


def test_where_conditions_may_be_missing_it_is_not_known_that_none_followed(tmp_path: Path) -> None:
    for place in ("none", "lost", "two"):
        (tmp_path / place).mkdir()
    told, rows = replayed(tmp_path / "none", chart_of("a"), "--exact")
    assert rows["a"]["diagnosedNotKnown"] == ["conditions"]
    assert told["diagnosisFollowedAfter"]["not known whether any followed"] == 1
    lost = '{"resourceType": "Condition", "id": "x", "subject": {"reference": "Patient/a"}, "id": "y"}\n'
    told, rows = replayed(tmp_path / "lost", [*chart_of("a"), *chart_of("b")], "--exact", "--exported", "all",
                          lines=lost)  # fmt: skip
    assert (rows["a"]["diagnosedNotKnown"], rows["b"]["diagnosedNotKnown"]) == (["conditions"], [])
    assert told["diagnosisFollowedAfter"]["not known whether any followed"] == 1
    versions = [("epilepsy", {"recordedDate": "2026-10-13"}), ("epilepsy", {"recordedDate": "2026-09-01"})]
    differing = [item | {"id": "same"} if item["resourceType"] == "Condition" else item
                 for item in chart_of("a", *versions)]  # fmt: skip
    _, rows = replayed(tmp_path / "two", differing, "--exact", "--exported", "all")
    assert (rows["a"]["diagnosed"], rows["a"]["diagnosedNotKnown"]) == ([], ["epilepsy"])


def test_where_the_whole_chart_is_refused_it_is_not_known_what_followed(tmp_path: Path) -> None:
    later = chart_of("a", ("epilepsy", {"recordedDate": "2026-10-13"}), ("epilepsy", {"recordedDate": "2026-10-14"}))
    for server, condition in zip("xy", later[-2:], strict=True):
        condition["subject"] = {"reference": f"https://{server}.example/fhir/Patient/a"}
    told, rows = replayed(tmp_path, later, "--exact", "--exported", "all")
    assert (rows["a"]["diagnosed"], rows["a"]["diagnosedNotKnown"]) == ([], ["the chart as a whole is refused"])
    assert (rows["a"]["followed"], rows["a"]["followedNotKnown"]) == ([], ["the chart as a whole is refused"])
    assert told["diagnosisFollowedAfter"]["not known whether any followed"] == 1
    assert told["orderOrWorkFollowedAfter"]["not known whether any followed"] == 1


# A chart replayed: an order or work that followed the first card


# The infant's orders and work → what followed in days, whether only ordered, and what is not known.
WORK: dict[str, tuple[list[dict[str, Any]], list[tuple[int | None, bool]], list[str]]] = {
    "none": ([], [], []),
    "ordered": ([{"authoredOn": "2026-10-13"}], [(12, True)], []),
    "ordered that day": ([{"authoredOn": "2026-10-01T15:00:00Z"}], [(0, True)], []),
    "done": ([{"performedDateTime": "2026-10-20"}], [(19, False)], []),
    "ordered, then done": ([{"authoredOn": "2026-10-13"}, {"performedDateTime": "2026-10-20"}], [(12, True)], []),
    "in some month": ([{"performedDateTime": "2026-11"}], [(None, False)], []),
    "at a time unknown": ([{"performedDateTime": None}], [], ["eeg"]),
    "in the card's month, which began that day": ([{"performedDateTime": "2026-10"}], [(None, False)], []),
    "in the card's year": ([{"performedDateTime": "2026"}], [], ["eeg"]),
    "a time unknown, and later": ([{"performedDateTime": None}, {"authoredOn": "2026-10-13"}], [(12, True)], []),
    "long before": ([{"performedDateTime": "2026-06-01"}], [], []),
    "in error": ([{"performedDateTime": "2026-10-20", "status": "entered-in-error"}], [], []),
}  # fmt: skip


def chart_with_work(name: str, *works: dict[str, Any]) -> list[dict[str, Any]]:
    """As ``chart_of``, and these orders and recordings of an EEG."""
    found = chart_of(name)
    for place, said in enumerate(works):
        kind = {"resourceType": "ServiceRequest", "status": "active", "intent": "order"} if "authoredOn" in said else {
            "resourceType": "Procedure", "status": "completed"}  # fmt: skip
        elements = {key: value for key, value in said.items() if value is not None}
        found.append({**kind, "id": f"{name}-{place}", "subject": {"reference": f"Patient/{name}"},
                      "code": codeable("eeg"), **elements})  # fmt: skip
    return found


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    resources = [item for name, (works, _, _) in WORK.items() for item in chart_with_work(patient_named(name), *works)]
    return replayed(tmp_path_factory.mktemp("worked"), resources, "--exported", "all", "--exact")


@pytest.mark.parametrize("name", WORK)
def test_an_order_or_work_followed_when_it_is_of_the_first_cards_day_or_later(
    worked: tuple[Any, dict[str, Any]], name: str
) -> None:
    row = worked[1][patient_named(name)]
    followed = [(item["days"], item["ordered"]) for item in row["followed"] if item["workup"] == "eeg"]
    assert (followed, row["followedNotKnown"]) == WORK[name][1:]
    assert all(item["reference"].split("/")[1].startswith(patient_named(name)) for item in row["followed"])


def test_each_infant_is_counted_once_by_the_first_order_or_work(worked: tuple[Any, dict[str, Any]]) -> None:
    counted = {name: number for name, number in worked[0]["orderOrWorkFollowedAfter"].items() if number}
    assert counted == {"same day": 1, "8 to 30 days": 4, "followed, day not known": 2,
                       "not known whether any followed": 2, "nothing followed": 3}  # fmt: skip


def test_where_orders_may_be_missing_it_is_not_known_that_none_followed(tmp_path: Path) -> None:
    for place in ("types", "line"):
        (tmp_path / place).mkdir()
    exported = [word for kind in ("Condition", "Procedure", "ServiceRequest", "DiagnosticReport", "Encounter")
                for word in ("--exported", kind)]  # fmt: skip
    told, rows = replayed(tmp_path / "types", [*chart_of("a"), *chart_with_work("b", {"authoredOn": "2026-10-13"})],
                          "--exact", *exported)  # fmt: skip
    assert (rows["a"]["followed"], rows["a"]["followedNotKnown"]) == ([], ["imagingStudies"])
    assert [item["days"] for item in rows["b"]["followed"]] == [12]
    counted = told["orderOrWorkFollowedAfter"]
    assert (counted["not known whether any followed"], counted["nothing followed"], counted["8 to 30 days"]) == (
        1,
        0,
        1,
    )
    lost = '{"resourceType": "ServiceRequest", "id": "x", "subject": {"reference": "Patient/a"}, "id": "y"}\n'
    _, rows = replayed(tmp_path / "line", [*chart_of("a"), *chart_of("b")], "--exact", "--exported", "all", lines=lost)
    assert (rows["a"]["followedNotKnown"], rows["b"]["followedNotKnown"]) == (["serviceRequests"], [])


def test_conditions_without_an_id_are_not_taken_for_each_other(tmp_path: Path) -> None:
    conditions = [("epilepsy", {"recordedDate": "2026-10-13"}), ("tremor", {"recordedDate": "2026-09-01"})]
    nameless = [{key: value for key, value in item.items() if key != "id" or item["resourceType"] != "Condition"}
                for item in chart_of("a", *conditions)]  # fmt: skip
    _, rows = replayed(tmp_path, nameless, "--exported", "all")
    assert (rows["a"]["diagnosed"], rows["a"]["diagnosedNotKnown"]) == ([], ["epilepsy"])


def test_numbers_of_diagnoses_are_suppressed_and_rounded_as_others_are(tmp_path: Path) -> None:
    after = [f"2026-10-{2 + place % 28:02}" for place in range(48)]
    charts_ = [chart_of(f"p{place}", ("epilepsy", {"recordedDate": day})) for place, day in enumerate(after)]
    charts_ += [chart_of(f"q{place}", ("meningitis", {"recordedDate": "2026-10-13"})) for place in range(3)]
    told, _ = replayed(tmp_path, [item for chart in charts_ for item in chart], "--exported", "all")
    assert told["diagnosisFollowedAfter"]["1 to 7 days"] == 15 and told["diagnosisFollowedAfter"]["same day"] == 0
    assert told["byDisorder"] == {
        "epilepsy": {"followed": 50, "notKnown": 0, "days": {"firstQuartile": 5, "median": 10, "thirdQuartile": 20}},
        "meningitis": {"followed": "<11", "notKnown": 0, "days": dict.fromkeys(QUARTERS, "not told")},
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Numbers of infants from 1 to 10 are shown as &lt;11" in page and "not told" in page


QUARTERS = ("firstQuartile", "median", "thirdQuartile")


@pytest.mark.parametrize(("infants", "exact", "told"), [
    ({}, True, (None, None, None)), ({}, False, (None, None, None)), ({7: 1}, True, (7, 7, 7)),
    ({1: 1, 2: 1, 3: 1, 4: 1}, True, (1, 2, 3)), ({1: 3, 50: 1}, True, (1, 1, 1)), ({1: 2, 9: 3}, True, (1, 9, 9)),
    ({13: 44}, False, (15, 15, 15)), ({13: 43}, False, (15, 15, "not told")),
    ({13: 22}, False, ("not told", 15, "not told")), ({13: 21}, False, ("not told",) * 3),
])  # fmt: skip
def test_quartiles_are_days_of_an_infant_and_told_of_eleven_on_either_side(
    infants: dict[int, int], exact: bool, told: tuple[Any, ...]
) -> None:
    assert quartiles(infants, Disclosure(exact)) == dict(zip(QUARTERS, told, strict=True))


def test_the_page_of_a_replay_says_what_was_counted_and_what_it_does_not_mean(
    charts: tuple[Any, dict[str, Any]],
) -> None:
    page = replay_page(charts[0])
    for words in ("not known whether any followed", "cerebral palsy", "not judged", "Diagnosis that followed",
                  "Order or work that followed"):  # fmt: skip
        assert words in page, words
    assert "<script" not in page and "http" not in page.split("</style>")[1]
