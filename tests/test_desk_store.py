"""What the audit desk asks of the store, on both databases: found, counted, stopped, noted; and the schema's step."""

from __future__ import annotations

import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from alembic import command
from alembic.config import Config
from infants import library
from msgspec.structs import replace
from seed_decisions import CLIENTS, NAME_KEY, Seeded, seed
from sqlalchemy import event, insert, select, text
from test_store import KEY, on, tampered, write
from wire import URL, sample

from cds_service.app import create_app
from cds_service.errors import SettingsError, StoreUnavailable
from cds_service.hooks.kept_request import read_kept
from cds_service.log_keys import NO_KEYS, log_keys
from cds_service.rules.library import SILENT
from cds_service.rules.rule import Outcome
from cds_service.settings import Profile, Settings
from cds_service.store import analytics, desk_log, stops
from cds_service.store.append import append, batch_of, new_chain
from cds_service.store.card_answers import answers
from cds_service.store.counts import NOT_COUNTED, rule_set_name, without_resource
from cds_service.store.database import Database
from cds_service.store.made_keys import keys_in, make_keys
from cds_service.store.one_decision import NO_KEY, NOT_KEPT, decision, decision_by_request
from cds_service.store.prune import prune
from cds_service.store.pseudonyms import key_of, pseudonym
from cds_service.store.schema import REVISIONS, cards, daily_counts, decisions, feedback, rule_outcomes
from cds_service.store.schema_version import upgrade
from cds_service.store.sealed_inputs import InputKeys
from cds_service.store.search import Filters, FoundDecision, count_found, search
from cds_service.store.seen_tokens import SeenTokens
from cds_service.store.verify import verify

SEEDED = 400
OFTEN = "newborn-jitteriness-reassurance"  # on an info card, which many override


class Log(NamedTuple):
    """A seeded database and what was made."""

    database: Database
    made: Seeded


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('desk')}/desk.sqlite3"
    else:
        url = request.getfixturevalue("postgresql").new_database()
    database = Database(url)
    upgrade(database)
    yield Log(database, seed(database, SEEDED, keys=InputKeys(KEY), kept=5, library=library()))
    database.close()


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def recount(database: Database) -> Counter[tuple[str, ...]]:
    """What the daily counts are by the decisions and cards themselves; missing and unread are kept nowhere else."""
    found: Counter[tuple[str, ...]] = Counter()
    places = {}
    for row in rows(database, decisions):
        place = row["decided_at"][:10], row["client_id"], rule_set_name(row["rule_set_version"], row["rule_set_hash"])
        places[row["writer"], row["seq"]] = place
        found["views", *place, "", "with-card" if orjson.loads(row["card_uuids"]) else "silent"] += 1
        for rule, outcome in orjson.loads(row["outcomes"]).items():
            if not outcome.startswith("not-applicable"):
                found["rule", *place, rule, outcome] += 1
        for key, state in orjson.loads(row["inputs"]).items():
            found["state", *place, key, state] += 1
    for card in rows(database, cards):
        place = places[card["writer"], card["seq"]]
        found["card", *place, card["family"], card["indicator"]] += 1
        for workup in orjson.loads(card["workups"]):
            found["workup", *place, workup["id"], workup["urgency"]] += 1
        for rule in orjson.loads(card["rules"]):
            found["shown", *place, rule["id"], card["indicator"]] += 1
    return found


def counted(database: Database) -> Counter[tuple[str, ...]]:
    """The daily counts that ``recount`` can find."""
    names = ("kind", "day", "client_id", "rule_set", "name", "detail")
    return Counter({
        tuple(row[name] for name in names): row["count"]
        for row in rows(database, daily_counts) if row["kind"] not in ("missing", "unread")
    })  # fmt: skip


# The schema's step


def at_revision(url: str, revision: str) -> Database:
    """A new database with the tables of an older release."""
    database, config = Database(url), Config()
    config.set_main_option("script_location", str(files("cds_service.store") / "migrations"))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return database


def test_an_upgrade_keeps_what_is_there_and_counts_it(url: str) -> None:
    database = at_revision(url, "0001")
    batch = batch_of([on(1), replace(on(2), cards=(), outcomes={"r": "not-applicable", "s": "excluded (silent)"})],
                     new_chain(), None)  # fmt: skip
    before = [{name: value for name, value in row.items() if name != "pseudonym"} for row in batch.decisions]
    writer = {"writer": batch.end.writer, "after": "", "started_at": "", "anchor_seq": 0, "anchor_hash": "0" * 64}
    with database.writing() as connection:
        connection.execute(insert(decisions), before)
        connection.execute(insert(cards), batch.cards)
        chain = text("INSERT INTO chains VALUES (:writer, :after, :started_at, :seq, :hash, :anchor_seq, :anchor_hash)")
        connection.execute(chain, writer | {"seq": 2, "hash": batch.end.hash})
    assert upgrade(database) == REVISIONS[-1]
    assert [{name: row[name] for name in before[0]} for row in rows(database, decisions)] == before
    assert (verify(database).decisions, verify(database).breaks) == (2, ())
    assert counted(database) == recount(database)
    assert counted(database).total() == 9
    assert [(row["rule"], row["outcome"], row["seq"]) for row in rows(database, rule_outcomes)] == [
        ("r", "recommended", 1), ("s", "excluded (silent)", 2)
    ]  # fmt: skip
    append(database, batch_of([on(3)], batch.end, None))
    assert (verify(database).decisions, verify(database).breaks) == (3, ())
    database.close()


