"""The store on both databases: schema, the chain of decisions, retention, tokens, and what happens when it fails."""

from __future__ import annotations

import re
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from databases import PostgreSQL, running_postgresql
from msgspec.structs import replace
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import OperationalError, ProgrammingError

import cds_service.store.migrations
from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import SettingsError, StoreUnavailable
from cds_service.settings import Settings
from cds_service.store.append import Batch, ChainLost, append, batch_of, new_chain
from cds_service.store.chain import START, hash_of
from cds_service.store.database import Database
from cds_service.store.decision import CardShown, Decision
from cds_service.store.decisions import DecisionLog
from cds_service.store.feedback import FeedbackStore
from cds_service.store.prune import prune
from cds_service.store.schema import REVISIONS, cards, chains, decisions, feedback, kept_inputs, metadata
from cds_service.store.schema_version import require_schema, upgrade
from cds_service.store.sealed_inputs import InputKeys, Sealed, UnreadableInput
from cds_service.store.seen_tokens import SeenTokens
from cds_service.store.verify import verify

ROOT = Path(__file__).parents[1]
KEY = "A" * 43 + "="
OTHER_KEY = "B" * 42 + "A="
CARD = CardShown(
    uuid="c1", family="eeg", indicator="critical", rules=[{"id": "r", "version": "1"}],
    workups=[{"id": "w", "urgency": "critical"}], suggestions=["s1"], digest="d",
)  # fmt: skip
DECISION = Decision(
    decided_at="2026-11-20T10:00:00.000+00:00", request_id="q", client_id="", service="infant-motor-workup",
    hook_instance="h", as_of="2026-11-20T10:00:00Z", rule_set_version="1", rule_set_hash="x",
    outcomes={"r": "recommended"}, inputs={"patient": "answered"}, cards=[CARD], kept=b'{"secret":"CANARY"}',
)  # fmt: skip


def on(day: int, number: int = 0) -> Decision:
    return replace(DECISION, decided_at=f"2026-11-{day:02}T10:00:00.000+00:00", request_id=f"q{day}-{number}")


def write(database: Database, *taken: Decision, keys: InputKeys | None = None) -> Batch:
    batch = batch_of(taken, new_chain(), keys)
    append(database, batch)
    return batch


def count(database: Database, table: object) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]


def run(*arguments: str, url: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments, env={"CDS_DATABASE_URL": url, **environment})
    return done.exit_code, done.output


# Schema


def test_the_migrations_make_the_tables_that_the_software_uses(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_revisions_listed_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(cds_service.store.migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS


def test_an_empty_database_is_refused_with_the_cure_and_left_empty(url: str) -> None:
    database = Database(url)
    with pytest.raises(SettingsError, match=r"no tables of this service yet\. Run: cds-service db upgrade"):
        require_schema(database, may_upgrade=False)
    assert inspect(database.engine).get_table_names() == []
    database.close()


@pytest.mark.parametrize(("revision", "said"), [
    ("0000", r"the schema is 0000, this release needs 0003. Run: cds-service db upgrade"),
    ("9999", r"the schema \(9999\) is of a newer release; this one knows 0003"),
])  # fmt: skip
def test_an_older_and_a_newer_schema_are_refused_with_the_cure(
    database: Database, revision: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.store.schema_version.REVISIONS", ("0000", *REVISIONS))
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})
    with pytest.raises(SettingsError, match=said):
        require_schema(database, may_upgrade=False)
    if revision == "9999":
        with pytest.raises(SettingsError, match="newer"):
            require_schema(database, may_upgrade=True)
        with pytest.raises(SettingsError, match="nothing was changed"):
            upgrade(database)


def test_the_service_does_not_start_on_a_newer_schema(database: Database, url: str) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="newer release"):
        create_app(Settings(database_url=url))
    code, output = run("serve", "--quiet", url=url)
    assert (code, "newer release" in output) == (1, True)


def test_the_sandbox_makes_its_own_tables_in_sqlite_only(url: str) -> None:
    settings = Settings(database_url=url)
    if url.startswith("sqlite"):
        create_app(settings)
        assert run("db", "check", url=url) == (0, "the schema is current and the database can be written\n")
    else:
        with pytest.raises(SettingsError, match="db upgrade"):
            create_app(settings)


def test_many_upgrades_at_once_make_one_schema(url: str) -> None:
    def one(_: int) -> str:
        database = Database(url)
        try:
            return upgrade(database)
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one, range(4))) == {REVISIONS[-1]}


