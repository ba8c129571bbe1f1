"""Every page of the desk by its route, with values to look at it, for tests and benches that visit them all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from infants import library
from packs import CARDS, spoil

from cds_service.cli import main
from cds_service.population.effect import SEED
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population

ROWS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "desk_routes.yaml").read_text(encoding="utf-8"))
ROUTES = {row.split(" ")[1]: about for row, about in ROWS.items() if row.startswith("GET ")}
ELSEWHERE = {  # they lead elsewhere, or are no page of ours
    "/login", "/login/callback", "/decisions/request/<request_id>", "/audits/<run>/report",
    "/audits/<run>/summary.json", "/audits/<run>/measure-reports",
}  # fmt: skip
OF_LOGIN = {"/logged-out"}  # not in a sandbox without login
RULE = "low-calcium-with-movement"
RUN, AUDITED = "sample", "2026-11-22"
COMPARED = "/compare?before=release:0.0.9&after=running"  # with the release of release_before
WITH_CARDS = "two-families"  # a sample
FITTING: Mapping[str, Mapping[str, str]] = {
    "/rules/<rule_id>/codes/<name>": {"name": "tremor"},
    "/sandbox/infants/<path:name>": {"name": WITH_CARDS},
    "/compare/infants/<name>": {"name": f"s{SEED}-000000"},
    "/audits/<run>/infants/<name>": {"name": "INFANT"},  # to be given
    "/decisions/<int:number>/no-card/<family>": {"family": "imaging"},
}


def pages() -> list[str]:
    """The routes that are pages of a sandbox."""
    return [route for route in ROUTES if route not in ELSEWHERE]


def name_of(route: str) -> str:
    """The route as a name of a test or file."""
    return re.sub(r"\W+", "-", route).strip("-") or "home"


def filled(route: str, **values: object) -> str:
    """The route's path, with these values before those that fit, before those of the matrix."""
    known = {**ROUTES[route].get("values", {}), "run": RUN, **FITTING.get(route, {}), **values}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known[found[1]]), route)


def release_before(folder: Path) -> Path:
    """A folder of releases: in the one that is there, a rule asked for less before it spoke."""
    cards = shutil.copytree(CARDS, folder / "releases" / "0.0.9", ignore=shutil.ignore_patterns("__pycache__"))
    spoil(cards, f"rules/leg-tremors/{RULE}.yaml", "low_calcium and movement_or_neurological_sign", "low_calcium")
    return cards.parent


def audited(folder: Path) -> Path:
    """A folder of audits with one, of made-up infants."""
    export, runs = folder / "export", folder / "runs"
    write_population(infants(load_content(CARDS, library().reading), 60, 11, date.fromisoformat(AUDITED)), export)
    (export / "truth.ndjson").unlink()
    words = ["audit", str(export), "--out", str(runs / RUN), "--as-of", AUDITED, "--workers", "1", "--exported", "all"]
    done = CliRunner().invoke(main, [*words, "--exact"])
    assert done.exit_code == 0, (done.output, done.exception)
    return runs
