"""Which schema a database has, and how it gets the one that this software needs."""

from __future__ import annotations

from enum import Enum
from importlib.resources import files

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from cds_service.errors import SettingsError
from cds_service.store.database import Database
from cds_service.store.schema import REVISIONS

LOCK = 7_261_946  # any number that only this software uses: one migration at a time


class SchemaState(Enum):
    """How a database's schema stands to the software's."""

    CURRENT = "current"
    NONE = "none"
    OLDER = "older"
    NEWER = "newer"


def state_of(connection: Connection) -> tuple[SchemaState, str]:
    """The state, and the revision found (empty when there is none)."""
    if not inspect(connection).has_table("alembic_version"):
        return SchemaState.NONE, ""
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is None:
        return SchemaState.NONE, ""
    if found == REVISIONS[-1]:
        return SchemaState.CURRENT, str(found)
    return (SchemaState.OLDER if found in REVISIONS else SchemaState.NEWER), str(found)


def require_schema(database: Database, *, may_upgrade: bool) -> bool:
    """Whether the database is there with our schema; an older one is upgraded where that is allowed.

    False when it cannot be reached now: cards do not depend on it. Raises SettingsError, with the cure, for a
    schema that is missing, older or newer. No connection stays open, so that workers may be forked after it.
    """
    try:
        with database.reading() as connection:
            state, found = state_of(connection)
        if state in (SchemaState.NONE, SchemaState.OLDER) and may_upgrade:
            upgrade(database)
            state = SchemaState.CURRENT
    except (SQLAlchemyError, OSError, ImportError):
        return False
    finally:
        database.close()
    match state:
        case SchemaState.NONE:
            raise SettingsError("CDS_DATABASE_URL: the database has no tables of this service yet. "
                                "Run: cds-service db upgrade")  # fmt: skip
        case SchemaState.OLDER:
            raise SettingsError(f"CDS_DATABASE_URL: the schema is {found}, this release needs {REVISIONS[-1]}. "
                                "Run: cds-service db upgrade")  # fmt: skip
        case SchemaState.NEWER:
            raise SettingsError(f"CDS_DATABASE_URL: the schema ({found}) is of a newer release; this one knows "
                                f"{REVISIONS[-1]}. Start the newer release, or restore a backup.")  # fmt: skip
    return True


def upgrade(database: Database) -> str:
    """Bring the schema to ours, in one transaction; of several that try, one does it. The revision then found."""
    from alembic import command  # a fifth of a second to load, and needed by nobody else
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("cds_service.store") / "migrations"))
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            # An index on a large log takes longer than any statement of the service may.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        state, found = state_of(connection)
        if state is SchemaState.NEWER:
            raise SettingsError(f"CDS_DATABASE_URL: the schema ({found}) is of a newer release; nothing was changed.")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return REVISIONS[-1]
