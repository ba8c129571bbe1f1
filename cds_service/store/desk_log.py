"""Who looked at what on the audit desk."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import String, insert, select

from cds_service.store import available
from cds_service.store.database import Database
from cds_service.store.period import within
from cds_service.store.schema import desk_log

LONGEST = {column.name: column.type.length for column in desk_log.columns if isinstance(column.type, String)}


class Entry(NamedTuple):
    """One answered request. ``subject``: a pseudonym, a rule's id or a request id, never a patient's id."""

    id: int
    at: str
    who: str
    role: str
    method: str
    route: str
    subject: str
    status: int


def note(
    database: Database, *, at: str, who: str, role: str, method: str, route: str, subject: str, status: int
) -> None:
    """Write the entry; it is on the disk on return. Longer texts are cut. Raises StoreUnavailable."""
    row = {"at": at, "who": who, "role": role, "method": method, "route": route, "subject": subject}
    cut = {name: text.replace("\0", "")[: LONGEST[name]] for name, text in row.items()}
    with available.writing(database) as connection:
        connection.execute(insert(desk_log).values(cut | {"status": status}))


def entries(database: Database, since: str = "", until: str = "", subject: str = "", limit: int = 100) -> list[Entry]:
    """The newest entries that pass; ``until`` is the first moment that does not count. Raises StoreUnavailable."""
    query = select(desk_log).where(*within(desk_log.c.at, since, until)).order_by(desk_log.c.id.desc()).limit(limit)
    if subject:
        query = query.where(desk_log.c.subject == subject)
    with available.reading(database) as connection:
        return [Entry(*row) for row in connection.execute(query)]
