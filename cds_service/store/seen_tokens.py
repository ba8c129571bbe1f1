"""Each token's id once, across workers and restarts: the database's unique key decides a race."""

from __future__ import annotations

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from cds_service.errors import StoreUnavailable
from cds_service.store.database import Database
from cds_service.store.schema import seen_tokens


class SeenTokens:
    """The tokens that were used and have not expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def use(self, client_id: str, jti: str, expires: int) -> bool:
        """Whether this is the token's first use. ``expires``: seconds since 1970 until which it is remembered.

        Raises StoreUnavailable when that cannot be known: a token that cannot be noted is not let through.
        """
        try:
            with self._database.writing() as connection:
                connection.execute(insert(seen_tokens).values(client_id=client_id, jti=jti, expires=expires))
        except IntegrityError:
            return False
        except (SQLAlchemyError, OSError):
            raise _unavailable() from None
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


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.")