def test_an_upgrade_of_a_large_log_may_take_longer_than_a_call(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = text("SHOW statement_timeout")
    found: list[str] = []

    def told(config: Config, _: str) -> None:
        found.append(config.attributes["connection"].execute(asked).scalar())

    monkeypatch.setattr("alembic.command.upgrade", told)
    database = Database(postgresql.new_database())
    upgrade(database)
    with database.reading() as connection:
        found.append(str(connection.execute(asked).scalar()))
    database.close()
    assert found == ["0", "10s"]


def test_a_log_from_before_the_first_release_is_set_aside(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.sqlite3")
    old.execute("CREATE TABLE decisions (id INTEGER PRIMARY KEY, outcomes TEXT)")
    old.execute("INSERT INTO decisions (outcomes) VALUES ('{}')")
    old.commit()
    old.close()
    database = Database(f"sqlite:///{tmp_path}/old.sqlite3")
    upgrade(database)
    with database.reading() as connection:
        assert connection.execute(text("SELECT outcomes FROM decisions_before_0001")).scalar_one() == "{}"
    assert count(database, decisions) == 0
    database.close()


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/own.sqlite3")
    upgrade(database)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_a_commit_is_on_the_disk_before_it_returns(database: Database) -> None:
    asked = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}
    with database.writing() as connection:
        said = connection.execute(text(asked[connection.dialect.name])).scalar_one()
    assert said in (2, "on")


def test_a_server_that_acknowledges_early_is_told_not_to(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    first = Database(url)
    with first.writing() as connection:
        name = connection.engine.url.database
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = 'off'"))
    first.close()
    with Database(url).reading() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        engine = connection.engine
    engine.dispose()


# The chain


def test_decisions_are_chained_and_verified(database: Database) -> None:
    batch = write(database, on(1), on(2), keys=InputKeys(KEY))
    more = batch_of([on(3)], batch.end, None)
    append(database, more)
    with database.reading() as connection:
        rows = connection.execute(select(decisions).order_by(decisions.c.seq)).mappings().all()
    assert [row["seq"] for row in rows] == [1, 2, 3]
    assert [row["prev_hash"] for row in rows] == [START, rows[0]["hash"], rows[1]["hash"]]
    assert [hash_of(dict(row)) for row in rows] == [row["hash"] for row in rows]
    verdict = verify(database)
    assert (verdict.decisions, verdict.breaks) == (3, ())
    assert [tuple(head) for head in verdict.heads] == [tuple(more.end)]


def test_a_batch_is_written_once_however_often_it_is_tried(database: Database) -> None:
    batch = batch_of([on(1), on(2)], new_chain(), None)
    append(database, batch)
    append(database, batch)
    assert (count(database, decisions), count(database, cards), verify(database).breaks) == (2, 2, ())
    later = batch_of([on(3)], batch.end, None)
    append(database, later)
    append(database, later)
    assert (count(database, decisions), verify(database).breaks) == (3, ())


def test_a_chain_that_is_not_the_database_s_is_not_continued(database: Database) -> None:
    batch = batch_of([on(1)], new_chain()._replace(seq=4, hash="f" * 64), None)
    with pytest.raises(ChainLost):
        append(database, batch)
    written = write(database, on(1))
    append(database, batch_of([on(2)], written.end, None))
    with pytest.raises(ChainLost):
        append(database, batch_of([on(3)], written.end, None))
    assert count(database, decisions) == 2


def test_several_writers_write_at_once(database: Database, url: str) -> None:
    def one(number: int) -> None:
        own = Database(url)
        chain = new_chain()
        for step in range(5):
            batch = batch_of([on(1, number * 100 + step)], chain, None)
            append(own, batch)
            chain = batch.end
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    verdict = verify(database)
    assert (verdict.decisions, len(verdict.heads), verdict.breaks) == (20, 4, ())


def tampered(database: Database, *statements: object) -> list[str]:
    """What verify says after somebody with the right to write has written."""
    with database.writing() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
    return [f"{found.seq} {found.what}" for found in verify(database).breaks]


FIELDS = [name for name in decisions.c.keys() if name not in ("id", "writer", "seq", "cards_digest", "kept_digest")]  # noqa: SIM118


@pytest.mark.parametrize("field", FIELDS)
def test_a_changed_row_is_found_whatever_was_changed(tmp_path: Path, field: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/changed.sqlite3")
    upgrade(database)
    write(database, on(1), on(2), on(3))
    found = tampered(database, update(decisions).where(decisions.c.seq == 2).values({field: "0" * 19}))
    assert found[0] == "2 changed"
    database.close()


def test_removed_inserted_and_changed_rows_are_found(database: Database) -> None:
    batch = write(database, *(on(day) for day in range(1, 8)), keys=InputKeys(KEY))
    writer = batch.end.writer
    row = dict(batch.decisions[0])
    at = decisions.c.writer == writer

    def gone(*numbers: int) -> list[object]:
        return [delete(table).where(table.c.seq.in_(numbers)) for table in (kept_inputs, cards, decisions)]

    assert tampered(database, update(cards).where(cards.c.seq == 1).values(indicator="info")) == [
        "1 its cards were changed"
    ]
    assert tampered(database, delete(cards).where(cards.c.seq == 1)) == ["1 its cards were changed"]
    assert tampered(database, update(kept_inputs).where(kept_inputs.c.seq == 3).values(sealed=b"x"))[1:] == [
        "3 its kept input was changed"
    ]
    found = tampered(database, *gone(1, 4))
    assert ("1 removed" in found, "4 removed" in found) == (True, True)
    found = tampered(database, *gone(6, 7))
    assert "6 removed, up to 7, the end of its chain" in found
    found = tampered(database, insert(decisions).values(row | {"seq": 9}))
    assert "9 inserted: beyond the ends of its chain" in found
    found = tampered(database, insert(decisions).values(row | {"writer": "nobody"}))
    assert "1 inserted: no such chain" in found
    assert tampered(database, update(decisions).where(at, decisions.c.seq == 5).values(outcomes="{}"))


def test_a_row_rewritten_with_a_fitting_hash_breaks_the_chain_after_it(database: Database) -> None:
    batch = write(database, on(1), on(2), on(3))
    forged = dict(batch.decisions[1]) | {"outcomes": "{}"}
    change = update(decisions).where(decisions.c.seq == 2).values(outcomes="{}", hash=hash_of(forged))
    assert tampered(database, change) == ["3 changed"]


def test_a_chain_that_was_taken_away_is_missed_by_the_next_one(database: Database) -> None:
    first = write(database, on(1))
    write(database, on(2))
    writer = first.end.writer
    found = tampered(database, *(delete(table).where(table.c.writer == writer) for table in (cards, decisions, chains)))
    assert found == ["0 the whole chain was removed"]


def test_ends_noted_elsewhere_show_a_log_that_was_rewritten_whole(url: str, database: Database, tmp_path: Path) -> None:
    heads = str(tmp_path / "heads.json")
    first = write(database, on(1), on(2))
    assert run("db", "verify", "--heads", heads, url=url) == (0, "2 decisions in 1 chains, 0 breaks\n")
    append(database, batch_of([on(3)], first.end, None))
    assert run("db", "verify", "--heads", heads, url=url)[0] == 0
    with database.writing() as connection:
        for table in (cards, decisions, chains):
            connection.execute(delete(table))
    append(database, batch_of([on(4), on(5), on(6)], new_chain()._replace(writer=first.end.writer), None))
    assert verify(database).breaks == ()
    code, output = run("db", "verify", "--heads", heads, url=url)
    assert (code, "decision 3: rewritten since its hash was noted" in output) == (1, True)
    Path(heads).write_text("[{}]")
    assert "was not written by cds-service db verify --heads" in run("db", "verify", "--heads", heads, url=url)[1]


# Retention


def test_prune_removes_what_is_old_and_the_rest_can_be_verified(database: Database) -> None:
    keys = InputKeys(KEY)
    batch = write(database, *(on(day) for day in (1, 2, 3, 4)), keys=keys)
    other = write(database, on(1), on(2), keys=keys)
    gone = prune(database, "2026-11-03", "2026-11-04")
    assert gone == (4, 5, 0, 0)
    assert [count(database, table) for table in (decisions, cards, kept_inputs)] == [2, 2, 1]
    assert verify(database).breaks == ()
    append(database, batch_of([on(5)], batch.end, keys))
    append(database, batch_of([on(5)], other.end, keys))
    verdict = verify(database)
    assert (verdict.decisions, verdict.breaks) == (4, ())
    assert prune(database, "2026-11-03", "2026-11-04") == (0, 0, 0, 0)
    assert tampered(database, *(
        delete(table).where(table.c.writer == batch.end.writer, table.c.seq == 3)
        for table in (kept_inputs, cards, decisions)
    )) == ["3 removed"]  # fmt: skip


def test_prune_stops_at_the_first_young_decision_of_a_chain(database: Database) -> None:
    write(database, on(1), on(5), on(2))
    assert prune(database, "2026-11-03", "2026-11-03").decisions == 1
    assert verify(database).breaks == ()


def test_prune_by_command_removes_feedback_too(url: str, database: Database) -> None:
    row = {
        "identity": "i", "received_at": "2020-01-01T00:00:00.000+00:00", "client_id": "", "service": "s",
        "card_uuid": "c", "outcome": "accepted", "outcome_at": "2020", "suggestions": "[]", "comment_cut": False,
    }  # fmt: skip
    with database.writing() as connection:
        connection.execute(insert(feedback), [row, row | {"identity": "j", "received_at": "2999"}])
    write(database, replace(DECISION, decided_at="2020-01-01T00:00:00.000+00:00"), keys=InputKeys(KEY))
    code, output = run("db", "prune", "--keep-days", "30", url=url)
    removed = "removed 1 decisions, 1 kept inputs, 1 feedback, 0 expired token ids, 0 looks at the desk\n"
    assert (code, output) == (0, removed)
    assert (count(database, feedback), count(database, decisions)) == (1, 0)
    assert run("db", "verify", url=url) == (0, "0 decisions in 1 chains, 0 breaks\n")


# Inputs kept


def test_inputs_are_sealed_and_open_with_their_key_in_their_place_only(database: Database) -> None:
    batch = write(database, DECISION, keys=InputKeys(KEY))
    (row,) = batch.kept
    sealed = Sealed(row["key_id"], row["sealed"])
    assert b"CANARY" not in sealed.content
    place = f"{batch.end.writer}:1"
    assert InputKeys(KEY).open(sealed, place) == DECISION.kept
    assert InputKeys(f"{OTHER_KEY},{KEY}").open(sealed, place) == DECISION.kept
    with pytest.raises(UnreadableInput, match="a key that CDS_INPUTS_KEY does not hold"):
        InputKeys(OTHER_KEY).open(sealed, place)
    flipped = sealed.content[:-1] + bytes([sealed.content[-1] ^ 1])
    for other in (sealed._replace(content=flipped), sealed._replace(content=b"")):
        with pytest.raises(UnreadableInput, match="changed"):
            InputKeys(KEY).open(other, place)
    with pytest.raises(UnreadableInput, match="belong to another decision"):
        InputKeys(KEY).open(sealed, f"{batch.end.writer}:2")


@pytest.mark.parametrize("key", ["", "short", "A" * 44, "!" * 44, f"{KEY},"])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="a key is 32 bytes in base64") as refused:
        InputKeys(key)
    assert not key or key not in str(refused.value)


def test_without_a_key_nothing_is_kept(database: Database) -> None:
    batch = write(database, DECISION)
    assert (batch.kept, batch.decisions[0]["kept_digest"], count(database, kept_inputs)) == ([], "", 0)


# Tokens


def test_a_token_is_used_once_by_each_client(database: Database) -> None:
    seen = SeenTokens(database)
    assert not seen.known("a", "t")
    assert [seen.use("a", "t", 100), seen.use("a", "t", 100), seen.use("b", "t", 100)] == [True, False, True]
    assert seen.known("a", "t")
    assert (seen.forget_expired(100), seen.forget_expired(101), seen.known("a", "t")) == (0, 2, False)


def test_of_many_that_use_a_token_at_once_one_passes(database: Database) -> None:
    seen = SeenTokens(database)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: seen.use("a", "t", 1), range(32))) == 1