def test_an_upgrade_changes_no_count_and_no_right_to_count(url: str) -> None:
    database = at_revision(url, "0002")
    days = ("2025-12-31", "2026-01-01", "2026-01-31")
    before = [
        {"kind": "rule", "day": day, "client_id": client, "rule_set": "r", "name": f"rule-{number}",
         "detail": "excluded", "count": 10**number + place}
        for place, day in enumerate(days) for client in ("", "a") for number in (1, 2)
    ]  # fmt: skip
    values = "VALUES (:kind, :day, :client_id, :rule_set, :name, :detail, :count)"
    names = "(kind, day, client_id, rule_set, name, detail, count)"
    grantees = text("SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE privilege_type = 'UPDATE'"
                    " AND table_name = 'daily_counts' AND grantee LIKE 'counts_%'")  # fmt: skip
    role = f"counts_{url.rpartition('/')[2]}"
    with database.writing() as connection:
        connection.execute(text(f"INSERT INTO daily_counts {names} {values}"), before)
        if url.startswith("postgresql"):
            connection.execute(text(f"CREATE ROLE {role}"))
            connection.execute(text(f"GRANT UPDATE ON daily_counts TO {role}"))
    upgrade(database)
    after = rows(database, daily_counts)
    assert {row["day"]: row.pop("month") for row in after} == {day: day[:7] for day in days}
    assert {tuple(sorted(row.items())) for row in after} == {tuple(sorted(row.items())) for row in before}
    assert len(after) == len(before) == 12
    with database.reading() as connection:
        if url.startswith("postgresql"):
            assert connection.execute(grantees).scalars().all() == [role]
    database.close()


@pytest.mark.parametrize(("since", "until", "of"), [
    ("", "", [0, 1, 2, 3, 4]), ("2025-12-31", "2026-02-01", [1, 2, 3]), ("2026-01-01", "2026-01-31", [2]),
    ("2026-01-31", "", [3, 4]), ("", "2026-01-01", [0, 1]), ("2026-01-31T10:00", "2026-02-01T09:00", [3]),
    ("2026-01-02", "2026-01-30", []), ("2026-02-01", "2026-01-01", []),
])  # fmt: skip
def test_sums_are_of_the_days_asked_for_across_months(
    database: Database, since: str, until: str, of: list[int]
) -> None:
    days = ("2025-11-30", "2025-12-31", "2026-01-01", "2026-01-31", "2026-02-01")
    one = {"kind": "rule", "client_id": "", "rule_set": "r", "name": "a", "detail": "excluded"}
    with database.writing() as connection:
        connection.execute(insert(daily_counts), [
            {**one, "day": day, "month": day[:7], "count": 10**place} for place, day in enumerate(days)
        ])  # fmt: skip
    sums = {("a", "excluded"): sum(10**place for place in of)} if of else {}
    assert analytics.totals(database, since, until).of("rule") == sums
    assert [count.day for count in analytics.daily(database, since, until, "rule")] == [days[place] for place in of]


def test_a_pseudonym_is_covered_by_the_hash(database: Database) -> None:
    write(database, replace(on(1), pseudonym="a" * 24), on(2))
    assert verify(database).breaks == ()
    changed = decisions.update().where(decisions.c.seq == 1)
    assert tampered(database, changed.values(pseudonym="b" * 24)) == ["1 changed"]
    assert tampered(database, changed.values(pseudonym="")) == ["1 changed"]


# Written with each batch


def test_counts_and_outcomes_are_those_of_the_decisions(log: Log) -> None:
    assert counted(log.database) == recount(log.database)
    spoken = {
        (row["writer"], row["seq"], row["decided_at"], rule, outcome)
        for row in rows(log.database, decisions) for rule, outcome in orjson.loads(row["outcomes"]).items()
        if not outcome.startswith("not-applicable")
    }  # fmt: skip
    found = rows(log.database, rule_outcomes)
    assert {tuple(row[name] for name in ("writer", "seq", "decided_at", "rule", "outcome")) for row in found} == spoken
    assert len(found) == len(spoken) > 50
    assert (verify(log.database).decisions, verify(log.database).breaks) == (SEEDED, ())


