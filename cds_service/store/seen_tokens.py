"""Each token's id once, across workers and restarts: the database's unique key decides a race."""

from __future__ import annotations

import threading
from contextlib import suppress

from sqlalchemy import Engine, PoolProxiedConnection, delete, select
from sqlalchemy.exc import SQLAlchemyError

from cds_service.errors import StoreUnavailable
from cds_service.store.database import Database
from cds_service.store.schema import seen_tokens

LOCKED_MILLISECONDS = 250  # a call cannot wait as long for a locked file as other writers do
INSERT = "INSERT INTO seen_tokens (client_id, jti, expires) VALUES (%s, %s, %s)"
INSERT_SQLITE = INSERT.replace("%s", "?")


class SeenTokens:
    """The tokens that were used and have not expired."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mine = threading.local()

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """Whether this is the token's first use. ``expires``: seconds since 1970 until which it is remembered.

        One statement in one transaction, written by the driver itself: every call waits for it, and the layers
        above cost five times its work. Raises StoreUnavailable when it cannot be known: a token that cannot be
        noted is not let through.
        """
        try:
            engine = self._database.engine
        except (SQLAlchemyError, OSError):
            raise _unavailable() from None
        driver = engine.dialect.loaded_dbapi
        try:
            raw = self._connection(engine)
        except (driver.Error, SQLAlchemyError, OSError):  # a raw connection fails as the driver says it
            raise _unavailable() from None
        try:
            insert = INSERT_SQLITE if engine.dialect.name == "sqlite" else INSERT
            raw.cursor().execute(insert, (client_id, jti, expires))
            raw.commit()
        except driver.IntegrityError:
            return False
        except (driver.Error, OSError):
            self._mine.held = None
            raise _unavailable() from None
        finally:
            if not raw.is_detached:
                with suppress(Exception):  # a connection that broke is thrown away by the pool
                    raw.close()
        return True

    def _connection(self, engine: Engine) -> PoolProxiedConnection:
        """Of the pool; for SQLite one of this thread's own, which waits less long for a locked file."""
        if engine.dialect.name != "sqlite":
            return engine.raw_connection()
        held: tuple[Engine, PoolProxiedConnection] | None = getattr(self._mine, "held", None)
        if held is None or held[0] is not engine:
            raw = engine.raw_connection()
            raw.detach()
            raw.cursor().execute(f"PRAGMA busy_timeout={LOCKED_MILLISECONDS}")
            held = self._mine.held = (engine, raw)
        return held[1]

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


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")