def test_a_token_that_cannot_be_noted_is_not_let_through(tmp_path: Path) -> None:
    seen = SeenTokens(Database(f"sqlite:///{tmp_path}/nowhere/x.sqlite3"))
    with pytest.raises(StoreUnavailable):
        seen.use("a", "t", 1)
    with pytest.raises(StoreUnavailable):
        seen.known("a", "t")


# Faults of the database, under the log


class Faulty:
    """A log on a database that can be spoiled and mended."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = DecisionLog(database, 100)

    def until(self, failing: bool) -> None:
        """Wait for the writer to meet the fault, or to be over it."""
        pause = threading.Event()
        for _ in range(600):
            if self.log.failing is failing and (failing or count(self.database, decisions)):
                return
            pause.wait(0.05)
        pytest.fail(f"the log never became {'failing' if failing else 'well'}")


def sqlite_file(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/fault.sqlite3")
    upgrade(database)
    return database


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, so that a fault is met soon."""
    monkeypatch.setattr("cds_service.store.database.PRAGMAS", (
        "busy_timeout=10", "synchronous=FULL", "foreign_keys=ON",
    ))  # fmt: skip
    monkeypatch.setattr("cds_service.store.decisions.RETRY", 0.05)
    monkeypatch.setattr("cds_service.store.decisions.LINGER", 0.01)