def test_what_is_not_counted_is_what_the_library_writes() -> None:
    assert {Outcome.NOT_APPLICABLE.value, Outcome.NOT_APPLICABLE.value + SILENT} == NOT_COUNTED


def test_a_batch_that_is_tried_again_is_counted_once(database: Database) -> None:
    batch = batch_of([on(1), on(1, 1)], new_chain(), None)
    append(database, batch)
    append(database, batch)
    assert counted(database) == recount(database)
    assert analytics.totals(database, "", "").views == 2
    append(database, batch_of([on(1, 2)], batch.end, None))
    assert analytics.totals(database, "", "").views == 3


def test_writers_who_add_to_the_same_counts_lose_nothing(database: Database, url: str) -> None:
    """Every batch touches every count, in the decisions' order one way and the other."""
    together = threading.Barrier(2)

    def one(backwards: bool) -> None:
        own, chain = Database(url), new_chain()
        together.wait()
        for _ in range(20):
            rules = [f"r{number}" for number in range(30)]
            outcomes = dict.fromkeys(reversed(rules) if backwards else rules, "recommended")
            batch = batch_of([replace(on(1), outcomes=outcomes)], chain, None)
            keys = [tuple(row.values())[:-1] for row in batch.counts]
            assert keys == sorted(keys)  # else they may wait for one another in a circle
            append(own, batch)
            chain = batch.end
        own.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, (False, True)))
    assert counted(database) == recount(database)
    assert analytics.totals(database, "", "").of("rule")["r7", "recommended"] == 40


def test_what_was_missing_and_not_understood_is_counted_without_the_patient_s_resource(database: Database) -> None:
    missing = {
        "r": ("conditions", "Observation/CANARY glucose: it has no number", "Observation/CANARY calcium: it has none"),
        "s": ("conditions", "Condition/CANARY: its clinicalStatus cannot be read", "Patient.birthDate"),
    }  # fmt: skip
    unread = [("unknown-unit", "mEq/L"), ("unreadable", "x" * 500)]
    write(database, replace(on(1), missing=missing, unread=unread), replace(on(1), unread=unread[:1]))
    found = analytics.totals(database, "", "")
    assert found.of("missing") == {
        ("conditions", "r"): 1, ("conditions", "s"): 1, ("glucose: it has no number", "r"): 1,
        ("calcium: it has none", "r"): 1, ("its clinicalStatus cannot be read", "s"): 1,
        ("Patient.birthDate", "s"): 1,
    }  # fmt: skip
    assert found.of("unread") == {("unknown-unit", "mEq/L"): 2, ("unreadable", "x" * 120): 1}


@pytest.mark.parametrize(("missing", "said"), [
    ("when the finding was first seen", "when the finding was first seen"),
    ("urn:uuid:1-2: it has no date", "it has no date"),
    ("Condition/1:2 what: it has no date", "what: it has no date"),
    ("https://ehr.example/fhir/Condition/1: it has no date", "it has no date"),
])  # fmt: skip
def test_a_reference_is_cut_off(missing: str, said: str) -> None:
    assert without_resource(missing) == said


def test_a_call_leaves_pseudonym_and_counts_and_no_patient(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/call.sqlite3"
    app = create_app(Settings(database_url=url, pseudonym_key=KEY, keep_inputs=False))
    body = sample("glucose-without-unit")
    patient = body["context"]["patientId"]
    entry = {
        "resourceType": "Condition", "id": "c9", "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [
            {"system": "urn:oid:1.2", "code": "LOCAL-9"}, {"system": "urn:oid:1.2", "code": "CANARY of Mrs Doe"},
        ]},
    }  # fmt: skip
    body["prefetch"]["conditions"] = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": entry}]}
    for observation in body["prefetch"]["observations"]["entry"]:
        quantity = observation["resource"].get("valueQuantity")
        if quantity is not None:
            quantity.update(unit="drops", code="drops", system="http://unitsofmeasure.org")
    assert app.test_client().post(URL, json=body).status_code == 200
    app.extensions["decision_log"].close()
    database = Database(url)
    (row,) = rows(database, decisions)
    assert row["pseudonym"] == pseudonym(key_of(KEY), "", patient)
    found = analytics.totals(database, "", "")
    assert found.of("unread")["unknown-code", "urn:oid:1.2|LOCAL-9"] == 1
    assert found.of("unread")["unknown-unit", "drops"] == 1
    assert any(what.startswith("glucose: ") for what, _ in found.of("missing"))
    assert counted(database) == recount(database)
    database.close()
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert (b"CANARY" in on_disk, patient.encode() in on_disk) == (False, False)


