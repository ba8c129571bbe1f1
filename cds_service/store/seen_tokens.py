"""Each token's id once, across workers and restarts: the database's unique key decides a race."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import PoolProxiedConnection, delete, select
from sqlalchemy.exc import SQLAlchemyError

from cds_service.errors import StoreUnavailable
from cds_service.store.database import WAIT_SECONDS, Database
from cds_service.store.schema import seen_tokens

LOCKED_MILLISECONDS = 250  # a call cannot wait as long for a locked file as other writers do
INSERT = "INSERT INTO seen_tokens (client_id, jti, expires) VALUES (%s, %s, %s)"
INSERT_SQLITE = INSERT.replace("%s", "?")


class SeenTokens:
    """The tokens that were used and have not expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """Whether this is the token's first use. ``expires``: seconds since 1970 until which it is remembered.

        One statement in one transaction, written by the driver itself: every call waits for it, and the layers
        above cost five times its work. Raises StoreUnavailable when it cannot be known: a token that cannot be
        noted is not let through.
        """
        try:
            engine = self._database.engine
            raw = engine.raw_connection()
        except (SQLAlchemyError, OSError):
            raise _unavailable() from None
        driver = engine.dialect.loaded_dbapi
        is_sqlite = engine.dialect.name == "sqlite"
        try:
            cursor = raw.cursor()
            if is_sqlite:
                cursor.execute(f"PRAGMA busy_timeout={LOCKED_MILLISECONDS}")
            cursor.execute(INSERT_SQLITE if is_sqlite else INSERT, (client_id, jti, expires))
            raw.commit()
        except driver.IntegrityError:
            return False
        except (driver.Error, OSError):
            raise _unavailable() from None
        finally:
            _give_back(raw, is_sqlite)
        return True

    def known(self, client_id: str, jti: str) -> bool:
        """Whether the token was used; asking does not use it. Raises StoreUnavailable."""
        mine = seen_tokens.c.client_id == client_id, seen_tokens.c.jti == jti
        try:
            with self._database.reading() as connection:
                return connection.execute(select(seen_tokens.c.jti).where(*mine)).first() is not None
        except (SQLAlchemyError, OSError):
            raise _unavailable() from None

    def forget_expired(self, now: int) -> int:
        """Remove the tokens that expired before ``now`` (seconds since 1970); how many they were."""
        with self._database.writing() as connection:
            return connection.execute(delete(seen_tokens).where(seen_tokens.c.expires < now)).rowcount


def _give_back(raw: PoolProxiedConnection, is_sqlite: bool) -> None:
    """Back to the pool, which rolls back what was not committed, as it was found."""
    with suppress(Exception):  # a connection that broke is thrown away by the pool
        if is_sqlite:
            raw.cursor().execute(f"PRAGMA busy_timeout={WAIT_SECONDS * 1000}")
        raw.close()


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")
