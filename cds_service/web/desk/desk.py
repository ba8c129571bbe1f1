"""The audit desk: pages for people who govern the rules. Each area has a module with one blueprint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from flask import Flask

from cds_service.hooks.discovery import SERVICE_ID
from cds_service.log_keys import LogKeys
from cds_service.record.times import iso, moment
from cds_service.rules.library import RuleLibrary
from cds_service.settings import Settings
from cds_service.store.database import Database
from cds_service.web.desk.roles import may, user
from cds_service.web.in_force import RulesInForce
from cds_service.web.watch import Watch


class Desk(NamedTuple):
    """What the pages look into. ``now`` is the clock."""

    rules: RulesInForce
    settings: Settings
    database: Database
    watch: Watch
    now: Callable[[], datetime]
    keys: LogKeys
    warnings: Callable[[], list[str]] = list  # what does not stop the service and its operator should know

    @property
    def library(self) -> RuleLibrary:
        """The rules as they speak now."""
        return self.rules.library


def dress_pages(app: Flask, desk: Desk) -> None:
    """Give the templates what stands on every page."""

    @app.context_processor
    def on_every_page() -> dict[str, object]:
        return {
            "rule_set": desk.library.reading.pack_version,
            "rule_set_hash": desk.library.hash,
            "unsigned": len(desk.library.rules) - len(desk.library.signatures),
            "as_of": iso(moment(desk.now())),
            "service": SERVICE_ID,
            "base": desk.settings.base_url,
            "user": user(),
            "may": may,
            "has": app.view_functions.__contains__,
        }