def test_pruning_takes_the_outcomes_and_leaves_the_counts(database: Database) -> None:
    write(database, on(1), on(2), on(5))
    before = counted(database)
    desk_log.note(database, at="2026-11-01T", who="a", role="viewer", method="GET", route="/", subject="", status=200)
    desk_log.note(database, at="2026-11-05T", who="b", role="viewer", method="GET", route="/", subject="", status=200)
    assert prune(database, "2026-11-03", "2026-11-03") == (2, 0, 0, 0)
    assert [row["seq"] for row in rows(database, rule_outcomes)] == [3]
    assert counted(database) == before
    assert prune(database, "2026-11-03", "2026-11-03", "2026-11-03") == (0, 0, 0, 1)
    assert [entry.who for entry in desk_log.entries(database)] == ["b"]
    assert verify(database).breaks == ()


# Found


def brute(log: Log, passes: Callable[[FoundDecision], bool]) -> list[int]:
    everything = search(log.database, Filters(), SEEDED + 1)
    assert len(everything) == SEEDED
    return [found.id for found in everything if passes(found)]


FOUND: dict[str, tuple[Filters, Callable[[FoundDecision], bool]]] = {
    "time": (Filters(since="2026-08-01", until="2026-09-01"), lambda d: d.decided_at[:7] == "2026-08"),
    "client": (Filters(client="ehr-south"), lambda d: d.client_id == "ehr-south"),
    "no client": (Filters(client=""), lambda d: False),
    "outcome": (Filters(outcome="satisfied"), lambda d: "satisfied" in d.outcomes.values()),
    "rule": (Filters(rule="clustered-awake-jerks"), lambda d: "clustered-awake-jerks" in d.outcomes),
    "rule and outcome": (
        Filters(rule="clustered-awake-jerks", outcome="data-required"),
        lambda d: d.outcomes.get("clustered-awake-jerks") == "data-required",
    ),
    "rule and client": (
        Filters(rule="clustered-awake-jerks", client="ehr-north"),
        lambda d: "clustered-awake-jerks" in d.outcomes and d.client_id == "ehr-north",
    ),
    "indicator": (Filters(indicator="critical"), lambda d: any(c.indicator == "critical" for c in d.cards)),
    "indicator of a client": (
        Filters(indicator="warning", client="ehr-south", since="2026-08-01"),
        lambda d: (d.client_id, d.decided_at > "2026-08") == ("ehr-south", True)
        and "warning" in [c.indicator for c in d.cards],
    ),
    "family": (Filters(family="eeg"), lambda d: any(c.family == "eeg" for c in d.cards)),
    "workup": (Filters(workup="eeg"), lambda d: any("eeg" in c.workups for c in d.cards)),
    "accepted": (Filters(feedback="accepted"), lambda d: any(c.answer == "accepted" for c in d.cards)),
    "overridden of a rule": (
        Filters(rule=OFTEN, feedback="overridden"),
        lambda d: any(c.answer == "overridden" and OFTEN in c.rules for c in d.cards),
    ),
    "answered": (Filters(feedback="any"), lambda d: any(c.answer for c in d.cards)),
    "not answered": (Filters(feedback="none"), lambda d: any(not c.answer for c in d.cards)),
    "another's family": (
        Filters(family="eeg", indicator="info"),
        lambda d: any(c.family == "eeg" and c.indicator == "info" for c in d.cards),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found_and_counted_is_what_passes(log: Log, name: str) -> None:
    filters, passes = FOUND[name]
    wanted = brute(log, passes)
    assert [found.id for found in search(log.database, filters, SEEDED)] == wanted
    assert count_found(log.database, filters) == len(wanted)
    assert name in ("no client", "rule and outcome", "another's family") or 0 < len(wanted) < SEEDED


def test_one_request_and_one_infant_are_found(log: Log) -> None:
    one = search(log.database, Filters(), 1)[0]
    assert [found.id for found in search(log.database, Filters(request_id=one.request_id))] == [one.id]
    mine = search(log.database, Filters(pseudonym=one.pseudonym), SEEDED)
    assert [found.id for found in mine] == brute(log, lambda found: found.pseudonym == one.pseudonym)
    assert search(log.database, Filters(pseudonym=one.pseudonym, client="nobody")) == []
    assert search(log.database, Filters(request_id=one.request_id, outcome="internal-error")) == []


@pytest.mark.parametrize("filters", [Filters(), Filters(indicator="critical"), Filters(outcome="recommended"),
                                     Filters(rule="clustered-awake-jerks")])  # fmt: skip
def test_pages_follow_one_another_without_gap(log: Log, filters: Filters) -> None:
    everything = [found.id for found in search(log.database, filters, SEEDED)]
    turned: list[int] = []
    before = ""
    while page := search(log.database, filters, 7, before):
        turned += [found.id for found in page]
        before = page[-1].cursor
    assert turned == everything
    assert count_found(log.database, filters, 5) == 5


def test_what_is_asked_of_a_rule_s_cards_is_not_found_on_another_s(database: Database) -> None:
    (card,) = on(1).cards
    other = replace(card, uuid="c2", indicator="info", rules=[{"id": "s", "version": "1"}])
    write(database, replace(on(1), outcomes={"r": "recommended", "s": "satisfied"}, cards=[card, other]))
    write(database, replace(on(1, 1), outcomes={"s": "recommended"}, cards=[]))
    for rule, indicator, number in (("r", "critical", 1), ("r", "info", 0), ("s", "info", 1), ("s", "critical", 0)):
        assert count_found(database, Filters(rule=rule, indicator=indicator)) == number
    assert [one.number for one in analytics.daily(database, "", "", "rule", None, "s", "satisfied")] == [1]
    assert [one.number for one in analytics.daily(database, "", "", "rule", None, "s")] == [1, 1]


def test_decisions_of_one_moment_are_turned_over_once(database: Database) -> None:
    write(database, *(on(1, number) for number in range(5)))
    write(database, *(on(1, number) for number in range(5, 9)))
    seen: list[str] = []
    before = "no~cursor"
    while page := search(database, Filters(), 2, before):
        seen += [found.request_id for found in page]
        before = page[-1].cursor
    assert sorted(seen) == sorted(f"q1-{number}" for number in range(9))


@pytest.mark.parametrize("cursor", [f"2026-11-20~w~{'9' * 19}", f"2026-11-20~w~{'9' * 70}", "2026\0-11-20~w~9"])
def test_a_cursor_that_no_column_holds_is_as_none(database: Database, cursor: str) -> None:
    write(database, on(1, 1))
    assert len(search(database, Filters(), 2, cursor)) == 1


def test_a_found_decision_says_what_stands_in_it(log: Log) -> None:
    found = next(one for one in search(log.database, Filters(feedback="accepted")) if len(one.outcomes) > 1)
    stored = decision(log.database, found.id, None)
    assert stored is not None
    assert found.outcomes == {rule: out for rule, out in stored.outcomes.items() if out not in NOT_COUNTED}
    for shown, given in zip(found.cards, stored.cards, strict=True):
        assert (shown.uuid, shown.family, shown.indicator) == (given.uuid, given.family, given.indicator)
        assert shown.rules == tuple(rule["id"] for rule in given.rules)
        assert shown.workups == tuple(workup["id"] for workup in given.workups)
        assert shown.answer == (given.feedback[-1].outcome if given.feedback else "")


# One decision


def test_one_decision_is_told_with_cards_feedback_and_input(log: Log) -> None:
    newest = search(log.database, Filters(), 1)[0]
    stored = decision(log.database, newest.id, InputKeys(KEY))
    assert stored is not None
    assert stored.kept is not None
    assert (stored.request_id, stored.why_not, stored.pseudonym) == (newest.request_id, "", newest.pseudonym)
    assert (bool(read_kept(stored.kept)[0].prefetch), len(stored.outcomes)) == (True, len(library().rules))
    assert stored.inputs["patient"] == "answered"
    assert decision_by_request(log.database, newest.request_id, InputKeys(KEY)) == stored


def test_why_an_input_cannot_be_opened(log: Log) -> None:
    everything = search(log.database, Filters(), SEEDED)
    newest, oldest = everything[0].id, everything[-1].id
    told = [decision(log.database, id, keys) for id, keys in (
        (newest, None), (newest, InputKeys("B" * 42 + "A=")), (oldest, InputKeys(KEY)),
    )]  # fmt: skip
    assert [one.kept for one in told if one is not None] == [None, None, None]
    assert [one.why_not for one in told if one is not None] == [
        NO_KEY, "it was sealed with a key that CDS_INPUTS_KEY does not hold", NOT_KEPT
    ]  # fmt: skip
    assert decision(log.database, 10**9, None) is None
    assert decision_by_request(log.database, "nobody's", None) is None


def test_another_client_s_feedback_is_not_the_card_s(database: Database) -> None:
    write(database, replace(on(1), client_id="a"))
    said = {
        "received_at": "2026-11-01", "service": "s", "card_uuid": "c1",
        "outcome_at": "2026-11-01T10:01:00.000000+00:00", "suggestions": '["s1"]', "comment": "why",
        "comment_cut": False,
    }  # fmt: skip
    with database.writing() as connection:
        connection.execute(insert(feedback), [
            said | {"identity": "1", "client_id": "a", "outcome": "accepted"},
            said | {"identity": "2", "client_id": "b", "outcome": "overridden"},
        ])  # fmt: skip
    stored = decision(database, 1, None)
    assert stored is not None
    assert [(one.outcome, one.suggestions, one.comment) for one in stored.cards[0].feedback] == [
        ("accepted", ["s1"], "why")
    ]
    assert search(database, Filters(feedback="overridden")) == []
    assert answers(database, "", "").all[:3] == (1, 1, 0)


# Numbers over time


def test_totals_are_the_sums_of_the_days(log: Log) -> None:
    found = analytics.totals(log.database, "", "")
    assert (found.views, sum(found.of("card").values())) == (SEEDED, log.made.cards)
    assert found.views_with_card == sum(bool(one.cards) for one in search(log.database, Filters(), SEEDED))
    parts = [analytics.totals(log.database, "2026-08-01", "2026-09-01", client).views for client in CLIENTS]
    assert sum(parts) == count_found(log.database, Filters(since="2026-08-01", until="2026-09-01")) > 0
    assert sum(one.number for one in analytics.daily(log.database, "", "", "views")) == SEEDED
    days = analytics.daily(
        log.database, "2026-08-01", "2026-09-01", "rule", None, "clustered-awake-jerks", "recommended"
    )
    wanted = Filters("2026-08-01", "2026-09-01", "clustered-awake-jerks", "recommended")
    assert sum(one.number for one in days) == count_found(log.database, wanted) > 0
    assert [one.day for one in days] == sorted({one.decided_at[:10] for one in search(log.database, wanted, SEEDED)})
    assert set(analytics.totals(log.database, "", "", kinds=["card"]).sums) == {"card"}


def test_clients_and_releases_have_their_numbers(log: Log) -> None:
    of_clients = analytics.by_client(log.database, "", "", ["views"])
    for client in CLIENTS:
        number = sum(one.number for one in of_clients if one.client_id == client)
        assert number == count_found(log.database, Filters(client=client))
    first, second = analytics.releases(log.database, "", "")
    assert first.rule_set == "0.0.9 000000000000"
    everything = search(log.database, Filters(), SEEDED)
    assert (first.first_day, second.last_day) == (everything[-1].decided_at[:10], everything[0].decided_at[:10])
    assert second.rule_set == rule_set_name(library().reading.pack_version, library().hash)
    assert (first.views + second.views, first.last_day <= second.first_day) == (SEEDED, True)
    assert analytics.releases(log.database, second.first_day, "", "nobody") == []


def test_a_week_begins_on_monday() -> None:
    assert [analytics.week_of(day) for day in ("2026-11-22", "2026-11-23", "2026-11-29")] == [
        "2026-11-16", "2026-11-23", "2026-11-23",
    ]  # fmt: skip


def test_answers_are_those_of_the_cards(log: Log) -> None:
    found = answers(log.database, "", "")
    given = [card for one in search(log.database, Filters(), SEEDED) for card in one.cards]
    by_answer = Counter(card.answer for card in given)
    assert found.all[:3] == (log.made.cards, by_answer["accepted"], by_answer["overridden"])
    assert found.all.unanswered == by_answer[""] > 0
    rules = Counter((rule, card.answer) for card in given for rule in card.rules)
    for rule, told in found.rules.items():
        assert (told.accepted, told.overridden, told.unanswered) == tuple(
            rules[rule, answer] for answer in ("accepted", "overridden", "")
        )
    assert set(found.rules) == {rule for rule, _ in rules}
    assert sum(one.given for one in found.families.values()) == log.made.cards
    overridden = sum(number for (rule, answer), number in rules.items() if answer == "overridden")
    assert sum(found.reasons.values()) == overridden
    assert sum(found.waits.values()) == log.made.feedback
    assert answers(log.database, "", "", "nobody").all == (0, 0, 0, None)
    august = answers(log.database, "2026-08-01", "2026-09-01")
    assert august.all.given == sum(
        len(one.cards) for one in search(log.database, Filters("2026-08-01", "2026-09-01"), SEEDED)
    )


def test_the_last_word_on_a_card_counts_and_a_card_sent_again_is_one(database: Database) -> None:
    write(database, on(1), on(1, 1))
    said = {
        "received_at": "2026-11-01", "client_id": "", "service": "s", "card_uuid": "c1", "suggestions": "[]",
        "comment_cut": False,
    }  # fmt: skip
    statements = [
        said | {"identity": "1", "outcome": "accepted", "outcome_at": "2026-11-01T10:10:00.000000+00:00",
                "reason_code": None, "reason_display": None},
        said | {"identity": "2", "outcome": "overridden", "outcome_at": "2026-11-01T10:04:00.000000+00:00",
                "reason_code": "c", "reason_display": "because"},
    ]  # fmt: skip
    with database.writing() as connection:
        connection.execute(insert(feedback), statements)
    found = answers(database, "", "")
    assert (found.all, found.reasons) == ((1, 1, 0, 600.0), {})
    assert [label for label, number in found.waits.items() if number] == ["5 to 30 minutes"]
    later = statements[1] | {"identity": "3", "outcome_at": "2026-11-01T11:00:00.000000+00:00"}
    with database.writing() as connection:
        connection.execute(insert(feedback), [later])
    found = answers(database, "", "")
    assert (found.all, found.reasons) == ((1, 0, 1, 3600.0), {("because", "r"): 1})


@pytest.mark.parametrize("said_at", ["2026-10-31T10:00:00.000000+00:00", "not a time"])
def test_an_answer_whose_time_cannot_be_true_counts_without_a_wait(database: Database, said_at: str) -> None:
    write(database, on(1))
    with database.writing() as connection:
        connection.execute(insert(feedback).values(
            identity="1", received_at="2026-11-01", client_id="", service="s", card_uuid="c1", suggestions="[]",
            comment_cut=False, outcome="accepted", outcome_at=said_at,
        ))  # fmt: skip
    found = answers(database, "", "")
    assert (found.all, sum(found.waits.values())) == ((1, 1, 0, None), 0)


def test_a_card_sent_again_counts_as_it_was_last_sent_and_for_its_own_client(database: Database) -> None:
    (card,) = on(1).cards
    other = replace(card, rules=[{"id": "s", "version": "1"}])
    write(database, on(1), replace(on(1, 1), cards=[other]), replace(on(1, 2), client_id="b"))
    found = answers(database, "", "")
    assert {rule: said.given for rule, said in found.rules.items()} == {"r": 1, "s": 1}
    assert (found.all.given, answers(database, "", "", "b").rules.keys()) == (2, {"r"})


# How many queries, and what when there is no database


CALLS: dict[str, tuple[int, Callable[[Database], object]]] = {
    "search": (3, lambda d: search(d, Filters(rule="clustered-awake-jerks", client="ehr-north", feedback="any"))),
    "count_found": (1, lambda d: count_found(d, Filters(outcome="recommended"))),
    "decision": (3, lambda d: decision(d, 1, None)),
    "totals": (1, lambda d: analytics.totals(d, "", "")),
    "daily": (1, lambda d: analytics.daily(d, "", "", "rule")),
    "by_client": (1, lambda d: analytics.by_client(d, "", "")),
    "releases": (1, lambda d: analytics.releases(d, "", "")),
    "answers": (2, lambda d: answers(d, "", "")),
    "stopped": (1, stops.stopped),
    "history": (1, stops.history),
    "entries": (1, desk_log.entries),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_makes_so_many_queries(log: Log, name: str) -> None:
    number, call = CALLS[name]
    asked: list[str] = []

    def note(*given: Any) -> None:
        if given[2].lstrip().startswith(("SELECT", "WITH")):
            asked.append(given[2])

    event.listen(log.database.engine, "before_cursor_execute", note)
    try:
        call(log.database)
    finally:
        event.remove(log.database.engine, "before_cursor_execute", note)
    assert len(asked) == number


@pytest.mark.parametrize("name", CALLS)
def test_without_a_database_a_call_says_that_the_store_is_away(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreUnavailable):
        CALLS[name][1](Database(f"sqlite:///{tmp_path}/nowhere/x.sqlite3"))


# Stops and looks


def test_a_rule_is_stopped_once_and_lifted_once(database: Database) -> None:
    assert stops.stop(database, "r", "ann", "wrong threshold", "2026-11-01T10")
    assert not stops.stop(database, "r", "ben", "me too", "2026-11-01T11")
    assert stops.stop(database, "s", "ben", "other", "2026-11-01T12")
    assert {rule: row.stopped_by for rule, row in stops.stopped(database).items()} == {"r": "ann", "s": "ben"}
    assert stops.lift(database, "r", "cat", "mended", "2026-11-02")
    assert not stops.lift(database, "r", "cat", "again", "2026-11-03")
    assert set(stops.stopped(database)) == {"s"}
    assert stops.stop(database, "r", "ann", "still wrong", "2026-11-04")
    told = [row[1:] for row in stops.history(database, "r")]
    assert told == [
        ("r", "2026-11-04", "ann", "still wrong", "", "", ""),
        ("r", "2026-11-01T10", "ann", "wrong threshold", "2026-11-02", "cat", "mended"),
    ]
    assert [row.rule for row in stops.history(database)] == ["r", "s", "r"]


def test_of_many_who_stop_a_rule_at_once_one_does(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda who: stops.stop(database, "r", who, "x", "2026"), "abcd"))
    assert (sum(done), len(stops.history(database))) == (1, 1)


def test_a_stop_or_a_look_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path}/nowhere/x.sqlite3")
    for call in (stops.stop, stops.lift):
        with pytest.raises(StoreUnavailable):
            call(nowhere, "r", "ann", "x", "2026")
    with pytest.raises(StoreUnavailable):
        desk_log.note(nowhere, at="", who="", role="", method="", route="", subject="", status=200)


def test_looks_are_noted_and_found(database: Database) -> None:
    for day, who in ((1, "ann"), (2, "ben"), (3, "ann")):
        desk_log.note(
            database, at=f"2026-11-0{day}T10", who=who, role="analyst", method="GET", route="/decisions",
            subject=f"p{day}" + "x" * 300 + "\0", status=200,
        )  # fmt: skip
    found = desk_log.entries(database)
    assert [(entry.who, entry.at[:10], len(entry.subject)) for entry in found] == [
        ("ann", "2026-11-03", 200), ("ben", "2026-11-02", 200), ("ann", "2026-11-01", 200),
    ]  # fmt: skip
    assert [entry.who for entry in desk_log.entries(database, since="2026-11-02", until="2026-11-03")] == ["ben"]
    assert desk_log.entries(database, subject=found[1].subject) == [found[1]]
    assert desk_log.entries(database, limit=1) == found[:1]


# Pseudonyms and keys


def test_a_pseudonym_is_the_same_for_the_same_infant_of_a_client_only() -> None:
    one = pseudonym(NAME_KEY, "a", "p1")
    assert (len(one), set(one) <= set("0123456789abcdef"), "p1" in one) == (24, True, False)
    assert pseudonym(NAME_KEY, "a", "p1") == one
    others = [(NAME_KEY, "b", "p1"), (NAME_KEY, "a", "p2"), (bytes([1]) * 32, "a", "p1"), (NAME_KEY, "", "ap1")]
    assert len({one, *(pseudonym(*other) for other in others)}) == 5


@pytest.mark.parametrize("key", ["", "short", "A" * 44, "!" * 44])
def test_a_pseudonym_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="CDS_PSEUDONYM_KEY: a key is 32 bytes") as refused:
        key_of(key)
    assert not key or key not in str(refused.value)


