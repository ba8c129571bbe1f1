"""Who may see which page. Every view of the desk says so itself; what says nothing is refused (access.py)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from flask import g


class Role(IntEnum):
    """What a person may do; each role may do what those below it may."""

    PUBLIC = 0  # knowledge only: nothing of any patient, no figure of use
    VIEWER = 1  # figures, small ones suppressed
    ANALYST = 2  # single decisions, patients as pseudonyms
    REVIEWER = 3  # signs rules, stops a rule
    ADMIN = 4  # lets a stopped rule speak again, reads the access log


class User(NamedTuple):
    """The person at the browser. ``name``: as the identity provider calls them; empty for nobody."""

    name: str
    role: Role


NOBODY = User("", Role.PUBLIC)


def requires(role: Role) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say of a view who may see it: put below the route's decorator."""

    def declare(view: Callable[..., Any]) -> Callable[..., Any]:
        view.role = role  # type: ignore[attr-defined]
        return view

    return declare


def user() -> User:
    """Who asks; NOBODY until access.py has found out."""
    found: User = g.get("user", NOBODY)
    return found


def may(role: Role | str) -> bool:
    """Whether the person may do what this role may. Templates give its name: ``may("VIEWER")``."""
    return user().role >= (Role[role] if isinstance(role, str) else role)
