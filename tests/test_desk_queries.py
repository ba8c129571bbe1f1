"""How many queries a page of the desk asks: as many over few decisions as over many, and never more than a handful."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_pages import cost, opened, paths
from desk_pages import audited
from flask import Flask
from infants import library
from seed_decisions import seed

from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web import in_force

FEW, MANY = 200, 600
MOST = 8  # of a page; analytics asks so many


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flask, Flask]]:
    audits = audited(tmp_path_factory.mktemp("audits"))
    made = [desk(tmp_path_factory.mktemp("queries"), number, audits) for number in (FEW, MANY)]
    yield made[0], made[1]
    for app in made:
        app.extensions["database"].close()


def desk(folder: Path, decisions: int, audits: Path) -> Flask:
    url = f"sqlite:///{folder}/desk.sqlite3"
    database = Database(url)
    upgrade(database)
    seed(database, decisions, library=library())
    database.close()
    return opened(url, library(), audits_dir=audits)


def test_no_page_asks_more_queries_over_more_decisions(
    apps: tuple[Flask, Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = apps
    monkeypatch.setattr(in_force, "LOOK_SECONDS", 3600.0)  # whether a rule was stopped meanwhile is no page's question
    asked = {
        path: (cost(few, path, rounds=1).queries, cost(many, other, rounds=1).queries)
        for path, other in zip(paths(few), paths(many), strict=True)
        if not path.startswith("/compare")  # of made-up infants
    }
    assert {path: numbers for path, numbers in asked.items() if numbers[0] != numbers[1]} == {}
    assert {path: number for path, (number, _) in asked.items() if number > MOST} == {}
    assert asked["/documents"][0] == 0 and asked["/decisions"][0] > 3 and asked["/analytics"][0] > 5  # they are counted
