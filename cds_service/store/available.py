"""The database for those who cannot go on without it: what a driver says becomes StoreUnavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from cds_service.errors import StoreUnavailable
from cds_service.store.database import Database


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """``Database.reading``. Raises StoreUnavailable."""
    try:
        with database.reading() as connection:
            yield connection
    except (SQLAlchemyError, OSError):
        raise StoreUnavailable("store.unavailable", "The service cannot read its log now. Try again.") from None


@contextmanager
def writing(database: Database) -> Iterator[Connection]:
    """``Database.writing``. Raises StoreUnavailable; then nothing was written."""
    try:
        with database.writing() as connection:
            yield connection
    except (SQLAlchemyError, OSError):
        raise StoreUnavailable("store.unavailable", "The service cannot record this now. Try again.") from None
