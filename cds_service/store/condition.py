"""Can the database be written, and which schema has it: tried by a statement that changes nothing."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import update

from cds_service.store.database import Database
from cds_service.store.schema import chains
from cds_service.store.schema_version import SchemaState, state_of


class StoreCondition(NamedTuple):
    """``schema``: the revision found, empty when none was. ``problem``: empty when the database can be written."""

    schema: str
    problem: str

    @property
    def writable(self) -> bool:
        """Whether decisions and feedback can be kept now."""
        return not self.problem


def condition_of(database: Database) -> StoreCondition:
    """How the database is now. Waits for it as long as any writer does (WAIT_SECONDS); raises nothing."""
    found = ""
    try:
        with database.writing() as connection:
            state, found = state_of(connection)
            if state is not SchemaState.CURRENT:
                return StoreCondition(found, f"its schema is {state.value}: cds-service db upgrade")
            connection.execute(update(chains).where(chains.c.writer == "").values(last_seq=0))
    except Exception:  # whatever the driver says; its text may name server and user
        return StoreCondition(found, "it cannot be written")
    return StoreCondition(found, "")