def test_of_many_workers_that_start_at_once_all_have_the_same_keys(tmp_path: Path) -> None:
    file, together = tmp_path / "x.sqlite3.keys", threading.Barrier(8)

    def one(_: int) -> object:
        together.wait()
        return make_keys(file)

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(one, range(8)))
    assert (len(made), made) == (1, {keys_in(file)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_with_other_things_in_it_is_refused_and_left(tmp_path: Path) -> None:
    file = tmp_path / "x.keys"
    file.write_text("CDS_INPUTS_KEY=secret\n")
    with pytest.raises(SettingsError, match="does not hold the sandbox's two keys") as refused:
        make_keys(file)
    assert ("secret" in str(refused.value), file.read_text()) == (False, "CDS_INPUTS_KEY=secret\n")


def test_the_sandbox_makes_its_keys_and_production_does_not(tmp_path: Path) -> None:
    sandbox = Settings(database_url=f"sqlite:///{tmp_path}/x.sqlite3")
    assert log_keys(sandbox, may_make=False) == NO_KEYS
    keys = log_keys(sandbox)
    assert (keys.keeps_inputs, keys.inputs is not None, len(keys.pseudonym or b"")) == (True, True, 32)
    assert log_keys(sandbox).pseudonym == keys.pseudonym
    assert log_keys(sandbox.model_copy(update={"keep_inputs": False})).keeps_inputs is False
    own = log_keys(sandbox.model_copy(update={"pseudonym_key": KEY}))
    assert own.pseudonym == key_of(KEY) != keys.pseudonym
    production = sandbox.model_copy(update={"profile": Profile.PRODUCTION})
    assert log_keys(production) == NO_KEYS
    given = log_keys(production.model_copy(update={"inputs_key": KEY, "pseudonym_key": KEY}))
    assert (given.keeps_inputs, given.inputs is not None, given.pseudonym) == (False, True, key_of(KEY))
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:////nowhere/at/all/x", "postgresql://cds.example/cds"):
        assert log_keys(Settings(database_url=url)) == NO_KEYS
    assert KEY not in repr(production.model_copy(update={"pseudonym_key": KEY}))


def test_the_sandbox_keeps_inputs_that_the_desk_can_open(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/x.sqlite3")
    app = create_app(settings, now=lambda: datetime(2026, 11, 20, tzinfo=UTC))
    assert app.test_client().post(URL, json=sample("low-glucose-mg")).status_code == 200
    app.extensions["decision_log"].close()
    stored = decision(app.extensions["database"], 1, log_keys(settings, may_make=False).inputs)
    assert stored is not None
    assert stored.kept is not None
    assert (len(stored.pseudonym), bool(read_kept(stored.kept)[0].prefetch)) == (24, True)
    app.extensions["database"].close()


@pytest.mark.parametrize("address", ["postgresql+psycopg://u:p@127.0.0.1:1/none", "sqlite:///{folder}"])
def test_a_token_that_cannot_be_noted_is_told_by_whichever_database_is_away(tmp_path: Path, address: str) -> None:
    away = SeenTokens(Database(address.replace("{folder}", str(tmp_path))))
    with pytest.raises(StoreUnavailable):
        away.use("main", "j1", 2_000_000_000)
