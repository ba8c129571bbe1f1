"""All registered clients, wherever they were registered: the file of the settings and the database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cds_service.settings import Profile, Settings
from cds_service.store.clients import ClientStore
from cds_service.store.database import Database
from cds_service.trust.clients import Client, ClientFile, ClientRegistry, ClientSource, client_of


class DatabaseClients:
    """The clients registered in the database. While it does not answer, those it named last."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store
        self._last: Sequence[Client] = ()

    def clients(self) -> Sequence[Client]:
        """All enabled clients. Raises SettingsError when a record is not as the schema says."""
        try:
            definitions = self._store.definitions()
        except Exception:  # no such table yet, locked, gone: see store/database.py
            return self._last
        self._last = [
            client_of(msgspec.json.decode(text), f"the database's client {name}") for name, text in definitions.items()
        ]
        return self._last


def registry_of(settings: Settings, database: Database) -> ClientRegistry:
    """All registered clients, of file and database. Raises SettingsError when they cannot be read."""
    sources: list[ClientSource] = [DatabaseClients(ClientStore(database))]
    if settings.clients_file is not None:
        sources.append(ClientFile(settings.clients_file, guarded=settings.profile is Profile.PRODUCTION))
    return ClientRegistry(sources)
