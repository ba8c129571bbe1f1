"""Registered clients in the database: an id, and its definition as JSON in the form of the registry's file."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from cds_service.store.database import Database
from cds_service.store.schema import clients


class ClientStore:
    """The definitions of clients. Raises SQLAlchemyError when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def definitions(self) -> Mapping[str, str]:
        """The definition of every client that may call, by id."""
        query = select(clients.c.id, clients.c.definition).where(clients.c.enabled).order_by(clients.c.id)
        with self._database.reading() as connection:
            return {row.id: row.definition for row in connection.execute(query)}

    def put(self, client_id: str, definition: str, changed_at: str, *, enabled: bool = True) -> None:
        """Add the client, or replace what was said of it."""
        with self._database.writing() as connection:
            connection.execute(delete(clients).where(clients.c.id == client_id))
            connection.execute(
                insert(clients).values(id=client_id, definition=definition, enabled=enabled, changed_at=changed_at)
            )
