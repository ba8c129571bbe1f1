"""Every page of the desk by its route, with values to look at it, for tests and benches that visit them all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROWS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "desk_routes.yaml").read_text(encoding="utf-8"))
ROUTES = {row.split(" ")[1]: about for row, about in ROWS.items() if row.startswith("GET ")}
ELSEWHERE = {"/login", "/login/callback", "/decisions/request/<request_id>"}  # they lead elsewhere
OF_LOGIN = {"/logged-out"}  # not in a sandbox without login
RULE = "low-calcium-with-movement"
WITH_CARDS = "two-families"  # a sample
FITTING: Mapping[str, Mapping[str, str]] = {
    "/rules/<rule_id>/codes/<name>": {"name": "tremor"},
    "/sandbox/infants/<path:name>": {"name": WITH_CARDS},
    "/compare/infants/<name>": {"name": "s1-000000"},
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
    known = {**ROUTES[route].get("values", {}), **FITTING.get(route, {}), **values}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known[found[1]]), route)