def test_while_the_database_is_locked_decisions_wait_and_are_written_after(tmp_path: Path, quick: None) -> None:
    database = sqlite_file(tmp_path)
    other = sqlite3.connect(tmp_path / "fault.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    faulty = Faulty(database)
    assert faulty.log.record(on(1))
    faulty.until(failing=True)
    assert faulty.log.record(on(2))
    other.execute("ROLLBACK")
    other.close()
    faulty.log.close()
    assert (faulty.log.dropped, count(database, decisions), verify(database).breaks) == (0, 2, ())
    database.close()


def test_a_lock_that_outlives_the_service_costs_what_was_waiting_and_it_is_counted(tmp_path: Path, quick: None) -> None:
    database = sqlite_file(tmp_path)
    other = sqlite3.connect(tmp_path / "fault.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    faulty = Faulty(database)
    lost: list[int] = []
    faulty.log.lost = lost.append
    for number in range(101):
        faulty.log.record(on(1, number))
    faulty.until(failing=True)
    faulty.log.close()
    other.execute("ROLLBACK")
    other.close()
    assert (faulty.log.dropped, sum(lost), count(database, decisions)) == (101, 101, 0)
    database.close()


def test_on_a_full_disk_decisions_wait_until_there_is_room(tmp_path: Path, quick: None) -> None:
    database = sqlite_file(tmp_path)
    with database.reading() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    limits = [f"max_page_count={pages}"]
    import cds_service.store.database as module

    plain = module.PRAGMAS
    database.close()
    try:
        module.PRAGMAS = (*plain, *limits)  # type: ignore[assignment]
        faulty = Faulty(database)
        faulty.log.record(replace(DECISION, outcomes={f"rule-{n}": "x" * 100 for n in range(2000)}))
        faulty.until(failing=True)
    finally:
        module.PRAGMAS = plain
        database.close()
    faulty.until(failing=False)
    faulty.log.close()
    assert (faulty.log.dropped, count(database, decisions), verify(database).breaks) == (0, 1, ())
    database.close()


def test_a_read_only_database_costs_decisions_and_says_so(tmp_path: Path, quick: None) -> None:
    database = sqlite_file(tmp_path)
    database.close()
    read_only = Database(f"sqlite:///file:{tmp_path}/fault.sqlite3?mode=ro&uri=true")
    with pytest.raises(OperationalError, match="readonly"), read_only.writing() as connection:
        connection.execute(delete(decisions))
    log = DecisionLog(read_only, 100)
    log.record(on(1))
    log.close()
    assert (log.dropped, log.failing, count(database, decisions)) == (1, True, 0)
    database.close()


def test_a_postgresql_that_is_killed_and_comes_back_has_every_decision(quick: None) -> None:
    with running_postgresql() as server:
        database = Database(server.new_database())
        upgrade(database)
        log = DecisionLog(database, 100)
        log.record(on(1))
        server.kill()
        log.record(on(2))
        pause = threading.Event()
        for _ in range(600):
            if log.failing:
                break
            pause.wait(0.05)
        assert log.failing
        server.start()
        log.record(on(3))
        log.close()
        assert (log.dropped, count(database, decisions), verify(database).breaks) == (0, 3, ())
        database.close()


def test_the_grants_of_the_page_let_the_service_write_and_change_nothing(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    owner = Database(url)
    upgrade(owner)
    (grants,) = re.findall(r"```sql\n(.+?)```", (ROOT / "docs/store.md").read_text(), re.DOTALL)
    with owner.writing() as connection:
        connection.execute(text("CREATE ROLE cds_service LOGIN"))
        connection.exec_driver_sql(grants)
    service = Database(url.replace("cds@", "cds_service@"))
    batch = write(service, on(1), keys=InputKeys(KEY))
    append(service, batch_of([on(2)], batch.end, None))
    tokens = SeenTokens(service)
    assert (tokens.use("a", "t", 1), tokens.forget_expired(2), verify(service).breaks) == (True, 1, ())
    statement = {"card_uuid": "c", "outcome": "accepted", "outcome_at": "2026", "suggestions": [], "comment_cut": False}
    assert FeedbackStore(service).keep([statement], "", "s", "2026").new == 1
    for change in (update(decisions).values(outcomes="{}"), delete(cards), update(feedback).values(outcome="x")):
        with pytest.raises(ProgrammingError, match="permission denied"), service.writing() as connection:
            connection.execute(change)
    service.close()
    owner.close()


def test_the_commands_of_the_page_run(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/store.md").read_text()
    commands = [line.split("#")[0].split()[1:] for line in page.splitlines() if line.startswith("cds-service ")]
    assert {tuple(command[:2]) for command in commands} >= {("db", "upgrade"), ("db", "prune"), ("replay", "--since")}
    for command in commands:
        assert run(*command, url=url, CDS_INPUTS_KEY=KEY)[0] == 0, command
