"""The figures of the desk: they add up to the log, small ones stay hidden, drift is seen; and the home page."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from infants import library
from markupsafe import escape
from people import Person, desk_in_production
from seed_decisions import END, seed
from sqlalchemy import event, select

from cds_service.population.disclosure import SELDOM
from cds_service.rules.signoff import Signature
from cds_service.store.database import Database
from cds_service.store.schema import cards, daily_counts, decisions, feedback
from cds_service.store.stops import stop
from cds_service.web import in_force
from cds_service.web.desk.analytics.charts import Point, chart
from cds_service.web.desk.analytics.drift import weeks_of
from cds_service.web.desk.home_page import due_for_review
from cds_service.web.desk.roles import Role
from cds_service.web.desk.tables import FORMULA

NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)
SEEDED = 3000
LONG = "/analytics?weeks=26"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    made = desk_in_production(tmp_path_factory.mktemp("figures"), lambda: NOW)
    seed(made.extensions["database"], SEEDED, weeks=20, end=END)
    return made


@pytest.fixture
def analyst(app: Flask) -> Person:
    return Person(app, Role.ANALYST)


def rows(person: Person, table: str, more: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.get(f"{LONG}&table={table}&format=json{more}").get_json()[table]
    return found


def logged(app: Flask, table: Any, client: str = "") -> list[Any]:
    query = select(table) if not client else select(table).where(table.c.client_id == client)
    with app.extensions["database"].reading() as connection:
        return list(connection.execute(query))


@pytest.mark.parametrize("client", ["", "ehr-north"])
def test_figures_are_what_the_log_says(app: Flask, analyst: Person, client: str) -> None:
    more = f"&client={client}" if client else ""
    log, given = logged(app, decisions, client), logged(app, cards, client)
    fired, waited = Counter[str](), Counter[str]()
    for row in log:
        for rule, outcome in orjson.loads(row.outcomes).items():
            fired[rule] += outcome.removesuffix(" (silent)") == "recommended"
            waited[rule] += outcome.removesuffix(" (silent)") == "data-required"
    told = rows(analyst, "rules", more)
    assert {row["id"]: (row["fired"], row["waiting"]) for row in told} == {
        rule.id: (fired[rule.id], waited[rule.id]) for rule in library().rules
    }
    assert [row["fired"] for row in told] == sorted((row["fired"] for row in told), reverse=True)
    weeks = rows(analyst, "weeks", more)
    assert sum(week["views"] for week in weeks) == len(log)
    assert sum(week["fired"] for week in weeks) == len({(row.writer, row.seq) for row in given})
    families = {row["family"]: row for row in rows(analyst, "families", more)}
    assert {name: row["given"] for name, row in families.items()} == Counter(row.family for row in given)
    workups = Counter(item["id"] for row in given for item in orjson.loads(row.workups))
    assert sum(row["number"] for row in rows(analyst, "workups", more)) == workups.total()
    said = logged(app, feedback, client)
    answered = Counter(row.outcome for row in {row.card_uuid: row for row in said}.values())
    assert sum(row["accepted"] for row in families.values()) == answered["accepted"]
    assert sum(row["overridden"] for row in families.values()) == answered["overridden"]


def test_the_page_of_one_rule_shows_its_weeks(app: Flask, analyst: Person) -> None:
    rule = "clustered-awake-jerks"
    total = next(row["fired"] for row in rows(analyst, "rules") if row["id"] == rule)
    assert total > 0
    assert sum(week["fired"] for week in rows(analyst, "weeks", f"&rule={rule}")) == total
    page = analyst.get(f"{LONG}&rule={rule}").text
    assert "<svg" in page
    assert page.count('<circle class="point"') + page.count('<rect class="outside"') == len(rows(analyst, "weeks"))
    assert page.count('class="release"') == 2  # two rule sets began


def test_small_numbers_are_hidden_from_viewers_and_no_sum_gives_them_away(app: Flask) -> None:
    viewer, analyst = Person(app, Role.VIEWER), Person(app, Role.ANALYST)
    seen, exact = rows(viewer, "rules", "&client=clinic-hill"), rows(analyst, "rules", "&client=clinic-hill")
    assert any(0 < row["fired"] < 11 for row in exact)
    true = {row["id"]: row for row in exact}
    for row in seen:
        for key in ("fired", "given", "accepted", "overridden", "unanswered", "waiting"):
            number = true[row["id"]][key]
            assert row[key] == (number if number == 0 else "<11" if number < 11 else (number + 2) // 5 * 5)
        if 0 < true[row["id"]]["fired"] < 11:
            assert row["per100"] == "<11"
    page = viewer.get(f"{LONG}&client=clinic-hill").text
    assert "Numbers of infants from 1 to 10 are shown as &lt;11" in page
    assert "Exact numbers" in analyst.get(LONG).text


def test_what_only_few_wrote_is_shown_to_analysts_alone(tmp_path: Path) -> None:
    """A reason, a code or a unit is a text of somebody outside, and may name an infant."""
    app = desk_in_production(tmp_path, lambda: NOW)
    database: Database = app.extensions["database"]
    seed(database, 600, weeks=2, end=END)
    with database.writing() as connection:
        (first,) = connection.execute(select(feedback.c.id).limit(1)).one()
        connection.execute(feedback.update().values(outcome="overridden", reason_display="Seen before"))
        connection.execute(feedback.update().where(feedback.c.id == first).values(reason_display="Erika M. declines"))
        one = {"kind": "unread", "day": "2026-11-20", "month": "2026-11", "client_id": "ehr-north", "rule_set": "r",
               "count": 1}  # fmt: skip
        connection.execute(daily_counts.insert(), [
            {**one, "name": "unknown-unit", "detail": "Erika-M"},
            {**one, "name": "unknown-code", "detail": "urn:x|ERIKA"},
            {**one, "name": "unknown-unit", "detail": "usual", "count": 40},
        ])  # fmt: skip
    seen = {role: "".join(
        Person(app, role).get(path).text for path in
        ("/", LONG, f"{LONG}&table=reasons&format=csv", f"{LONG}&table=unread&format=json")
    ) for role in (Role.VIEWER, Role.ANALYST)}  # fmt: skip
    assert "Erika" not in seen[Role.VIEWER] and "ERIKA" not in seen[Role.VIEWER]
    assert "Seen before" in seen[Role.VIEWER] and "usual" in seen[Role.VIEWER] and SELDOM in seen[Role.VIEWER]
    for text in ("Erika M. declines", "Erika-M", "urn:x|ERIKA"):
        assert text in seen[Role.ANALYST]


def test_shares_times_and_limits_tell_viewers_no_more_than_the_rounded_numbers(app: Flask) -> None:
    """Else what two addresses show would differ by a single infant."""
    viewer, analyst = Person(app, Role.VIEWER), Person(app, Role.ANALYST)
    for more in ("", "&client=clinic-hill", "&client=clinic-lake"):
        (views,) = map(int, re.findall(r"<dt>Views</dt><dd>(\d+)</dd>", viewer.get(f"{LONG}{more}").text))
        true = {row["id"]: row for row in rows(analyst, "rules", more)}
        for row in rows(viewer, "rules", more):
            if isinstance(row["fired"], int):
                assert row["per100"] == round(100 * row["fired"] / views, 1)
            answers = true[row["id"]]["accepted"] + true[row["id"]]["overridden"]
            assert row["half"] == ("<11" if 0 < answers < 11 else true[row["id"]]["half"])
        for rule in ("", *list(true)[:2]):
            weeks = rows(viewer, "weeks", f"{more}&rule={rule}")
            hidden = any("<11" in (week["views"], week["fired"]) for week in weeks)
            for week in weeks:
                assert not hidden or (week["low"], week["high"], week["outside"]) == (None, None, None)
                if isinstance(week["fired"], int) and isinstance(week["views"], int):
                    assert week["per100"] == round(100 * week["fired"] / week["views"], 1)


def test_reasons_and_missing_data_stand_most_frequent_first(analyst: Person) -> None:
    for table, key in (("reasons", "number"), ("missing", "sum")):
        numbers = [row[key] for row in rows(analyst, table)]
        assert len(numbers) > 1
        assert numbers == sorted(numbers, reverse=True)
    kinds = {row["kind"] for row in rows(analyst, "unread")}
    assert {"code", "unit", "text without a code, looks like"} <= kinds


def test_every_table_has_its_twins_and_an_unknown_one_is_not_found(analyst: Person) -> None:
    for name in ("weeks", "rules", "reasons", "missing", "unread", "families", "workups", "waits"):
        told = list(csv.DictReader(io.StringIO(analyst.get(f"{LONG}&table={name}&format=csv").text)))
        assert len(told) == len(rows(analyst, name)) > 0
    assert analyst.get(f"{LONG}&table=none&format=csv").status_code == 404
    ordered = rows(analyst, "rules", "&sort=-overridden")
    assert [row["overridden"] for row in ordered] == sorted((row["overridden"] for row in ordered), reverse=True)
    page = analyst.get(f"{LONG}&table=rules&q=no-such-thing").text  # the filter of one table leaves the others alone
    assert page.count("Nothing here.") == 1
    assert analyst.get("/analytics?weeks=99999&client=%00&rule=../../etc").status_code == 200


def test_what_feedback_says_stays_inert(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, lambda: NOW)
    database: Database = app.extensions["database"]
    seed(database, 60, weeks=2, end=END)
    wicked = '=HYPERLINK("http://x")<script>alert(1)</script>'
    with database.writing() as connection:
        connection.execute(feedback.update().values(outcome="overridden", reason_display=wicked))
    analyst = Person(app, Role.ANALYST)
    page = analyst.get(LONG).text
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    told = list(csv.DictReader(io.StringIO(analyst.get(f"{LONG}&table=reasons&format=csv").text)))
    assert {row["reason"] for row in told} == {f"'{wicked}"}
    assert wicked[0] in FORMULA
    assert "<script" not in analyst.get("/").text


@pytest.fixture
def asked(app: Flask) -> Iterator[list[str]]:
    """The statements that the database was asked."""
    told: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            told.append(statement)

    engine = app.extensions["database"].engine
    event.listen(engine, "before_cursor_execute", note)
    yield told
    event.remove(engine, "before_cursor_execute", note)


def test_few_queries_make_a_page(
    app: Flask, analyst: Person, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 3600.0)  # whether a rule was stopped meanwhile is no page's question
    analyst.get("/analytics")
    some = len(asked)
    assert 5 <= some <= 12
    asked.clear()
    analyst.get(LONG)
    assert len(asked) <= some  # however long the time


# Drift


def test_a_week_beyond_its_limits_is_seen_and_one_within_is_not() -> None:
    weeks = {f"2026-0{n}-01": 1000 for n in range(1, 9)}
    fired = dict.fromkeys(weeks, 50)
    assert [week.outside for week in weeks_of(weeks, fired)] == [False] * 8
    fired["2026-08-01"] = 90
    found = weeks_of(weeks, fired)
    assert [week.outside for week in found] == [False] * 7 + [True]
    common = 440 / 8000
    spread = 3 * (common * (1 - common) / 1000) ** 0.5
    assert found[0].low == pytest.approx(common - spread)
    assert found[0].high == pytest.approx(common + spread)


def test_few_views_or_weeks_have_no_limits() -> None:
    assert weeks_of({"2026-01-05": 10_000, "2026-01-12": 10_000, "2026-01-19": 5}, {"2026-01-05": 9000})[0].low is None
    few = {f"2026-01-0{n}": 10 for n in range(1, 6)}
    assert not any(week.outside for week in weeks_of(few, {"2026-01-01": 10}))
    assert weeks_of({"2026-01-05": 0}, {}) == []


@pytest.mark.parametrize(
    ("most", "top"), [(0, "1 %"), (0.7, "1 %"), (1, "1 %"), (3.2, "4 %"), (17, "20 %"), (42, "50 %"), (99, "100 %")]
)
def test_ticks_of_a_chart_are_plain_numbers(most: float, top: str) -> None:
    drawn = chart([Point("a", 0), Point("b", most)], " %", {"b": "new", "c": "elsewhere"})
    assert drawn.ticks[-1][1] == top
    assert [words for _, words in drawn.markers] == ["new"]
    assert drawn.marks[0].y == drawn.ticks[0][0]
    assert drawn.ticks[-1][0] <= drawn.marks[1].y <= drawn.ticks[0][0]
    assert chart([], " %", {}).line == ""


# Home


def test_home_says_whether_all_is_well(app: Flask) -> None:
    nobody, viewer = Person(app).get("/").text, Person(app, Role.VIEWER).get("/").text
    assert "✓ Ready" in nobody
    assert "Views with a card" not in nobody  # no figure of use for those whom nobody knows
    assert "Views with a card" in viewer
    assert f"Have {len(library().rules)} draft rules reviewed" in nobody
    assert "Most overridden" in viewer
    assert "Three first steps" in nobody
    assert "Three first steps" not in viewer


def test_home_is_as_red_as_readyz(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, lambda: NOW)
    app.extensions["decision_log"].dropped = 1
    problems = app.test_client().get("/readyz").get_json()["problems"]
    page = Person(app).get("/").text
    assert "✗ Not ready" in page
    assert "decision log: 1 decisions were not written" in problems
    assert all(escape(problem) in page for problem in problems)


def test_home_names_a_rule_that_was_stopped_and_by_whom(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, lambda: NOW)
    stop(app.extensions["database"], "low-calcium-with-movement", "Anna Berg", "<b>wrong unit</b>", "2026-11-22T19:00Z")
    app.extensions["rules"].look()
    page = Person(app, Role.VIEWER).get("/").text
    assert "Stopped:" in page
    assert "Anna Berg" in page
    assert "&lt;b&gt;wrong unit&lt;/b&gt;" in page
    assert "Anna Berg" not in Person(app).get("/").text


def test_home_stands_without_its_database(tmp_path: Path) -> None:
    app = desk_in_production(tmp_path, lambda: NOW)
    viewer = Person(app, Role.VIEWER)
    with app.extensions["database"].writing() as connection:
        connection.exec_driver_sql("ALTER TABLE daily_counts RENAME TO away")
    answer = viewer.get("/")
    assert answer.status_code == 200
    assert "The database does not answer" in answer.text


def test_rules_signed_a_year_ago_are_due() -> None:
    def signed(*days: str) -> tuple[Signature, ...]:
        return tuple(Signature("A", "pediatrician", day, "1.0.0", "") for day in days)

    found = {"old": signed("2024-01-01", "2025-11-22"), "new": signed("2024-01-01", "2025-11-23")}
    assert due_for_review(library().speaking_as(found, frozenset()), NOW) == ["old"]
