"""All registered clients, wherever they were registered: the file of the settings and the database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cds_service.errors import ClientsUnavailable, SettingsError
from cds_service.settings import Profile, Settings
from cds_service.store.clients import ClientStore
from cds_service.store.database import Database, kind_of
from cds_service.trust.clients import Client, ClientFile, ClientRegistry, ClientSource, client_of


class DatabaseClients:
    """The clients registered in the database."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store

    def clients(self) -> Sequence[Client]:
        """All enabled clients.

        Raises ClientsUnavailable when the database cannot be read, SettingsError when a record is not as the schema
        says.
        """
        try:
            definitions = self._store.definitions()
        except Exception as problem:  # no such table yet, locked, gone: whatever the driver says, its kind is told
            raise ClientsUnavailable(f"the database's clients cannot be read ({kind_of(problem)})") from None
        return [_client_of(text, f"the database's client {name}") for name, text in definitions.items()]


def _client_of(text: str, place: str) -> Client:
    try:
        return client_of(msgspec.json.decode(text), place)
    except msgspec.DecodeError:
        raise SettingsError(f"{place}: it is not JSON") from None


def registry_of(settings: Settings, database: Database) -> ClientRegistry:
    """All registered clients, of file and database; of a database that cannot be read none, and ``problems`` says so.

    Raises SettingsError when the file or a record is wrong.
    """
    sources: list[ClientSource] = [DatabaseClients(ClientStore(database))]
    if settings.clients_file is not None:
        sources.append(ClientFile(settings.clients_file, guarded=settings.profile is Profile.PRODUCTION))
    return ClientRegistry(sources)
