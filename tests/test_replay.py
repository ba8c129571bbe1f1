"""Replay: logged decisions come out as they were logged, and what has changed since is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from infants import request as infant
from sqlalchemy import select, update
from test_store import KEY, OTHER_KEY, run
from wire import URL, post, sample

from cds_service.app import create_app
from cds_service.cli import main
from cds_service.errors import SettingsError
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
